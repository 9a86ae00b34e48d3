//! Real servers beside one that lies on purpose: what it forges, hides and makes up comes to nothing, and rooms go on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and the figures are for people"
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
