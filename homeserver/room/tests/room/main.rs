//! The rooms through their public interface, with the memory engine: create, send, edit, seal, crash, recover.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in tests a panic reports a failure"
)]

mod checkpoints;
mod concurrency;
mod crash;
mod create;
mod editing;
mod editor;
mod eviction;
mod harness;
mod reading;
mod routing;
mod sending;
mod versions;
mod volume;
