//! The durable jobs of rooms: their kinds, how a worker requests them, and the handlers. What the handlers do is in the
//! modules of the work: [`crate::history`], [`crate::pruned`].
//!
//! A job is requested by the batch that makes it necessary, and is found again after a restart. Must not decide about
//! events.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId};
use weft_clock::millis;
use weft_jobs::{Job, JobHandler, JobWaker, KindLimits, Outcome, Scheduler, SchedulerConfig};
use weft_store::{Batch, CommitError, Lane, tables::jobs::JOBS};

use crate::{Unavailable, background::Outward, history, pruned, registry::Shared};

/// Jobs of rooms that run at a time: each holds the events of a response.
const AT_ONCE: usize = 32;

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

/// Starts the scheduler with the handlers of all kinds.
pub(crate) fn start(out: &Outward, waker: JobWaker) -> Scheduler {
    let config = SchedulerConfig {
        store: out.shared.store.clone(),
        clock: Arc::clone(&out.shared.clock),
        random: out.shared.config.random,
        lanes: out.shared.store.lanes().all().collect(),
        at_once: AT_ONCE,
        waker,
    };
    let handlers: [Arc<dyn JobHandler>; 2] = [
        Arc::new(FetchHistory(out.clone())),
        Arc::new(FetchRedacted(out.clone())),
    ];
    Scheduler::start(config, handlers.into())
}

/// The room of a job; `None` for a row that this program did not write.
fn room_of(job: &Job) -> Option<OwnedRoomId> {
    RoomId::parse(&job.key).ok()
}

struct FetchHistory(Outward);

#[async_trait]
impl JobHandler for FetchHistory {
    fn kind(&self) -> &'static str {
        RoomJob::History.name()
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            // Each holds up to 100 MB of events.
            at_once: 8,
            first_pause: history::TRY_AGAIN_AFTER,
            longest_pause: history::TRY_AGAIN_AFTER,
        }
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => history::run(&self.0, &room, job.attempts()).await,
            None => Outcome::Done,
        }
    }
}

struct FetchRedacted(Outward);

#[async_trait]
impl JobHandler for FetchRedacted {
    fn kind(&self) -> &'static str {
        RoomJob::RedactedUpdates.name()
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            at_once: 16,
            first_pause: Duration::from_secs(30),
            longest_pause: Duration::from_secs(60 * 60),
        }
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => pruned::run(&self.0, &room, job.attempts()).await,
            None => Outcome::Done,
        }
    }
}
