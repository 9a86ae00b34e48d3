//! Opening: errors that say what to do, and a report of what recovery found.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rocksdb::{ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME};

use crate::acknowledged::Acknowledged;
use crate::options::RocksOptions;

/// The column family of what the engine itself keeps; the store's rows are in the default one.
pub(crate) const OWN_FAMILY: &str = "weft-engine";
/// There: the number of the last commit.
pub(crate) const COMMIT_KEY: &[u8] = b"commit";
/// Lines of RocksDB's log that a report takes in; what is damaged beyond that makes no difference to anybody.
const MAX_COMPLAINTS: usize = 20;

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RocksOpenError {
    /// Another process (or another engine of this one) has it.
    #[error("the store in {} is in use by another process: stop that one first", path.display())]
    Locked {
        /// Where the store is.
        path: PathBuf,
    },
    /// There is no room on the disk.
    #[error("the disk of {} is full: {reason}", path.display())]
    DiskFull {
        /// Where the store is.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Files are missing or their checksums are wrong, beyond what recovery may drop.
    #[error("the store in {} is damaged ({reason}): restore a backup", path.display())]
    Damaged {
        /// Where the store is.
        path: PathBuf,
        /// RocksDB's words.
        reason: String,
    },
    /// The files can't be made, read or written.
    #[error("the store in {} can't be opened: {reason}", path.display())]
    Io {
        /// Where the store is.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was closed properly the last time (or is new).
    pub clean: bool,
    /// The last commit (group of batches) that is there; they are counted from 1.
    pub recovered: u64,
    /// The last commit that is known to have been acknowledged.
    pub acknowledged: u64,
    /// What RocksDB said it dropped from its log: usual after a crash for the commit that was being written.
    pub complaints: Vec<String>,
}

impl OpenReport {
    /// How many acknowledged commits are known to be lost. 0 unless the disk lied about an fsync or was damaged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.recovered)
    }

    fn log(&self, path: &Path) {
        let path = path.display();
        if self.lost() > 0 {
            tracing::error!(
                %path, lost = self.lost(), recovered = self.recovered, acknowledged = self.acknowledged,
                complaints = ?self.complaints,
                "the store has lost commits that were acknowledged: the disk was damaged, or doesn't keep what it says it keeps"
            );
        } else if self.clean {
            tracing::info!(%path, commits = self.recovered, "store opened");
        } else {
            tracing::warn!(
                %path, commits = self.recovered, complaints = ?self.complaints,
                "store opened after a crash: every commit that is known to be acknowledged is there"
            );
        }
    }
}

/// What opening gives to the engine.
pub(crate) struct Opened {
    pub(crate) db: DB,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) report: OpenReport,
}

pub(crate) fn open(path: &Path, options: &RocksOptions) -> Result<Opened, RocksOpenError> {
    let io = |error: std::io::Error| io_error(path, &error);
    std::fs::create_dir_all(path).map_err(io)?;
    let database = path.join("rocksdb");
    let cache = options.cache();
    let families = [DEFAULT_COLUMN_FAMILY_NAME, OWN_FAMILY]
        .map(|name| ColumnFamilyDescriptor::new(name, options.column_family(&cache)));
    let db = DB::open_cf_descriptors(&options.database(), &database, families)
        .map_err(|error| explain(path, error.into_string()))?;
    // Only after the database's lock is ours.
    let (mut acknowledged, found) = Acknowledged::open(path).map_err(io)?;
    let recovered = last_commit(&db).map_err(|reason| explain(path, reason))?;
    let report = OpenReport {
        clean: found.closed || (recovered == 0 && found.commit == 0),
        recovered,
        acknowledged: found.commit,
        complaints: complaints(&database),
    };
    report.log(path);
    // From here on the truth is what there is.
    acknowledged.write(recovered).map_err(io)?;
    Ok(Opened {
        db,
        acknowledged,
        report,
    })
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

/// RocksDB tells what recovery dropped in its log alone; that of this opening begins anew.
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

fn io_error(path: &Path, error: &std::io::Error) -> RocksOpenError {
    let (path, reason) = (path.to_owned(), error.to_string());
    if is_full(&reason) {
        RocksOpenError::DiskFull { path, reason }
    } else {
        RocksOpenError::Io { path, reason }
    }
}

/// The C interface has only RocksDB's message; its first word is the kind.
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
