//! Tests of the document API with real rooms and a disk in memory: the answer to each request, for each role.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(unreachable_pub, reason = "the modules of a test are all of its crate")]

#[path = "documents/copies.rs"]
mod copies;
#[path = "documents/discussions.rs"]
mod discussions;
#[path = "documents/edits.rs"]
mod edits;
#[path = "documents/links.rs"]
mod links;
#[path = "documents/listing.rs"]
mod listing;
#[path = "documents/locks.rs"]
mod locks;
#[path = "documents/members.rs"]
mod members;
#[path = "documents/problems.rs"]
mod problems;
#[path = "documents/programs.rs"]
mod programs;
#[path = "documents/text_renderer.rs"]
mod text_renderer;
#[path = "documents/vectors.rs"]
mod vectors;
#[path = "documents/webhooks.rs"]
mod webhooks;
#[path = "documents/world.rs"]
mod world;
