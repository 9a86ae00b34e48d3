//! Opening: errors that say what to do, and a report of what recovery found.
//!
//! The logs are checked before RocksDB opens them, because opening changes them. Must not open a store that lacks an
//! acknowledged commit, unless the admin has accepted the loss.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME};

use crate::acknowledged::{Acknowledged, Found};
use crate::logs::{self, Logs};
use crate::options::RocksOptions;

/// The column family of the engine's own data; the store's rows are in the default one.
pub(crate) const OWN_FAMILY: &str = "weft-engine";
/// Its key for the number of the last commit.
pub(crate) const COMMIT_KEY: &[u8] = b"commit";
/// A file of this name, next to the database, accepts a loss, once.
const ACCEPT_LOSS: &str = "ACCEPT-LOSS";
/// Lines of RocksDB's log in a report; further damage makes no difference.
const MAX_COMPLAINTS: usize = 20;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RocksOpenError {
    /// Another process (or another engine of this one) has the store open.
    #[error("the store in {} is in use by another process: stop that process first", path.display())]
    Locked {
        /// The path of the store.
        path: PathBuf,
    },
    /// The disk has no space left.
    #[error("the disk of {} is full: {reason}", path.display())]
    DiskFull {
        /// The path of the store.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// Acknowledged commits are lost: the disk was damaged, or does not keep what it has acknowledged.
    #[error(
        "the store in {} has lost commits that were acknowledged ({reason}): restore a backup, or create a file {} to \
         continue without them (it works once, and unreadable data is kept in given-up/ there)",
        path.display(), path.join(ACCEPT_LOSS).display()
    )]
    Lost {
        /// The path of the store.
        path: PathBuf,
        /// The evidence.
        reason: String,
    },
    /// Files are missing or their checksums are wrong, beyond what recovery may drop.
    #[error("the store in {} is damaged ({reason}): restore a backup", path.display())]
    Damaged {
        /// The path of the store.
        path: PathBuf,
        /// RocksDB's message.
        reason: String,
    },
    /// The files can't be created, read or written.
    #[error("the store in {} can't be opened: {reason}", path.display())]
    Io {
        /// The path of the store.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
}

/// The result of recovery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was closed cleanly the last time (or is new).
    pub clean: bool,
    /// The last commit (group of batches) that is there; commits are counted from 1.
    pub recovered: u64,
    /// The last commit that is known to have been acknowledged.
    pub acknowledged: u64,
    /// What was lost, in words, if the admin accepted the loss with a file.
    pub accepted: Option<String>,
    /// The file that accepts a loss was there, whether anything is known to be lost or not: positions begin a new era. An
    /// admin who restores a backup creates it too.
    pub new_era: bool,
    /// What RocksDB reported as dropped from its log: usual after a crash for the commit that was being written.
    pub complaints: Vec<String>,
}

impl OpenReport {
    /// The number of acknowledged commits that are known to be lost: 0 unless the loss was accepted, because otherwise
    /// the store is not opened.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.recovered)
    }

    fn log(&self, path: &Path) {
        let path = path.display();
        if let Some(reason) = &self.accepted {
            tracing::error!(
                event = "store.loss_accepted",
                %path,
                %reason,
                lost = self.lost(),
                recovered = self.recovered,
                acknowledged = self.acknowledged,
                complaints = ?self.complaints,
                "the store continues without acknowledged commits, as the admin accepted"
            );
        } else if self.clean {
            tracing::info!(%path, commits = self.recovered, "store opened");
        } else {
            tracing::warn!(
                event = "store.opened_after_crash", %path, commits = self.recovered, complaints = ?self.complaints,
                "store opened after a crash: every commit known to be acknowledged is there"
            );
        }
    }
}

/// The opened database and its state.
pub(crate) struct Opened {
    pub(crate) db: DB,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) report: OpenReport,
}

pub(crate) fn open(path: &Path, options: &RocksOptions) -> Result<Opened, RocksOpenError> {
    let io = |error: std::io::Error| io_error(path, &error);
    fs::create_dir_all(path).map_err(io)?;
    let database = path.join("rocksdb");
    let (mut acknowledged, found) = Acknowledged::open(path).map_err(io)?;
    // RocksDB has a lock of its own; this one is taken before the logs are read.
    acknowledged.lock().map_err(|error| match error {
        TryLockError::WouldBlock => RocksOpenError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => io(error),
    })?;
    let accepted = accepts_loss(path).map_err(io)?;
    let mut loss = check_files(path, &database, found, accepted)?;
    let db = open_database(path, &database, options, loss.is_some())?;
    let recovered = last_commit(&db).map_err(|reason| explain(path, reason))?;
    if recovered < found.commit && loss.is_none() {
        let reason = logs::ends_early(recovered, found.commit);
        if !accepted {
            return Err(lost(path, reason));
        }
        loss = Some(reason);
    }
    let report = OpenReport {
        clean: found.closed || (recovered == 0 && found.commit == 0),
        recovered,
        acknowledged: found.commit,
        accepted: loss,
        new_era: accepted,
        complaints: complaints(&database),
    };
    report.log(path);
    if found.damaged {
        tracing::warn!(
            event = "store.record_damaged", path = %path.display(),
            "the record of the last acknowledged commit is damaged: a loss would not be detected"
        );
    }
    // From here on, the recovered commit is the last acknowledged one.
    acknowledged.write(recovered).map_err(io)?;
    if accepted {
        remove_acceptance(path).map_err(io)?;
    }
    Ok(Opened {
        db,
        acknowledged,
        report,
    })
}

/// Reopens the database of a running engine by the rules of a start: no acknowledged commit may be missing. Returns the
/// number of the last commit that is there.
///
/// # Errors
/// It can't be opened, or has less than commit `last`.
pub(crate) fn reopen(path: &Path, options: &RocksOptions, last: u64) -> Result<(DB, u64), RocksOpenError> {
    let database = path.join("rocksdb");
    let found = Found {
        commit: last,
        ..Found::default()
    };
    check_files(path, &database, found, false)?;
    let db = open_database(path, &database, options, false)?;
    let recovered = last_commit(&db).map_err(|reason| explain(path, reason))?;
    if recovered < last {
        return Err(lost(path, logs::ends_early(recovered, last)));
    }
    Ok((db, recovered))
}

/// Checks the files that RocksDB will read and repairs the logs so that it can; returns what is lost by that.
fn check_files(path: &Path, database: &Path, found: Found, accepted: bool) -> Result<Option<String>, RocksOpenError> {
    let io = |error: std::io::Error| io_error(path, &error);
    if let Some(reason) = logs::damaged_manifest(database).map_err(io)? {
        return Err(explain(path, reason));
    }
    let logs = Logs::read(database).map_err(io)?;
    match logs.loss(found.commit) {
        Some(reason) if !accepted => Err(lost(path, reason)),
        Some(reason) => {
            logs.drop_unreadable(path).map_err(io)?;
            Ok(Some(reason))
        }
        None => {
            logs.cut().map_err(io)?;
            Ok(None)
        }
    }
}

fn open_database(
    path: &Path,
    database: &Path,
    options: &RocksOptions,
    logs_given_up: bool,
) -> Result<DB, RocksOpenError> {
    let cache = options.cache();
    let families = [DEFAULT_COLUMN_FAMILY_NAME, OWN_FAMILY]
        .map(|name| ColumnFamilyDescriptor::new(name, options.column_family(&cache)));
    let mut whole = options.database();
    if logs_given_up {
        // A log is shorter than RocksDB recorded.
        whole.set_track_and_verify_wals_in_manifest(false);
    }
    DB::open_cf_descriptors(&whole, database, families).map_err(|error| explain(path, error.into_string()))
}

fn lost(path: &Path, reason: String) -> RocksOpenError {
    RocksOpenError::Lost {
        path: path.to_owned(),
        reason,
    }
}

fn accepts_loss(path: &Path) -> std::io::Result<bool> {
    fs::exists(path.join(ACCEPT_LOSS))
}

/// Removes the file: it accepts the current loss and not later ones.
fn remove_acceptance(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path.join(ACCEPT_LOSS)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::open(path)?.sync_all()
}

fn last_commit(db: &DB) -> Result<u64, String> {
    let family = db
        .cf_handle(OWN_FAMILY)
        .ok_or("Corruption: the engine's own column family is missing")?;
    let Some(bytes) = db.get_cf(family, COMMIT_KEY).map_err(rocksdb::Error::into_string)? else {
        return Ok(0);
    };
    let number = bytes
        .as_slice()
        .try_into()
        .map_err(|_| "Corruption: the number of the last commit is damaged")?;
    Ok(u64::from_be_bytes(number))
}

/// RocksDB reports what recovery dropped only in its log; the log of this opening is a new file.
fn complaints(database: &Path) -> Vec<String> {
    let Ok(log) = File::open(database.join("LOG")) else {
        return Vec::new();
    };
    let lines = BufReader::new(log).lines().map_while(Result::ok);
    let dropped = lines.filter(|line| line.contains(": dropping ") || line.contains("Point in time recovered"));
    dropped.take(MAX_COMPLAINTS).collect()
}

pub(crate) fn is_full(reason: &str) -> bool {
    reason.contains("No space left") || reason.contains("Disk quota exceeded")
}

/// Whether the process or the machine had no file descriptor left. Only calls that open a file fail like this, never a
/// write or a flush to an open file.
pub(crate) fn is_out_of_descriptors(reason: &str) -> bool {
    reason.contains("Too many open files")
}

fn io_error(path: &Path, error: &std::io::Error) -> RocksOpenError {
    let (path, reason) = (path.to_owned(), error.to_string());
    if is_full(&reason) {
        RocksOpenError::DiskFull { path, reason }
    } else {
        RocksOpenError::Io { path, reason }
    }
}

/// The C interface only returns RocksDB's message; its first word is the kind.
fn explain(path: &Path, reason: String) -> RocksOpenError {
    let path = path.to_owned();
    if reason.contains("LOCK:") || reason.contains("lock hold by current process") {
        RocksOpenError::Locked { path }
    } else if is_full(&reason) {
        RocksOpenError::DiskFull { path, reason }
    } else if reason.starts_with("Corruption") {
        RocksOpenError::Damaged { path, reason }
    } else {
        RocksOpenError::Io { path, reason }
    }
}
