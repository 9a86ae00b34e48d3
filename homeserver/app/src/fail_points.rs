//! Fail points of development builds: points on the write path at which a test aborts the process as with `kill -9`, or
//! blocks it. Release builds have none.
//!
//! `WEFT_FAIL_AT=room::sealed:3` aborts the process at the third pass of that point.
//! `WEFT_HOLD_AT=store::before_write:FILE` blocks there while FILE exists, and creates FILE.held when it begins to. Must
//! not be used for anything else: a fail point that is not armed must not change what the server does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Variable with the point at which to abort.
const VARIABLE: &str = "WEFT_FAIL_AT";
/// Variable with the point at which to block.
const HOLD: &str = "WEFT_HOLD_AT";
/// Interval at which a blocked point checks for the file.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// All fail points. Each is before or after one step of a commit, a seal, a snapshot, staging, a join or a delivery.
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

/// The reason why a fail point can't be armed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FailPointError {
    /// Not `NAME:COUNT`.
    #[error("{VARIABLE}={0}: expected NAME:COUNT; the names are {names}", names = NAMES.join(" "))]
    Malformed(String),
    /// Not `NAME:FILE`.
    #[error("{HOLD}={0}: expected NAME:FILE; the names are {names}", names = NAMES.join(" "))]
    MalformedHold(String),
    /// The library refused it.
    #[error("{VARIABLE}: {0}")]
    Refused(String),
}

/// Arms the fail points that the environment names, if any.
pub(crate) fn arm() -> Result<(), FailPointError> {
    if let Ok(setting) = std::env::var(VARIABLE) {
        arm_abort(&setting)?;
    }
    if let Ok(setting) = std::env::var(HOLD) {
        arm_hold(&setting)?;
    }
    Ok(())
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|known| **known == name).copied()
}

fn arm_abort(setting: &str) -> Result<(), FailPointError> {
    let malformed = || FailPointError::Malformed(setting.to_owned());
    let (name, count) = setting.rsplit_once(':').ok_or_else(malformed)?;
    let count: u64 = count.parse().map_err(|_| malformed())?;
    let name = known(name).ok_or_else(malformed)?;
    let passes = Arc::new(AtomicU64::new(0));
    fail::cfg_callback(name, move || {
        if passes.fetch_add(1, Ordering::Relaxed) + 1 == count {
            // As with `kill -9`: nothing is flushed, no connection is closed in order.
            std::process::abort();
        }
    })
    .map_err(FailPointError::Refused)
}

fn arm_hold(setting: &str) -> Result<(), FailPointError> {
    let malformed = || FailPointError::MalformedHold(setting.to_owned());
    let (name, file) = setting.rsplit_once(':').ok_or_else(malformed)?;
    let name = known(name).ok_or_else(malformed)?;
    let (file, held) = (PathBuf::from(file), PathBuf::from(format!("{file}.held")));
    fail::cfg_callback(name, move || {
        if file.exists() {
            // If the file can't be written, the test fails by its timeout.
            let _ = std::fs::write(&held, "");
            // Other tasks continue to run.
            tokio::task::block_in_place(|| {
                while file.exists() {
                    std::thread::sleep(POLL_INTERVAL);
                }
            });
        }
    })
    .map_err(FailPointError::Refused)
}
