//! Awareness, typing, receipts and presence between sockets, servers and `/sync`, with fakes of their dependencies.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(unreachable_pub, reason = "the modules of a test are its whole crate")]

#[path = "world/awareness.rs"]
mod awareness;
#[path = "world/ephemeral.rs"]
mod ephemeral;
#[path = "world/fakes.rs"]
mod fakes;
#[path = "world/presence.rs"]
mod presence;
#[path = "world/steps.rs"]
mod steps;
#[path = "world/vectors.rs"]
mod vectors;
