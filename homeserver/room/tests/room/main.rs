//! The rooms as their callers see them, over the memory engine: create, send, edit, seal, crash, recover.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests a panic is how a failure is told"
)]

mod concurrency;
mod crash;
mod create;
mod editing;
mod editor;
mod harness;
mod reading;
mod sending;
