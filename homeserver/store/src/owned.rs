//! The lanes that this process owns, as the writer sees them: epoch and number of each, and what became of a group whose
//! answer was lost. Must not send a group again before the lane was taken again.

use bytes::Bytes;

use crate::batch::Batch;
use crate::engine::{CommitGroup, Engine, EngineCommitError, LaneBatch, LaneFence, WriteBatch};
use crate::errors::{CommitError, OpenError, ReadError};
use crate::lane::{Lane, Lanes};
use crate::positions::{ALLOTMENT, Positions, Reserved};
use crate::tables::meta::{LANE, LaneRow};
use crate::value::Value;

/// How often taking a lane is tried: another attempt fails only if someone else writes the lane's row at the same time.
const ATTEMPTS: usize = 16;

/// A lane of this process.
#[derive(Debug)]
pub(crate) struct Owned {
    lane: Lane,
    key: Bytes,
    row: LaneRow,
    positions: Positions,
}

/// Who takes a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker {
    /// The number of this start.
    pub(crate) owner: u64,
    /// Acknowledged commits may have been lost: positions begin a new era.
    pub(crate) new_era: bool,
}

/// What became of a group in doubt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is in the store, without the batches with these indexes.
    Written(Vec<u32>),
    /// It is not in the store and never will be.
    NotWritten,
    /// Another process has the lane.
    Lost {
        /// Whether the group may be in the store all the same.
        in_doubt: bool,
    },
}

/// The key under which the row of a lane is stored.
pub(crate) fn row_key(lanes: Lanes, lane: Lane) -> Bytes {
    lanes.physical(&LANE.physical(&(lane,))).unwrap_or_default()
}

/// Reads the row of a lane.
async fn read(engine: &dyn Engine, key: &Bytes) -> Result<Option<LaneRow>, ReadError> {
    let Some(bytes) = engine.get(key).await? else {
        return Ok(None);
    };
    LaneRow::decode(bytes).map(Some).map_err(|error| ReadError::Corrupt {
        table: LANE.name(),
        reason: error.to_string(),
    })
}

/// Replaces the row of a lane if it is still `before`; false if it is not, or if that is not known.
async fn replace(
    engine: &dyn Engine,
    lanes: Lanes,
    lane: Lane,
    before: &LaneRow,
    after: &LaneRow,
) -> Result<bool, CommitError> {
    let mut batch = Batch::new();
    batch.require(&LANE, &(lane,), Some(before));
    batch.put(&LANE, &(lane,), after);
    let write = lanes.physical_batch(batch.into_parts()?.write);
    let write = write.ok_or_else(|| CommitError::Invalid {
        reason: "the lane has no place".to_owned(),
    })?;
    match engine.commit(vec![write]).await.into_iter().next() {
        Some(Ok(())) => Ok(true),
        // Taking a lane twice is harmless: the row is read again.
        Some(Err(EngineCommitError::Fence { .. } | EngineCommitError::InDoubt { .. })) => Ok(false),
        Some(Err(EngineCommitError::Poisoned { reason })) => Err(CommitError::Poisoned { reason }),
        Some(Err(EngineCommitError::LaneLost | EngineCommitError::Closed)) | None => Err(CommitError::Closed),
    }
}

impl Owned {
    /// Takes a lane: its earlier owner can't commit any more. Positions continue after every one that may have been
    /// assigned.
    pub(crate) async fn take(engine: &dyn Engine, lanes: Lanes, lane: Lane, by: Taker) -> Result<Self, OpenError> {
        let key = row_key(lanes, lane);
        for _ in 0..ATTEMPTS {
            let before = read(engine, &key).await?.ok_or(OpenError::Foreign)?;
            let last = before.ceiling;
            let after = LaneRow {
                epoch: before.epoch.saturating_add(1),
                owner: by.owner,
                era: before.era.saturating_add(u64::from(by.new_era)),
                visible: last,
                ceiling: last.saturating_add(ALLOTMENT),
                ..before.clone()
            };
            if replace(engine, lanes, lane, &before, &after).await? {
                let positions = Positions::new(lane, after.era, last, after.ceiling);
                return Ok(Self {
                    lane,
                    key,
                    row: after,
                    positions,
                });
            }
        }
        Err(CommitError::LaneLost { lane }.into())
    }

    pub(crate) const fn positions(&self) -> &Positions {
        &self.positions
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.positions.is_lost()
    }

    /// Records that another process has the lane.
    pub(crate) fn lose(&self) {
        if !self.is_lost() {
            tracing::warn!(
                event = "store.lane_lost",
                lane = self.lane.number(),
                epoch = self.row.epoch,
                "the lane has another owner"
            );
        }
        self.positions.lose();
    }

    /// The fence of the lane's next group.
    pub(crate) fn fence(&self, held: &[&Reserved]) -> LaneFence {
        let (visible, ceiling) = self.positions.after_commit(held);
        LaneFence {
            lane: self.lane,
            key: self.key.clone(),
            epoch: self.row.epoch,
            seq: self.row.seq,
            next: LaneRow {
                seq: self.row.seq.saturating_add(1),
                visible,
                ceiling,
                left_out: Vec::new(),
                ..self.row.clone()
            },
        }
    }

    /// The fence of a group that is sent again after the lane was taken again.
    pub(crate) fn renewed(&self, fence: &LaneFence) -> LaneFence {
        LaneFence {
            epoch: self.row.epoch,
            seq: self.row.seq,
            next: LaneRow {
                epoch: self.row.epoch,
                seq: self.row.seq.saturating_add(1),
                ..fence.next.clone()
            },
            ..fence.clone()
        }
    }

    /// Records that a group was written.
    pub(crate) fn moved(&mut self, fence: LaneFence) {
        self.positions.raise_ceiling(fence.next.ceiling);
        self.row = fence.next;
    }

    /// Takes the lane again after a group in doubt, if this process still owns it: the group can't be written any more
    /// afterwards, and the number of the lane says whether it was.
    pub(crate) async fn settle(
        &mut self,
        engine: &dyn Engine,
        lanes: Lanes,
        fence: &LaneFence,
    ) -> Result<Settled, OpenError> {
        for _ in 0..ATTEMPTS {
            let before = read(engine, &self.key).await?.ok_or(OpenError::Foreign)?;
            if before.owner != self.row.owner {
                return Ok(Settled::Lost {
                    in_doubt: before.seq > fence.seq,
                });
            }
            let after = LaneRow {
                epoch: before.epoch.saturating_add(1),
                ..before.clone()
            };
            if replace(engine, lanes, self.lane, &before, &after).await? {
                self.positions.raise_ceiling(after.ceiling);
                self.row = after;
                return Ok(if self.row.seq == fence.seq {
                    Settled::NotWritten
                } else {
                    Settled::Written(self.row.left_out.clone())
                });
            }
        }
        Err(CommitError::LaneLost { lane: self.lane }.into())
    }
}

/// The group with only the batches of one lane, to be sent again.
pub(crate) fn again(fence: LaneFence, batches: Vec<WriteBatch>) -> CommitGroup {
    let lane = Some(fence.lane);
    CommitGroup {
        lanes: vec![fence],
        batches: batches.into_iter().map(|write| LaneBatch { lane, write }).collect(),
    }
}
