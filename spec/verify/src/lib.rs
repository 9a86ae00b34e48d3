//! Verifies an audit file: the signed log of a document, exported by a server that is not trusted (`spec/docs/audit.md`).
//!
//! Checks form, ids, hashes, signatures, the graph, the authorisation rules with state resolution, admission and the state
//! hash, with the same pure code as the server. Reads a [`std::io::BufRead`] once. Must not do other I/O, and must not
//! believe anything that the file says about itself.

#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/checks.rs"]
pub mod fuzz_checks;
mod ids;
mod keys;
mod lines;
mod log;
mod redactions;
mod report;
mod signatures;
mod text;
mod verify;
mod versions;
mod witnesses;

pub use keys::{KeysError, pinned_keys};
pub use report::{Doubt, Failed, Report, Rule, Witness, Wrong};
pub use verify::{Options, Progress, verify};
