//! Audit files of test rooms: good ones, altered ones, hostile ones, and the vectors of the specification.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod altered;
mod file;
mod good;
mod hostile;
mod vectors;
