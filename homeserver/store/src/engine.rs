//! The interface of storage engines: an ordered map of bytes to bytes with atomic, durable, fenced batches, and nothing
//! more, so that an embedded and a distributed database can implement it.
//!
//! Must not know typed tables. Every engine passes [`crate::contract`].

use async_trait::async_trait;
use bytes::Bytes;

use crate::errors::ReadError;
use crate::lane::Lane;
use crate::tables::meta::LaneRow;

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

    /// Whether the rows are in this process, so that a read is no round trip: joining reads to one call would then cost
    /// more than it saves.
    fn is_embedded(&self) -> bool {
        false
    }

    /// Writes the batches in order, each one atomically, and makes them durable (fsync) before it returns. Returns one
    /// result for each batch.
    ///
    /// First each lane of the group is compared: if its row has another epoch or another number than expected, its
    /// batches are not written and return [`EngineCommitError::LaneLost`]. Otherwise the row is replaced in the same
    /// atomic write, even if all batches of the lane are left out. Batches of other lanes are not affected. Must not be
    /// called for a lane while an earlier call for it is in progress.
    ///
    /// A batch whose fences fail is left out and does not stop the others. Fences see the earlier batches of the same
    /// call. After a failed write or fsync the engine is poisoned: this and every later commit fails until the engine
    /// is opened again. Readers do not see the failed batches until then, because they may or may not exist afterwards.
    /// After a failure that certainly wrote nothing (no file descriptor is left), the engine may retry instead.
    ///
    /// An engine whose disk is in another process returns [`EngineCommitError::InDoubt`] for the whole group if the
    /// connection broke before the answer. An embedded engine never does.
    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>>;

    /// Writes batches of no lane.
    async fn commit(&self, batches: Vec<WriteBatch>) -> Vec<Result<(), EngineCommitError>> {
        self.commit_group(CommitGroup::unfenced(batches)).await
    }

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
    /// Another process has taken the lane of the batch. Nothing of the lane is written, now or later, until this process
    /// takes the lane again.
    #[error("the lane has another owner")]
    LaneLost,
    /// The group was sent and the answer was lost: it may be in the store, or may still get there. Only taking the lane
    /// again ends the doubt. The group must not be sent again before.
    #[error("in doubt: {reason}")]
    InDoubt {
        /// What happened to the answer.
        reason: String,
    },
    /// The engine is closed.
    #[error("closed")]
    Closed,
}

/// A range of keys, the number of rows to read, and the direction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Its key, or the first of its range.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::DeleteRange { start: key, .. } => key,
        }
    }

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

/// The condition for the batches of one lane, and the row that replaces the lane's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneFence {
    /// The lane.
    pub lane: Lane,
    /// The key of its row.
    pub key: Bytes,
    /// The epoch in which this process owns the lane.
    pub epoch: u64,
    /// The number of the lane's last group.
    pub seq: u64,
    /// The new row. The engine adds which batches it left out.
    pub next: LaneRow,
}

impl LaneFence {
    /// Whether the lane's row is as expected.
    #[must_use]
    pub fn holds(&self, row: Option<&LaneRow>) -> bool {
        row.is_some_and(|row| row.epoch == self.epoch && row.seq == self.seq)
    }
}

/// A batch and its lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneBatch {
    /// The lane whose fence decides; `None`: no lane.
    pub lane: Option<Lane>,
    /// The changes. They may be in other lanes too.
    pub write: WriteBatch,
}

/// Batches that are written with one flush.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitGroup {
    /// The lanes of the batches, each once.
    pub lanes: Vec<LaneFence>,
    /// The batches, in order.
    pub batches: Vec<LaneBatch>,
}

impl CommitGroup {
    /// A group without lanes.
    #[must_use]
    pub fn unfenced(batches: Vec<WriteBatch>) -> Self {
        let batches = batches.into_iter().map(|write| LaneBatch { lane: None, write });
        Self {
            lanes: Vec::new(),
            batches: batches.collect(),
        }
    }
}
