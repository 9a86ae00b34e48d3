//! Fail points of development builds: places on the write path at which a test has the process die as if by `kill -9`.
//! Release builds hold none.
//!
//! `WEFT_FAIL_AT=room::sealed:3` ends the process at the third time that it comes by there. Must not be used for anything
//! but dying: what the server does at a fail point is what it does without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The setting.
const VARIABLE: &str = "WEFT_FAIL_AT";

/// All places. Each is before or after one step of a commit, a seal, a snapshot, staging, a join or a delivery.
const NAMES: &[&str] = &[
    "room::edit_journaled",
    "room::before_commit",
    "store::before_write",
    "store::after_write",
    "room::before_answer",
    "room::seal_begun",
    "room::sealed",
    "room::snapshot_folded",
    "outbox::before_send",
    "outbox::sent",
    "outbox::before_forget",
    "outbox::forgotten",
    "room::before_staging",
    "room::staged",
    "room::drain_begun",
    "room::drained",
    "room::adopt_begun",
    "room::adopted",
    "room::recovery_begun",
    "room::recovery_sealed",
];

/// Why a fail point can't be armed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FailPointError {
    /// Not `NAME:COUNT`.
    #[error("{VARIABLE}={0}: expected NAME:COUNT; the names are {names}", names = NAMES.join(" "))]
    Malformed(String),
    /// The library refuses it.
    #[error("{VARIABLE}: {0}")]
    Refused(String),
}

/// Arms what the environment names, if anything.
pub(crate) fn arm() -> Result<(), FailPointError> {
    let Ok(setting) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    let malformed = || FailPointError::Malformed(setting.clone());
    let (name, count) = setting.rsplit_once(':').ok_or_else(malformed)?;
    let count: u64 = count.parse().map_err(|_| malformed())?;
    let name = NAMES.iter().find(|known| **known == name).ok_or_else(malformed)?;
    let passes = Arc::new(AtomicU64::new(0));
    fail::cfg_callback(*name, move || {
        if passes.fetch_add(1, Ordering::Relaxed) + 1 == count {
            // As by `kill -9`: nothing is flushed, nobody is told.
            std::process::abort();
        }
    })
    .map_err(FailPointError::Refused)
}
