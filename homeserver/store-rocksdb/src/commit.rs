//! Writing: a group of batches becomes one RocksDB batch with one fsync, or poisons the engine.

use std::sync::PoisonError;

use rocksdb::{DB, WriteOptions};
use weft_store::WriteBatch;
use weft_store::engine::{EngineCommitError, Fence, Op};

use crate::acknowledged::Acknowledged;
use crate::engine::Inner;
use crate::open::{COMMIT_KEY, OWN_FAMILY, is_full};
use crate::overlay::Overlay;

type Outcomes = Vec<Result<(), EngineCommitError>>;

/// What writing needs, one commit at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) acknowledged: Acknowledged,
    /// Number of the last commit.
    pub(crate) last: u64,
    /// The first failure.
    pub(crate) poisoned: Option<String>,
}

/// What the batches come to.
struct Group {
    batch: rocksdb::WriteBatch,
    outcomes: Outcomes,
}

impl Inner {
    /// Blocks for an fsync.
    pub(crate) fn commit(&self, batches: &[WriteBatch]) -> Outcomes {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = db.as_ref() else {
            return vec![Err(EngineCommitError::Closed); batches.len()];
        };
        if let Some(reason) = &writer.poisoned {
            return vec![Err(EngineCommitError::Poisoned { reason: reason.clone() }); batches.len()];
        }
        let written = gather(db, batches).and_then(|group| writer.write(db, group));
        written.unwrap_or_else(|error| {
            let reason = describe(error);
            tracing::error!(%reason, "a write to the store has failed: nothing more is written until it is opened again");
            writer.poisoned = Some(reason.clone());
            vec![Err(EngineCommitError::Poisoned { reason }); batches.len()]
        })
    }
}

impl Writer {
    fn write(&mut self, db: &DB, group: Group) -> Result<Outcomes, rocksdb::Error> {
        let Group { mut batch, outcomes } = group;
        if batch.is_empty() {
            return Ok(outcomes);
        }
        let next = self.last.saturating_add(1);
        if let Some(family) = db.cf_handle(OWN_FAMILY) {
            batch.put_cf(family, COMMIT_KEY, next.to_be_bytes());
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        db.write_opt(batch, &durable)?;
        self.last = next;
        if let Err(error) = self.acknowledged.write(next) {
            // The commit itself is safe; only a later report would know less.
            tracing::warn!(%error, "the number of the last commit could not be noted");
        }
        Ok(outcomes)
    }
}

/// Judges the fences and puts together what passes.
fn gather(db: &DB, batches: &[WriteBatch]) -> Result<Group, rocksdb::Error> {
    let mut overlay = Overlay::default();
    let mut batch = rocksdb::WriteBatch::default();
    let mut outcomes = Vec::with_capacity(batches.len());
    // Without fences nobody looks at the overlay.
    let any_fence = batches.iter().any(|batch| !batch.fences.is_empty());
    for given in batches {
        if let Some(index) = broken_fence(db, &overlay, &given.fences)? {
            outcomes.push(Err(EngineCommitError::Fence { index }));
            continue;
        }
        for op in &given.ops {
            match op {
                Op::Put { key, value } => batch.put(key, value),
                Op::Delete { key } => batch.delete(key),
                Op::DeleteRange { start, end } if start < end => batch.delete_range(start, end),
                Op::DeleteRange { .. } => {}
            }
        }
        if any_fence {
            overlay.apply(given);
        }
        outcomes.push(Ok(()));
    }
    Ok(Group { batch, outcomes })
}

fn broken_fence(db: &DB, overlay: &Overlay, fences: &[Fence]) -> Result<Option<usize>, rocksdb::Error> {
    for (index, fence) in fences.iter().enumerate() {
        let holds = match overlay.get(&fence.key) {
            Some(value) => value == fence.expected.as_ref(),
            None => db.get_pinned(&fence.key)?.as_deref() == fence.expected.as_deref(),
        };
        if !holds {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn describe(error: rocksdb::Error) -> String {
    let reason = error.into_string();
    if is_full(&reason) {
        format!("the disk is full ({reason})")
    } else {
        reason
    }
}
