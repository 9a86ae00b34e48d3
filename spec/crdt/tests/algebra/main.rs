//! What the algebra gives is judged by the engines: yrs, and Yjs in Node. One binary, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test that meets the unexpected has to stop there"
)]

mod admission;
mod bombs;
mod engines;
#[path = "../../fuzz/src/checks.rs"]
mod fuzz_checks;
mod hostile;
mod judged;
mod live;
mod oracle;
mod peers;
#[path = "../support/trace.rs"]
mod trace;
mod traces;
mod vectors;
