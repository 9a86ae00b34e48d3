//! Fail points of development builds: places on the write path at which a test has the process die as if by `kill -9`, or
//! stand still. Release builds hold none.
//!
//! `WEFT_FAIL_AT=room::sealed:3` ends the process at the third time that it comes by there.
//! `WEFT_HOLD_AT=store::before_write:FILE` holds it there while FILE exists, and makes FILE.held when it does. Must not be
//! used for anything else: what the server does at a fail point is what it does without one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where to die.
const VARIABLE: &str = "WEFT_FAIL_AT";
/// Where to stand still.
const HOLD: &str = "WEFT_HOLD_AT";
/// How often a point that holds looks whether it still is to.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
    /// Not `NAME:FILE`.
    #[error("{HOLD}={0}: expected NAME:FILE; the names are {names}", names = NAMES.join(" "))]
    MalformedHold(String),
    /// The library refuses it.
    #[error("{VARIABLE}: {0}")]
    Refused(String),
}

/// Arms what the environment names, if anything.
pub(crate) fn arm() -> Result<(), FailPointError> {
    if let Ok(setting) = std::env::var(VARIABLE) {
        arm_death(&setting)?;
    }
    if let Ok(setting) = std::env::var(HOLD) {
        arm_hold(&setting)?;
    }
    Ok(())
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|known| **known == name).copied()
}

fn arm_death(setting: &str) -> Result<(), FailPointError> {
    let malformed = || FailPointError::Malformed(setting.to_owned());
    let (name, count) = setting.rsplit_once(':').ok_or_else(malformed)?;
    let count: u64 = count.parse().map_err(|_| malformed())?;
    let name = known(name).ok_or_else(malformed)?;
    let passes = Arc::new(AtomicU64::new(0));
    fail::cfg_callback(name, move || {
        if passes.fetch_add(1, Ordering::Relaxed) + 1 == count {
            // As by `kill -9`: nothing is flushed, nobody is told.
            std::process::abort();
        }
    })
    .map_err(FailPointError::Refused)
}

fn arm_hold(setting: &str) -> Result<(), FailPointError> {
    let malformed = || FailPointError::MalformedHold(setting.to_owned());
    let (name, file) = setting.rsplit_once(':').ok_or_else(malformed)?;
    let name = known(name).ok_or_else(malformed)?;
    let (file, told) = (PathBuf::from(file), PathBuf::from(format!("{file}.held")));
    fail::cfg_callback(name, move || {
        if file.exists() {
            // Without the note the test waits in vain, and fails.
            let _ = std::fs::write(&told, "");
            // Everything else goes on meanwhile.
            tokio::task::block_in_place(|| {
                while file.exists() {
                    std::thread::sleep(LOOK_AGAIN);
                }
            });
        }
    })
    .map_err(FailPointError::Refused)
}
