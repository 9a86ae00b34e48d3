//! The rooms through their public interface, with the memory engine: create, send, edit, seal, crash, recover.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "in tests a panic reports a failure, and measurements print"
)]

mod checkpoints;
mod concurrency;
mod crash;
mod create;
mod editing;
mod eviction;
mod harness;
mod indexes;
mod large_edits;
mod locks;
mod measure;
mod pace;
mod reading;
mod requested;
mod routing;
mod sending;
mod spans;
mod texts_at_versions;
mod versions;
mod volume;
