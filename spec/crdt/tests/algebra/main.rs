//! The results of the algebra are checked with two engines: yrs, and Yjs in Node. One binary, so that it is linked
//! once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a panic fails the test"
)]

mod admission;
mod bombs;
mod engines;
mod equivalence;
#[path = "../../fuzz/src/checks.rs"]
mod fuzz_checks;
mod hostile;
mod live;
mod oracle;
mod peers;
#[path = "../support/trace.rs"]
mod trace;
mod traces;
mod vectors;
