//! One run of a job: the handler, and the row afterwards. Must not decide what runs.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use weft_clock::millis;
use weft_store::{Batch, CommitError};

use super::{Inner, Running};
use crate::{Job, Outcome, backoff, queue};

impl Inner {
    /// Runs a job; returns its id when its row is replaced.
    pub(super) async fn run(self: Arc<Self>, id: Running, job: Job) -> Running {
        let Some(kind) = self.kinds.get(id.1) else { return id };
        let counted = kind.counters.begin();
        let run = AssertUnwindSafe(kind.handler.run(&job)).catch_unwind();
        let failed = |reason: &str| Outcome::Failed {
            reason: reason.to_owned(),
        };
        let outcome = match tokio::time::timeout(kind.handler.limits().deadline, run).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => failed("the handler panicked"),
            Err(_) => failed("the deadline has passed"),
        };
        let name = kind.handler.kind();
        if let Outcome::Failed { reason } = &outcome {
            tracing::warn!(
                event = "jobs.failed",
                kind = name,
                key = job.key,
                attempts = job.row.attempts,
                reason,
                "a job failed"
            );
        }
        counted.end(&outcome);
        match self.config.store.commit(self.after(&id, &job, &outcome)).await {
            // Requested again while it ran, or removed by its own handler: the newer row counts.
            Ok(()) | Err(CommitError::Fence { .. }) => {}
            // Another process runs the jobs of the lane.
            Err(CommitError::LaneLost { .. }) => {}
            Err(error) => {
                tracing::error!(
                    event = "jobs.result_not_stored", kind = name, key = job.key, %error,
                    "the result of a job can't be stored"
                );
                // It would be started again at once.
                tokio::time::sleep(super::SWEEP).await;
            }
        }
        id
    }

    fn after(&self, (lane, index, _): &Running, job: &Job, outcome: &Outcome) -> Batch {
        let Some(kind) = self.kinds.get(*index) else {
            return Batch::new();
        };
        let name = kind.handler.kind();
        let due = |after: Duration| {
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            millis(self.config.clock.now()).saturating_add(after)
        };
        match outcome {
            Outcome::Done => queue::finish(*lane, name, job),
            Outcome::Again { after } => queue::repeat(*lane, name, job, due(*after), 0),
            Outcome::Failed { .. } => {
                let attempts = job.row.attempts.saturating_add(1);
                let limits = kind.handler.limits();
                let pauses = (limits.first_pause, limits.longest_pause);
                let pause = backoff::pause(pauses, attempts, (self.config.random)());
                queue::repeat(*lane, name, job, due(pause), attempts)
            }
        }
    }
}
