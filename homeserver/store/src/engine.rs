//! The seam: what an engine must be able to do. An ordered map of bytes to bytes with atomic, durable, fenced
//! batches, and nothing more, so that an embedded database and a distributed one fit behind it.
//!
//! No typed table is known here. Every engine passes [`crate::contract`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::errors::ReadError;

/// Bytes of keys and values that one batch may hold (64 MiB): a commit is held in memory several times over, and
/// no honest one comes near (the largest, adopting a room of 100,000 members, writes its state in parts).
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

/// A storage engine: an ordered map with atomic batches.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The value under `key`, as of the last commit that has returned (or a later one).
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The values under `keys`, in their order. Not necessarily from one instant.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// Rows of a range in the order of their keys' bytes (or the reverse), as of one instant.
    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError>;

    /// Writes the batches in order, each one atomically, and makes them durable (fsync) before it returns.
    ///
    /// A batch whose fences don't hold is left out and does not stop the others. Fences see the batches before
    /// them in the same call. After a failed write or fsync the engine is poisoned: this and every later commit
    /// fails, until the engine is opened anew; what failed is not shown to readers until then, as it may or may not be
    /// there afterwards. A failure that certainly wrote nothing (no file descriptor is left) may be waited out instead.
    /// There is one result for each batch.
    async fn commit(&self, batches: Vec<WriteBatch>) -> Vec<Result<(), EngineCommitError>>;

    /// Releases what the engine holds (files, locks), after what was committed. Later calls fail.
    async fn close(&self);
}

/// Why an engine did not write a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineCommitError {
    /// The fence with this index did not hold.
    #[error("fence {index} does not hold")]
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

/// A range of keys, how much of it to read, and from which end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key (inclusive).
    pub start: Bytes,
    /// Key after the last one (exclusive); None: to the end of the store.
    pub end: Option<Bytes>,
    /// Whether to begin with the last row.
    pub reverse: bool,
    /// At most so many rows.
    pub limit: usize,
}

impl KeyRange {
    /// Everything that begins with `prefix`, forward and unlimited.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = prefix_end(&start);
        Self {
            start,
            end,
            reverse: false,
            limit: usize::MAX,
        }
    }

    /// Whether no key can be within.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limit == 0 || self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The first key after all keys that begin with `prefix`; None where there is none (all bytes 0xFF, or empty).
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
    /// Removes a key, if it's there.
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
    /// Bytes of its keys and its value.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::DeleteRange { start, end } => start.len() + end.len(),
        }
    }
}

/// A condition: the batch is written only if `key` has exactly this value (None: is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The key.
    pub key: Bytes,
    /// The value that it must have.
    pub expected: Option<Bytes>,
}

/// What is written together or not at all. The ops are applied in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// The conditions, judged before any of the changes.
    pub fences: Vec<Fence>,
}

impl WriteBatch {
    /// Bytes of keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ops.iter().map(Op::size).sum()
    }
}
