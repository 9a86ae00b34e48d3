//! Writing: a group of batches becomes one RocksDB batch with one fsync, or poisons the engine.
//!
//! One failure is temporary: no file descriptor is left (`EMFILE`, `ENFILE`). RocksDB refuses every write after it
//! until the database is opened again, so this module reopens it, by the rules of a start, before the call returns. It
//! is known at all times which commits are on disk. A descriptor is needed to open a file, never to write or flush an
//! open one, so such a failure leaves no page that the system takes for written and that is not. Every earlier commit
//! was flushed. The commit number in the database shows whether the failed commit is there. Must not retry any other
//! failure.

use std::thread;
use std::time::{Duration, Instant};

use rocksdb::{DB, WriteOptions};
use weft_store::engine::{CommitGroup, EngineCommitError, Fence, LaneFence, Op};
use weft_store::tables::meta::LaneRow;
use weft_store::value::Value as _;
use weft_store::{Lane, WriteBatch};

use crate::acknowledged::Acknowledged;
use crate::descriptors::Spare;
use crate::engine::Inner;
use crate::open::{COMMIT_KEY, OWN_FAMILY, is_full, is_out_of_descriptors, reopen};
use crate::overlay::Overlay;

type Outcomes = Vec<Result<(), EngineCommitError>>;

/// How long a commit waits for descriptors. Others release theirs within a minute: idle connections are closed.
const DESCRIPTORS_WAIT: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// The state for writing, for one commit at a time.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) acknowledged: Acknowledged,
    /// The number of the last commit.
    pub(crate) last: u64,
    /// The first failure.
    pub(crate) poisoned: Option<String>,
    pub(crate) closed: bool,
    /// Released when a file can't be opened, until RocksDB has no work left that opens files.
    pub(crate) spare: Spare,
}

/// The result of checking a group of batches.
struct Group {
    batch: rocksdb::WriteBatch,
    outcomes: Outcomes,
}

/// A failed write, with the outcomes it would have had; no outcomes if nothing was passed to the database.
struct Failed {
    reason: String,
    outcomes: Outcomes,
}

impl Failed {
    /// Whether nothing was passed to the database.
    fn is_unwritten(&self) -> bool {
        self.outcomes.is_empty()
    }
}

impl Inner {
    /// Blocks for an fsync.
    pub(crate) fn commit(&self, group: &CommitGroup) -> Outcomes {
        let batches = &group.batches;
        let mut writer = self.writer.lock();
        if writer.closed {
            return vec![Err(EngineCommitError::Closed); batches.len()];
        }
        if let Some(reason) = &writer.poisoned {
            return vec![Err(EngineCommitError::Poisoned { reason: reason.clone() }); batches.len()];
        }
        let deadline = Instant::now() + DESCRIPTORS_WAIT;
        let mut is_reopened = false;
        loop {
            let failed = match self.attempt(&mut writer, group) {
                Ok(outcomes) => return outcomes,
                Err(failed) => failed,
            };
            if !is_out_of_descriptors(&failed.reason) || Instant::now() >= deadline {
                return writer.poison(failed.reason, batches.len());
            }
            if failed.is_unwritten() && writer.spare.release() {
                // Only a read failed, so RocksDB still accepts writes.
                continue;
            }
            if is_reopened {
                // Closing the database again would end the compaction that makes do with fewer files.
                thread::sleep(ATTEMPT_PAUSE);
            }
            is_reopened = true;
            if let Some(outcomes) = self.recover(&mut writer, failed, batches.len(), deadline) {
                return outcomes;
            }
        }
    }

    /// Reopens the database after a failed attempt. Returns the outcomes if the commit is there after all, or can't be
    /// made; `None` if it is to be repeated.
    fn recover(&self, writer: &mut Writer, failed: Failed, batches: usize, deadline: Instant) -> Option<Outcomes> {
        tracing::warn!(
            event = "store.reopening",
            reason = failed.reason,
            "no file descriptor is left: the store is reopened"
        );
        let last = writer.last;
        match self.reopen(writer, deadline) {
            // The batches are not there.
            Ok(recovered) if recovered == last => None,
            Ok(recovered) if Some(recovered) == last.checked_add(1) && failed.outcomes.len() == batches => {
                writer.record(recovered);
                Some(failed.outcomes)
            }
            Ok(recovered) => {
                let reason = format!("the last commit was {last}, and the store has commit {recovered}");
                Some(writer.poison(reason, batches))
            }
            Err(reason) => Some(writer.poison(reason, batches)),
        }
    }

    fn attempt(&self, writer: &mut Writer, group: &CommitGroup) -> Result<Outcomes, Failed> {
        let db = self.db.read();
        let Some(db) = db.as_ref() else {
            return Ok(vec![Err(EngineCommitError::Closed); group.batches.len()]);
        };
        let unwritten = |reason| Failed {
            reason,
            outcomes: Outcomes::new(),
        };
        let Group { batch, outcomes } = gather(db, group).map_err(unwritten)?;
        match writer.write(db, batch) {
            Ok(()) => {
                writer.spare.retake(db);
                Ok(outcomes)
            }
            Err(error) => Err(Failed {
                reason: describe(error),
                outcomes,
            }),
        }
    }

    /// Closes the database and reopens it, with retries until the deadline; returns the number of the last commit that
    /// is there.
    fn reopen(&self, writer: &mut Writer, deadline: Instant) -> Result<u64, String> {
        let mut db = self.db.write();
        // The database's descriptors and the spare ones are free now, so opening can succeed.
        drop(db.take());
        let _ = writer.spare.release();
        loop {
            match reopen(&self.path, &self.options, writer.last) {
                Ok((reopened, recovered)) => {
                    *db = Some(reopened);
                    tracing::warn!(
                        event = "store.reopened",
                        commits = recovered,
                        "the store is open again; no acknowledged commit is lost"
                    );
                    return Ok(recovered);
                }
                Err(error) => {
                    let reason = error.to_string();
                    if !is_out_of_descriptors(&reason) || Instant::now() >= deadline {
                        return Err(reason);
                    }
                    thread::sleep(ATTEMPT_PAUSE);
                }
            }
        }
    }
}

impl Writer {
    fn write(&mut self, db: &DB, mut batch: rocksdb::WriteBatch) -> Result<(), rocksdb::Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let next = self.last.saturating_add(1);
        if let Some(family) = db.cf_handle(OWN_FAMILY) {
            batch.put_cf(family, COMMIT_KEY, next.to_be_bytes());
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        db.write_opt(batch, &durable)?;
        self.record(next);
        Ok(())
    }

    /// Records that the commit with this number is on disk.
    fn record(&mut self, commit: u64) {
        self.last = commit;
        if let Err(error) = self.acknowledged.write(commit) {
            // The commit itself is safe; only a later report would be less exact.
            tracing::warn!(
                event = "store.record_failed", %error,
                "the number of the last commit could not be recorded"
            );
        }
    }

    /// Stops all writes until the next start.
    fn poison(&mut self, reason: String, batches: usize) -> Outcomes {
        tracing::error!(
            event = "store.write_failed", %reason,
            "a write to the store failed: nothing more is written until the store is opened again"
        );
        self.poisoned = Some(reason.clone());
        vec![Err(EngineCommitError::Poisoned { reason }); batches]
    }
}

/// Checks the lanes and the fences and collects the batches that pass.
fn gather(db: &DB, group: &CommitGroup) -> Result<Group, String> {
    let (mut moved, lost) = compare_lanes(db, &group.lanes)?;
    let mut overlay = Overlay::default();
    let mut batch = rocksdb::WriteBatch::default();
    let mut outcomes = Vec::with_capacity(group.batches.len());
    // Without fences the overlay is not used.
    let any_fence = group.batches.iter().any(|given| !given.write.fences.is_empty());
    for (index, given) in group.batches.iter().enumerate() {
        if given.lane.is_some_and(|lane| lost.contains(&lane)) {
            outcomes.push(Err(EngineCommitError::LaneLost));
            continue;
        }
        if let Some(broken) = broken_fence(db, &overlay, &given.write.fences).map_err(describe)? {
            outcomes.push(Err(EngineCommitError::Fence { index: broken }));
            if let Some((_, row)) = moved.iter_mut().find(|(fence, _)| Some(fence.lane) == given.lane) {
                row.left_out.extend(u32::try_from(index));
            }
            continue;
        }
        collect(&mut batch, &given.write);
        if any_fence {
            overlay.apply(&given.write);
        }
        outcomes.push(Ok(()));
    }
    for (fence, row) in moved {
        batch.put(&fence.key, row.encode().map_err(|error| error.to_string())?);
    }
    Ok(Group { batch, outcomes })
}

/// A lane that is as expected, with its new row.
type Moved<'a> = (&'a LaneFence, LaneRow);

/// The lanes that are as expected, and the others.
fn compare_lanes<'a>(db: &DB, fences: &'a [LaneFence]) -> Result<(Vec<Moved<'a>>, Vec<Lane>), String> {
    let (mut moved, mut lost) = (Vec::with_capacity(fences.len()), Vec::new());
    for fence in fences {
        let row = db.get_pinned(&fence.key).map_err(describe)?;
        let row = row.map(|bytes| LaneRow::decode(bytes::Bytes::copy_from_slice(&bytes)));
        let row = row.transpose().map_err(|error| error.to_string())?;
        if fence.holds(row.as_ref()) {
            moved.push((fence, fence.next.clone()));
        } else {
            lost.push(fence.lane);
        }
    }
    Ok((moved, lost))
}

fn collect(batch: &mut rocksdb::WriteBatch, given: &WriteBatch) {
    for op in &given.ops {
        match op {
            Op::Put { key, value } => batch.put(key, value),
            Op::Delete { key } => batch.delete(key),
            Op::DeleteRange { start, end } if start < end => batch.delete_range(start, end),
            Op::DeleteRange { .. } => {}
        }
    }
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
