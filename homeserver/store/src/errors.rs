//! The errors of the three operations: open, read, commit. Each says what the caller can do about it.

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store was written by a newer program. Opening it could destroy what this one doesn't know.
    #[error("the store has schema version {found}, and this program knows versions up to {supported}: use a newer one")]
    Newer {
        /// Version found in the store.
        found: u64,
        /// Highest version that this program knows.
        supported: u64,
    },
    /// There are rows, but no schema version: this is not a Weft store.
    #[error("the store holds data but no schema version: it was not written by Weft")]
    Foreign,
    /// Reading what opening needs has failed.
    #[error("reading the store while opening it: {0}")]
    Read(#[from] ReadError),
    /// Writing what opening needs has failed.
    #[error("writing to the store while opening it: {0}")]
    Commit(#[from] CommitError),
}

/// Why a read gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The engine could not read (I/O error, checksum mismatch, lost connection).
    #[error("the storage engine could not read: {reason}")]
    Engine {
        /// The engine's own words.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A row is there but isn't what its table says. A bug or damaged data: never retried.
    #[error("a row of table {table} can't be decoded: {reason}")]
    Corrupt {
        /// Name of the table.
        table: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// A table whose keys begin with a room, user or server was asked for rows without naming one.
    #[error("table {table} can only be read within one scope: the query names none")]
    NoScope {
        /// Name of the table.
        table: &'static str,
    },
}

/// Why a commit did not happen. Unless it says [`CommitError::Poisoned`], nothing of the batch is in the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A condition of the batch did not hold: somebody else was first. The caller reads again and decides anew.
    #[error("the row of table {table} that this commit depends on has changed")]
    Fence {
        /// Name of the table whose row differs.
        table: &'static str,
    },
    /// A write or fsync failed, now or earlier. What is on disk is unknown until the store is opened again, so
    /// nothing more is written. Reads still work.
    #[error("the store takes no more writes after a failed one: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// A key or value could not be encoded, or the batch is larger than [`crate::engine::MAX_BATCH_BYTES`].
    #[error("the batch can't be written: {reason}")]
    Invalid {
        /// What was wrong.
        reason: String,
    },
    /// The store was closed, or the engine has gone away.
    #[error("the store is closed")]
    Closed,
}
