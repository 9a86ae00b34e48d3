//! The handlers of the jobs of rooms, and their scheduler. What they do is in the modules of the work: [`crate::history`],
//! [`crate::pruned`]. Must not decide about events.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ruma::{OwnedRoomId, RoomId};
use weft_jobs::{Job, JobHandler, JobWaker, KindLimits, Outcome, Scheduler, SchedulerConfig};
use weft_room_api::Unavailable;

use super::RoomJob;
use crate::{background::Outward, history, pruned, reconcile, recovery, registry::Shared, witness};

/// Jobs of rooms that run at a time: each holds the events of a response.
const AT_ONCE: usize = 32;

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
    let shared = || Arc::clone(&out.shared);
    let handlers: [Arc<dyn JobHandler>; 5] = [
        Arc::new(FetchHistory(out.clone())),
        Arc::new(FetchRedacted(out.clone())),
        Arc::new(SendWitness(shared())),
        Arc::new(ReconcileExtremities(shared())),
        Arc::new(IngestStaged(shared())),
    ];
    Scheduler::start(config, handlers.into())
}

/// The room of a job; `None` for a row that this program did not write.
fn room_of(job: &Job) -> Option<OwnedRoomId> {
    RoomId::parse(&job.key).ok()
}

/// Limits of jobs that are a command to a room's worker.
const COMMAND_LIMITS: KindLimits = KindLimits {
    at_once: 16,
    first_pause: Duration::from_secs(30),
    longest_pause: Duration::from_secs(60 * 60),
    // The worker may be loading a large room.
    deadline: Duration::from_secs(5 * 60),
};

/// The outcome of a job that is a command. The job of a server that stops runs again after the next start.
fn outcome(result: Result<Outcome, Unavailable>) -> Outcome {
    result.unwrap_or_else(|error| Outcome::Failed {
        reason: error.to_string(),
    })
}

struct FetchHistory(Outward);

#[async_trait]
impl JobHandler for FetchHistory {
    fn kind(&self) -> &'static str {
        RoomJob::History.name()
    }

    fn limits(&self) -> KindLimits {
        KindLimits {
            // Each holds the events of a response, or of a portion for the worker.
            at_once: 8,
            first_pause: history::TRY_AGAIN_AFTER,
            longest_pause: history::TRY_AGAIN_AFTER,
            // The run ends itself before, and records that clients need not wait any longer.
            deadline: history::RUN_TIMEOUT + Duration::from_secs(60),
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
            // Requests to eight servers, each with the deadline of a request, and the merge of what they return.
            deadline: Duration::from_secs(30 * 60),
        }
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => pruned::run(&self.0, &room, job.attempts()).await,
            None => Outcome::Done,
        }
    }
}

struct SendWitness(Arc<Shared>);

#[async_trait]
impl JobHandler for SendWitness {
    fn kind(&self) -> &'static str {
        RoomJob::Witness.name()
    }

    fn limits(&self) -> KindLimits {
        COMMAND_LIMITS
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => outcome(witness::run(&self.0, &room, job).await),
            None => Outcome::Done,
        }
    }
}

struct ReconcileExtremities(Arc<Shared>);

#[async_trait]
impl JobHandler for ReconcileExtremities {
    fn kind(&self) -> &'static str {
        RoomJob::Reconcile.name()
    }

    fn limits(&self) -> KindLimits {
        COMMAND_LIMITS
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => outcome(reconcile::run(&self.0, &room, job).await),
            None => Outcome::Done,
        }
    }
}

struct IngestStaged(Arc<Shared>);

#[async_trait]
impl JobHandler for IngestStaged {
    fn kind(&self) -> &'static str {
        RoomJob::IngestStaged.name()
    }

    fn limits(&self) -> KindLimits {
        COMMAND_LIMITS
    }

    async fn run(&self, job: &Job) -> Outcome {
        match room_of(job) {
            Some(room) => outcome(recovery::ingest(&self.0, &room).await),
            None => Outcome::Done,
        }
    }
}
