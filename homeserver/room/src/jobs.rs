//! The durable jobs of rooms: their kinds, and how a worker requests them. The handlers are in [`handlers`], which has the
//! client of other servers; this file must not.
//!
//! A job is requested by the batch that makes it necessary, and is found again after a restart. Must not decide about
//! events.

mod handlers;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId};
use weft_clock::millis;
use weft_room_api::Unavailable;
use weft_store::{Batch, CommitError, Lane, Store, tables::jobs::JOBS};

use crate::registry::Shared;

pub(crate) use handlers::start;

/// Jobs that are requested in one batch at the start.
const REQUESTS_PER_COMMIT: usize = 1_000;

/// A kind of job of a room. The key of a job is the room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomJob {
    /// Fetch the events from before this server's join, or of a gap.
    History,
    /// Fetch the updates that were received redacted.
    RedactedUpdates,
    /// Send a witness event, if no other event of this server made it unnecessary. The payload is the time at which it
    /// became due, in milliseconds since 1970.
    Witness,
    /// Reference forward extremities that other servers may not have, if no event does by then.
    Reconcile,
    /// Merge the staged events that were there at the start.
    IngestStaged,
}

/// What a turn changes about a job of its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobChange {
    /// Replaces an earlier request of the same kind.
    Request {
        kind: RoomJob,
        /// In milliseconds since 1970.
        due: u64,
        payload: String,
    },
    Withdraw(RoomJob),
}

impl RoomJob {
    /// The name in the rows. `homeserver/store/src/schema/steps.rs` has it too.
    const fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::RedactedUpdates => "redacted_updates",
            Self::Witness => "witness",
            Self::Reconcile => "reconcile",
            Self::IngestStaged => "ingest_staged",
        }
    }

    /// A request for now.
    pub(crate) fn now(self, now: MilliSecondsSinceUnixEpoch) -> JobChange {
        JobChange::Request {
            kind: self,
            due: millis(now),
            payload: String::new(),
        }
    }

    /// The payload of a room's job; `None` if there is no such job.
    pub(crate) async fn payload(self, store: &Store, room: &RoomId) -> Result<Option<String>, Unavailable> {
        let row = store
            .get(&JOBS, &(store.lane_of(room), self.name(), room.as_str()))
            .await?;
        Ok(row.map(|row| row.payload))
    }

    /// The rooms that have such a job.
    pub(crate) async fn rooms(self, shared: &Shared) -> Result<Vec<OwnedRoomId>, Unavailable> {
        let mut rooms = Vec::new();
        for lane in shared.store.lanes().all() {
            let jobs = shared.store.scan_all(JOBS.under(&(lane, self.name()))).await?;
            rooms.extend(
                jobs.into_iter()
                    .filter_map(|((_, _, room), _)| RoomId::parse(room).ok()),
            );
        }
        Ok(rooms)
    }
}

impl JobChange {
    /// Writes it in the batch of the turn. `lane`: that of the room.
    pub(crate) fn write(&self, batch: &mut Batch, lane: Lane, room: &RoomId) {
        match self {
            Self::Request { kind, due, payload } => {
                weft_jobs::request(batch, lane, (kind.name(), room.as_str()), *due, payload);
            }
            Self::Withdraw(kind) => weft_jobs::withdraw(batch, lane, (kind.name(), room.as_str())),
        }
    }
}

/// At start: requests that the events which are staged in these rooms are merged.
pub(crate) async fn request_ingest(shared: &Shared, rooms: &[OwnedRoomId]) -> Result<(), Unavailable> {
    let change = RoomJob::IngestStaged.now(shared.clock.now());
    for some in rooms.chunks(REQUESTS_PER_COMMIT) {
        // A batch belongs to one lane.
        for lane in shared.store.lanes().all() {
            let mut batch = Batch::new();
            for room in some.iter().filter(|room| shared.store.lane_of(&***room) == lane) {
                change.write(&mut batch, lane, room);
            }
            if !batch.is_empty() {
                shared.store.commit(batch).await?;
            }
        }
    }
    Ok(())
}

/// At start: what failed is tried again at once, because its cause has often ended (the network of this server).
pub(crate) async fn repeat_failed(shared: &Shared) -> Result<(), Unavailable> {
    for kind in [RoomJob::History, RoomJob::RedactedUpdates] {
        for lane in shared.store.lanes().all() {
            repeat_failed_in(shared, lane, kind.name()).await?;
        }
    }
    shared.background.wake();
    Ok(())
}

async fn repeat_failed_in(shared: &Shared, lane: Lane, kind: &str) -> Result<(), Unavailable> {
    let jobs = shared.store.scan_all(JOBS.under(&(lane, kind))).await?;
    for ((_, _, room), row) in jobs.into_iter().filter(|(_, row)| row.attempts > 0) {
        let mut batch = Batch::new();
        // If it runs or was requested meanwhile, its row is newer.
        batch.require(&JOBS, &(lane, kind, &*room), Some(&row));
        weft_jobs::request(
            &mut batch,
            lane,
            (kind, &room),
            millis(shared.clock.now()),
            &row.payload,
        );
        match shared.store.commit(batch).await {
            Ok(()) | Err(CommitError::Fence { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
