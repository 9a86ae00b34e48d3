//! The durable jobs of rooms: their kinds, and how a worker requests them. The handlers are in [`handlers`], which has the
//! client of other servers; this file must not.
//!
//! A job is requested by the batch that makes it necessary, and is found again after a restart. Must not decide about
//! events.

mod handlers;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId};
use weft_clock::millis;
use weft_store::{Batch, CommitError, Lane, tables::jobs::JOBS};

use crate::{Unavailable, registry::Shared};

pub(crate) use handlers::start;

/// A kind of job of a room. The key of a job is the room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomJob {
    /// Fetch the events from before this server's join, or of a gap.
    History,
    /// Fetch the updates that were received redacted.
    RedactedUpdates,
}

impl RoomJob {
    /// The name in the rows. `homeserver/store/src/schema/steps.rs` has it too.
    const fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::RedactedUpdates => "redacted_updates",
        }
    }

    /// Requests the job in the batch that makes it necessary. `lane`: that of the room.
    pub(crate) fn request(self, batch: &mut Batch, lane: Lane, room: &RoomId, now: MilliSecondsSinceUnixEpoch) {
        weft_jobs::request(batch, lane, (self.name(), room.as_str()), millis(now), "");
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
