//! Tests of the server-server API through its router, with real rooms: access, and which events are signed and accepted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "tests fail by panicking, tables of cases are read as one, and modules of one test crate see each other"
)]

#[path = "server/joining.rs"]
mod joining;
#[path = "server/reading.rs"]
mod reading;
#[path = "server/signing.rs"]
mod signing;
#[path = "server/vectors.rs"]
mod vectors;
#[path = "server/world.rs"]
mod world;
