//! The errors of the three operations open, read and commit. Each states what the caller can do. Must not quote the
//! contents of a row.

use crate::lane::Lane;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store was written by a newer program. Opening it could destroy data that this one does not know.
    #[error(
        "the store has schema version {found}, but this program supports versions up to {supported}: use a newer one"
    )]
    Newer {
        /// The version of the store.
        found: u64,
        /// The highest version that this program supports.
        supported: u64,
    },
    /// The store has another number of lanes. The number can't be changed: it decides where every row is.
    #[error("the store has {found} lanes, and {wanted} were requested")]
    OtherLanes {
        /// The number of the store.
        found: u64,
        /// The number that was requested.
        wanted: u16,
    },
    /// The store has rows and no schema version: Weft did not write it.
    #[error("the store has data but no schema version: it was not written by Weft")]
    Foreign,
    /// A read during opening failed.
    #[error("a read failed while opening the store: {0}")]
    Read(#[from] ReadError),
    /// A write during opening failed.
    #[error("a write failed while opening the store: {0}")]
    Commit(#[from] CommitError),
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The engine could not read (I/O error, checksum mismatch, lost connection).
    #[error("the storage engine could not read: {reason}")]
    Engine {
        /// The message of the engine.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The row exists and does not have the format of its table: a bug or damaged data. Never retried.
    #[error("a row of table {table} can't be decoded: {reason}")]
    Corrupt {
        /// Name of the table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A query without a scope on a table whose keys begin with a room, user or server.
    #[error("table {table} can only be read within one scope, and the query has none")]
    NoScope {
        /// Name of the table.
        table: &'static str,
    },
}

/// Why a commit failed. Unless it is [`CommitError::Poisoned`] or [`CommitError::InDoubt`], nothing of the batch is in the
/// store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A fence of the batch failed: another commit changed the row first. The caller reads it again and decides anew.
    #[error("the row of table {table} that this commit depends on has changed")]
    Fence {
        /// Name of the table whose row differs.
        table: &'static str,
    },
    /// A write or fsync failed, now or earlier. The contents of the disk are unknown until the store is opened again,
    /// so nothing more is written. Reads still work.
    #[error("the store accepts no more writes after a failed one: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// Another process owns the lane of the batch now. What this process has in memory about the lane is out of date.
    /// The caller may try again at the lane's owner.
    #[error("lane {lane} has another owner")]
    LaneLost {
        /// The lane.
        lane: Lane,
    },
    /// The answer to the commit was lost, and the lane could not be taken again to learn whether the batch is in the store.
    #[error("it is not known whether the commit is in the store: {reason}")]
    InDoubt {
        /// What happened.
        reason: String,
    },
    /// A key or value could not be encoded, or the batch is larger than [`crate::engine::MAX_BATCH_BYTES`].
    #[error("the batch can't be written: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// The store was closed, or the engine's task has ended.
    #[error("the store is closed")]
    Closed,
}
