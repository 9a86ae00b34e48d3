//! An engine in memory, for tests and simulation. It distinguishes the contents of the disk from the contents of its
//! cache, so that a test can cut the power at any point of a commit and check what remains.
//!
//! A [`MemoryDisk`] outlives the engines on it: opening another engine after a power loss is a restart. Must not be
//! used for data that must be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::engine::{CommitGroup, Engine, EngineCommitError, KeyRange, LaneBatch, LaneFence, Op, WriteBatch};
use crate::errors::ReadError;
use crate::lane::Lane;
use crate::tables::meta::LaneRow;
use crate::value::Value as _;

type Rows = BTreeMap<Bytes, Bytes>;

/// A disk on which any number of engines can be opened, one at a time. Cheap to clone: clones are the same disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whether syncs may complete.
    syncs_run: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// The rows that survive a power loss, which are the rows that readers see: a visible row counts as committed.
    synced: Rows,
    /// The rows that were written, synced or not: the rows that fences see.
    written: Rows,
    /// The batches that are in `written` and not in `synced`, in order.
    unsynced: Vec<Unsynced>,
    /// Only the engine with this number may use the disk; a power loss or another opening ends it.
    epoch: u64,
    poisoned: Option<String>,
    reads_fail: bool,
    plan: Option<Planned>,
    commits: u64,
    /// Every durable group, by lane: for checks of the chain.
    moves: Vec<LaneMove>,
}

/// A batch that is written and not synced.
#[derive(Debug)]
struct Unsynced {
    write: WriteBatch,
    /// The lane whose row it moves.
    moves: Option<LaneMove>,
}

/// A lane's row as a group of commits left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneMove {
    /// The lane.
    pub lane: Lane,
    /// The epoch of the owner that wrote it.
    pub epoch: u64,
    /// The number of the group.
    pub seq: u64,
    /// The era.
    pub era: u64,
    /// The visible position.
    pub visible: u64,
}

/// What remains of the batches that were written and not synced at a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// None of them.
    Lost,
    /// The first batches, this many: the disk had written them by itself.
    Torn(usize),
}

/// A fault at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write fails: nothing reaches the disk, and the engine is poisoned.
    FailWrite,
    /// The sync fails: the batches may or may not exist after a restart, and the engine is poisoned.
    FailSync,
    /// The power fails before anything is written.
    PowerBeforeWrite,
    /// The power fails between write and sync.
    PowerBeforeSync(Tail),
    /// The power fails after the sync and before the commit returns.
    PowerAfterSync,
    /// The group is written and synced, and the answer is lost.
    DoubtAfterSync,
    /// The group is lost on the way, and the sender does not learn that.
    DoubtBeforeWrite,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    commits_before: u64,
    fault: Fault,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        let (syncs_run, _) = watch::channel(true);
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                syncs_run,
            }),
        }
    }

    /// Opens an engine on the synced rows. An engine that was open before can't use the disk any more.
    #[must_use]
    pub fn open(&self) -> MemoryEngine {
        let mut state = self.shared.lock();
        state.restart(Tail::Lost);
        MemoryEngine {
            disk: self.clone(),
            epoch: state.epoch,
            closed: AtomicBool::new(false),
        }
    }

    /// Opens another engine that uses the disk at the same time as the open ones, as several processes use one database.
    /// It sees their unsynced writes in fences and not in reads.
    #[must_use]
    pub fn attach(&self) -> MemoryEngine {
        MemoryEngine {
            disk: self.clone(),
            epoch: self.shared.lock().epoch,
            closed: AtomicBool::new(false),
        }
    }

    /// Every durable group of commits of a lane, in order.
    #[must_use]
    pub fn moves(&self) -> Vec<LaneMove> {
        self.shared.lock().moves.clone()
    }

    /// Cuts the power now: unsynced rows are lost, except those that `tail` keeps, and the open engine can't be used
    /// any more.
    pub fn power_loss(&self, tail: Tail) {
        self.shared.lock().restart(tail);
    }

    /// Another disk with the rows that are synced on this one now: a test may continue from one point in several ways.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let synced = self.shared.lock().synced.clone();
        copy.shared.lock().synced = synced;
        copy
    }

    /// Plans a fault at a commit of the engine (a group of batches counts as one): at the next one for `commits_before`
    /// 0. Only one fault is planned at a time.
    pub fn plan(&self, commits_before: u64, fault: Fault) {
        self.shared.lock().plan = Some(Planned { commits_before, fault });
    }

    /// Makes the next sync fail.
    pub fn fail_next_sync(&self) {
        self.plan(0, Fault::FailSync);
    }

    /// Makes reads fail like reads of a damaged block, or work again.
    pub fn fail_reads(&self, fail: bool) {
        self.shared.lock().reads_fail = fail;
    }

    /// Makes syncs wait until [`MemoryDisk::resume_syncs`]: commits are written and not yet acknowledged.
    pub fn pause_syncs(&self) {
        self.shared.syncs_run.send_replace(false);
    }

    /// Continues the waiting syncs.
    pub fn resume_syncs(&self) {
        self.shared.syncs_run.send_replace(true);
    }

    /// The number of commits (groups) that were started on this disk.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.lock().commits
    }

    /// The number of batches that are written and not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.shared.lock().unsynced.len()
    }

    /// The number of rows that would survive a power loss now.
    #[must_use]
    pub fn synced_rows(&self) -> usize {
        self.shared.lock().synced.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Returns to the contents of the disk; the open engine can't be used any more.
    fn restart(&mut self, tail: Tail) {
        let kept = match tail {
            Tail::Lost => 0,
            Tail::Torn(kept) => kept,
        };
        for unsynced in std::mem::take(&mut self.unsynced).into_iter().take(kept) {
            self.keep(unsynced);
        }
        self.written = self.synced.clone();
        self.epoch += 1;
        self.poisoned = None;
    }

    fn sync(&mut self) {
        for unsynced in std::mem::take(&mut self.unsynced) {
            self.keep(unsynced);
        }
    }

    fn keep(&mut self, unsynced: Unsynced) {
        apply(&mut self.synced, &unsynced.write);
        self.moves.extend(unsynced.moves);
    }

    fn alive(&self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    fn poison(&mut self, reason: &str) -> EngineCommitError {
        self.poisoned = Some(reason.to_owned());
        EngineCommitError::Poisoned {
            reason: reason.to_owned(),
        }
    }

    fn take_fault(&mut self) -> Option<Fault> {
        let planned = self.plan?;
        if planned.commits_before > 0 {
            self.plan = Some(Planned {
                commits_before: planned.commits_before - 1,
                ..planned
            });
            return None;
        }
        self.plan = None;
        Some(planned.fault)
    }

    /// Checks the fences and writes the batches; only the sync is missing afterwards.
    fn write(&mut self, epoch: u64, group: CommitGroup) -> Result<(Outcomes, Option<Fault>), EngineCommitError> {
        if !self.alive(epoch) {
            return Err(EngineCommitError::Closed);
        }
        if let Some(reason) = &self.poisoned {
            return Err(EngineCommitError::Poisoned { reason: reason.clone() });
        }
        self.commits += 1;
        let fault = self.take_fault();
        match fault {
            Some(Fault::FailWrite) => return Err(self.poison("planned fault: the write failed")),
            Some(Fault::PowerBeforeWrite) => {
                self.restart(Tail::Lost);
                return Err(EngineCommitError::Closed);
            }
            Some(Fault::DoubtBeforeWrite) => return Err(in_doubt()),
            _ => {}
        }
        let mut outcomes = Vec::with_capacity(group.batches.len());
        let (mut moved, mut lost) = (Vec::new(), Vec::new());
        for fence in group.lanes {
            let row = self.written.get(&fence.key).cloned().map(LaneRow::decode);
            match row.transpose() {
                Ok(row) if fence.holds(row.as_ref()) => moved.push(fence),
                _ => lost.push(fence.lane),
            }
        }
        let first = self.unsynced.len();
        for (index, LaneBatch { lane, write }) in group.batches.into_iter().enumerate() {
            if lane.is_some_and(|lane| lost.contains(&lane)) {
                outcomes.push(Err(EngineCommitError::LaneLost));
                continue;
            }
            let broken = write
                .fences
                .iter()
                .position(|fence| self.written.get(&fence.key) != fence.expected.as_ref());
            if let Some(broken) = broken {
                outcomes.push(Err(EngineCommitError::Fence { index: broken }));
                let left_out = moved.iter_mut().filter(|fence| Some(fence.lane) == lane);
                left_out.for_each(|fence| fence.next.left_out.extend(u32::try_from(index)));
                continue;
            }
            apply(&mut self.written, &write);
            self.unsynced.push(Unsynced { write, moves: None });
            outcomes.push(Ok(()));
        }
        for fence in moved {
            self.move_lane(&fence, first)?;
        }
        Ok((outcomes, fault))
    }

    /// Replaces the row of a lane. It is before the batches of the group: a torn group never has positions without it.
    fn move_lane(&mut self, fence: &LaneFence, first: usize) -> Result<(), EngineCommitError> {
        let value = fence.next.encode().map_err(|error| self.poison(&error.to_string()))?;
        let put = WriteBatch {
            ops: vec![Op::Put {
                key: fence.key.clone(),
                value,
            }],
            fences: Vec::new(),
        };
        apply(&mut self.written, &put);
        let moves = LaneMove {
            lane: fence.lane,
            epoch: fence.next.epoch,
            seq: fence.next.seq,
            era: fence.next.era,
            visible: fence.next.visible,
        };
        let moved = Unsynced {
            write: put,
            moves: Some(moves),
        };
        self.unsynced.insert(first, moved);
        Ok(())
    }

    /// Makes the written batches durable, or fails as planned.
    fn finish(&mut self, epoch: u64, fault: Option<Fault>) -> Result<(), EngineCommitError> {
        if !self.alive(epoch) {
            return Err(EngineCommitError::Closed);
        }
        match fault {
            Some(Fault::FailSync) => return Err(self.poison("planned fault: the sync failed")),
            Some(Fault::PowerBeforeSync(tail)) => {
                self.restart(tail);
                return Err(EngineCommitError::Closed);
            }
            _ => self.sync(),
        }
        if fault == Some(Fault::DoubtAfterSync) {
            return Err(in_doubt());
        }
        if fault == Some(Fault::PowerAfterSync) {
            self.restart(Tail::Lost);
            return Err(EngineCommitError::Closed);
        }
        Ok(())
    }
}

fn in_doubt() -> EngineCommitError {
    EngineCommitError::InDoubt {
        reason: "planned fault: the connection broke".to_owned(),
    }
}

type Outcomes = Vec<Result<(), EngineCommitError>>;

fn apply(rows: &mut Rows, batch: &WriteBatch) {
    for op in &batch.ops {
        match op {
            Op::Put { key, value } => {
                rows.insert(key.clone(), value.clone());
            }
            Op::Delete { key } => {
                rows.remove(key);
            }
            Op::DeleteRange { start, end } if start < end => {
                let doomed: Vec<Bytes> = rows
                    .range(start.clone()..end.clone())
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in doomed {
                    rows.remove(&key);
                }
            }
            Op::DeleteRange { .. } => {}
        }
    }
}

/// An engine on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryEngine {
    disk: MemoryDisk,
    epoch: u64,
    /// This engine, not the others on the disk.
    closed: AtomicBool,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEngine {
    /// An engine on a new disk.
    #[must_use]
    pub fn new() -> Self {
        MemoryDisk::new().open()
    }

    /// The disk of the engine.
    #[must_use]
    pub fn disk(&self) -> MemoryDisk {
        self.disk.clone()
    }

    fn readable(&self) -> Result<MutexGuard<'_, State>, ReadError> {
        let state = self.disk.shared.lock();
        if !state.alive(self.epoch) || self.closed.load(Ordering::Relaxed) {
            return Err(ReadError::Closed);
        }
        if state.reads_fail {
            return Err(ReadError::Engine {
                reason: "planned fault: the read failed".to_owned(),
            });
        }
        Ok(state)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.readable()?.synced.get(key).cloned())
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let state = self.readable()?;
        Ok(keys.iter().map(|key| state.synced.get(key).cloned()).collect())
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let state = self.readable()?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let KeyRange {
            start,
            end,
            reverse,
            limit,
        } = range;
        let rows = match end {
            Some(end) => state.synced.range(start..end),
            None => state.synced.range(start..),
        };
        let own = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        Ok(if reverse {
            rows.rev().take(limit).map(own).collect()
        } else {
            rows.take(limit).map(own).collect()
        })
    }

    async fn commit_group(&self, group: CommitGroup) -> Outcomes {
        let count = group.batches.len();
        if self.closed.load(Ordering::Relaxed) {
            return vec![Err(EngineCommitError::Closed); count];
        }
        let written = self.disk.shared.lock().write(self.epoch, group);
        let (outcomes, fault) = match written {
            Ok(written) => written,
            Err(error) => return vec![Err(error); count],
        };
        let mut syncs_run = self.disk.shared.syncs_run.subscribe();
        // Fails only if the sender is dropped, and the disk held here owns it.
        let _ = syncs_run.wait_for(|run| *run).await;
        match self.disk.shared.lock().finish(self.epoch, fault) {
            Ok(()) => outcomes,
            // Nothing of the answer arrived.
            Err(error @ EngineCommitError::InDoubt { .. }) => vec![Err(error); count],
            // The result of a batch whose fence failed is certain, whatever happened to the others.
            Err(error) => outcomes
                .into_iter()
                .map(|outcome| outcome.and(Err(error.clone())))
                .collect(),
        }
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}
