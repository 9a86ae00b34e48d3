//! Real servers in a federation with a malicious one: forged, withheld and invented events have no effect, and rooms
//! remain usable.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print figures for the reader"
)]

#[path = "lies/floods.rs"]
mod floods;
#[path = "lies/forged.rs"]
mod forged;
#[path = "lies/handshakes.rs"]
mod handshakes;
#[path = "lies/outgoing.rs"]
mod outgoing;
#[path = "lies/stage.rs"]
mod stage;
#[path = "lies/truth.rs"]
mod truth;
