//! Tests of the live socket with a real HTTP server and real rooms, in both framings; the store's disk is in memory, so that
//! a test can delay its fsyncs and check the messages that were sent before them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(unreachable_pub, reason = "the modules of a test are all of its crate")]

#[path = "live/events.rs"]
mod events;
#[path = "live/hocuspocus.rs"]
mod hocuspocus;
#[path = "live/plain.rs"]
mod plain;
#[path = "live/rights.rs"]
mod rights;
#[path = "live/vectors.rs"]
mod vectors;
#[path = "live/world.rs"]
mod world;
