//! The interface of storage engines: an ordered map of bytes to bytes with atomic, durable, fenced batches, and nothing
//! more, so that an embedded and a distributed database can implement it.
//!
//! Must not know typed tables. Every engine passes [`crate::contract`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::errors::ReadError;

/// Bytes of keys and values in one batch (64 MiB). A commit is held in memory several times, and no legitimate one
/// comes near the limit (the largest, adopting a room of 100,000 members, writes its state in parts).
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

/// A storage engine: an ordered map with atomic batches.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The value of `key`, as of the last commit that returned, or a later one.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The values of `keys`, in their order. Not necessarily from one point in time.
    ///
    /// No default: an engine must read them in one round trip, because callers read many keys at once to save the others.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError>;

    /// Rows of a range in the order of the bytes of their keys (or the reverse), as of one point in time, at most
    /// [`KeyRange::limit`].
    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError>;

    /// Writes the batches in order, each one atomically, and makes them durable (fsync) before it returns. Returns one
    /// result for each batch.
    ///
    /// A batch whose fences fail is left out and does not stop the others. Fences see the earlier batches of the same
    /// call. After a failed write or fsync the engine is poisoned: this and every later commit fails until the engine
    /// is opened again. Readers do not see the failed batches until then, because they may or may not exist afterwards.
    /// After a failure that certainly wrote nothing (no file descriptor is left), the engine may retry instead.
    async fn commit(&self, batches: Vec<WriteBatch>) -> Vec<Result<(), EngineCommitError>>;

    /// Releases the engine's resources (files, locks) after the pending commits. Later calls fail.
    async fn close(&self);
}

/// Why an engine did not write a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineCommitError {
    /// The fence with this index failed.
    #[error("fence {index} failed")]
    Fence {
        /// Index in [`WriteBatch::fences`].
        index: usize,
    },
    /// A write or fsync failed, now or earlier.
    #[error("poisoned: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The engine is closed.
    #[error("closed")]
    Closed,
}

/// A range of keys, the number of rows to read, and the direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key (inclusive).
    pub start: Bytes,
    /// Key after the last one (exclusive); `None`: to the end of the store.
    pub end: Option<Bytes>,
    /// Whether to start with the last row.
    pub reverse: bool,
    /// The maximum number of rows.
    pub limit: usize,
}

impl KeyRange {
    /// The first `limit` keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>, limit: usize) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self {
            start,
            end,
            reverse: false,
            limit,
        }
    }

    /// Whether the range can't contain a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limit == 0 || self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The first key after all keys that begin with `prefix`; `None` if there is none (all bytes 0xFF, or empty).
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte = byte.saturating_add(1);
    }
    Some(Bytes::from(end))
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key, if it exists.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes all keys in `start..end`.
    DeleteRange {
        /// First key (inclusive).
        start: Bytes,
        /// Key after the last one (exclusive).
        end: Bytes,
    },
}

impl Op {
    /// Bytes of its keys and value.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::DeleteRange { start, end } => start.len() + end.len(),
        }
    }
}

/// A condition: the batch is written only if `key` has exactly this value (`None`: does not exist).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The key.
    pub key: Bytes,
    /// The expected value.
    pub expected: Option<Bytes>,
}

/// Changes that are written together or not at all, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// The conditions, checked before any of the changes.
    pub fences: Vec<Fence>,
}

impl WriteBatch {
    /// Bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ops.iter().map(Op::size).sum()
    }
}
