//! Runs the jobs that are due: at most so many of a kind, and so many in all. One task reads what is due; each job runs in
//! a task of its own and replaces its row when it has run.
//!
//! Must not hold anything that must survive a crash: that is in the rows.

mod figures;
mod run;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify, watch},
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use weft_clock::{Clock, millis};
use weft_store::{
    CommitError, Lane, ReadError, Store,
    tables::jobs::{DUE_JOBS, JOBS},
};

use crate::{Job, JobHandler, queue};
use figures::Counters;

pub use figures::KindFigures;

/// The longest time without reading what is due: bounds the effect of a wake-up that was omitted, and of a clock that was
/// set.
const SWEEP: Duration = Duration::from_secs(60);

/// What a scheduler works with.
pub struct SchedulerConfig {
    /// The rows.
    pub store: Store,
    /// The time of day, in which jobs are due.
    pub clock: Arc<dyn Clock>,
    /// Any number; spreads the pauses after failures.
    pub random: fn() -> u64,
    /// The lanes whose jobs this process does.
    pub lanes: Vec<Lane>,
    /// Jobs that run at a time, of all kinds.
    pub at_once: usize,
    /// Requests wake the scheduler with this.
    pub waker: JobWaker,
}

/// Wakes a scheduler after a request is committed. Cheap to clone; may be created before the scheduler.
#[derive(Debug, Clone, Default)]
pub struct JobWaker(Arc<Notify>);

impl JobWaker {
    /// A job was requested, and its batch is committed. Returns at once.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// See the module. Cheap to clone. When the last clone is dropped, running jobs are dropped too.
#[derive(Clone)]
pub struct Scheduler {
    inner: Arc<Inner>,
    /// When running jobs are dropped.
    stopping: Arc<watch::Sender<Option<Instant>>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Inner {
    config: SchedulerConfig,
    kinds: Vec<Kind>,
}

struct Kind {
    handler: Arc<dyn JobHandler>,
    counters: Counters,
}

/// Identifies a running job: lane, index of the kind, key.
type Running = (Lane, usize, String);

/// The running jobs, each with what drops it.
type RunningJobs = HashMap<Running, AbortHandle>;

/// Why rows can't be processed.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Scheduler {
    /// Starts a scheduler with a handler for each kind. Rows of other kinds stay.
    #[must_use]
    pub fn start(config: SchedulerConfig, handlers: Vec<Arc<dyn JobHandler>>) -> Self {
        let kind = |handler| Kind {
            handler,
            counters: Counters::default(),
        };
        let inner = Arc::new(Inner {
            config,
            kinds: handlers.into_iter().map(kind).collect(),
        });
        let (stopping, stop) = watch::channel(None);
        let task = tokio::spawn(Arc::clone(&inner).serve(stop));
        Self {
            inner,
            stopping: Arc::new(stopping),
            task: Arc::new(Mutex::new(Some(task))),
        }
    }

    /// The figures of each kind.
    ///
    /// # Errors
    /// The rows can't be read.
    pub async fn figures(&self) -> Result<Vec<KindFigures>, ReadError> {
        self.inner.figures().await
    }

    /// Starts no further job, and waits until the running ones have ended, at most for `grace`. The others are dropped and
    /// run again after the next start.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.send_replace(Some(Instant::now() + grace));
        if let Some(task) = self.task.lock().await.take() {
            // An error is a panic of the task, which has ended then.
            let _ = task.await;
        }
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, mut stopping: watch::Receiver<Option<Instant>>) {
        let (mut tasks, mut running) = (JoinSet::new(), RunningJobs::new());
        loop {
            let next = match self.dispatch(&mut tasks, &mut running).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(event = "jobs.unreadable", %error, "jobs can't be read or started");
                    Instant::now() + SWEEP
                }
            };
            tokio::select! {
                changed = stopping.changed() => {
                    let until = changed.is_ok().then(|| *stopping.borrow()).flatten();
                    return end(tasks, until.unwrap_or_else(Instant::now)).await;
                }
                () = self.config.waker.0.notified() => {}
                Some(ended) = tasks.join_next() => forget(&mut running, ended),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Starts what is due and fits the limits; returns when the next job is due.
    async fn dispatch(
        self: &Arc<Self>,
        tasks: &mut JoinSet<Running>,
        running: &mut RunningJobs,
    ) -> Result<Instant, QueueError> {
        let mut next = Instant::now() + SWEEP;
        for lane in &self.config.lanes {
            if self.config.store.positions().in_lane(*lane).is_lost() {
                drop_jobs_of(*lane, running);
                continue;
            }
            for index in 0..self.kinds.len() {
                let due = self.dispatch_kind((*lane, index), tasks, running).await?;
                next = due.map_or(next, |due| due.min(next));
            }
        }
        Ok(next)
    }

    async fn dispatch_kind(
        self: &Arc<Self>,
        (lane, index): (Lane, usize),
        tasks: &mut JoinSet<Running>,
        running: &mut RunningJobs,
    ) -> Result<Option<Instant>, QueueError> {
        let Some(kind) = self.kinds.get(index) else {
            return Ok(None);
        };
        let name = kind.handler.kind();
        let mut free = self.free(index, running);
        let mut after = None;
        while free > 0 {
            // Running jobs have entries too, and must not hide others.
            let limit = free + running.len();
            let mut query = DUE_JOBS.under(&(lane, name));
            if let Some((due, key)) = &after {
                query = query.after(&(lane, name, *due, key));
            }
            let entries = self.config.store.scan(query.limit(limit)).await?;
            let is_last = entries.len() < limit;
            for ((_, _, due, key), ()) in entries {
                let wait = due.saturating_sub(millis(self.config.clock.now()));
                if wait > 0 {
                    return Ok(Some(Instant::now() + Duration::from_millis(wait).min(SWEEP)));
                }
                after = Some((due, key.clone()));
                let id = (lane, index, key);
                if running.contains_key(&id) || free == 0 {
                    continue;
                }
                if let Some(job) = self.job((lane, name), due, &id.2).await? {
                    free -= 1;
                    let task = tasks.spawn(Arc::clone(self).run(id.clone(), job));
                    running.insert(id, task);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(None)
    }

    /// How many jobs of a kind may be started.
    fn free(&self, index: usize, running: &RunningJobs) -> usize {
        let at_once = self.kinds.get(index).map_or(0, |kind| kind.handler.limits().at_once);
        let of_kind = running.keys().filter(|(_, kind, _)| *kind == index).count();
        let free = at_once.saturating_sub(of_kind);
        free.min(self.config.at_once.saturating_sub(running.len()))
    }

    /// The job of an entry. An obsolete entry is removed.
    async fn job(&self, (lane, kind): (Lane, &str), due: u64, key: &str) -> Result<Option<Job>, QueueError> {
        let store = &self.config.store;
        let row = store.get(&JOBS, &(lane, kind, key)).await?;
        if let Some(row) = row.clone().filter(|row| row.due == due) {
            return Ok(Some(Job {
                key: key.to_owned(),
                row,
            }));
        }
        match store.commit(queue::forget(lane, kind, (due, key), row.as_ref())).await {
            // Requested again meanwhile, possibly for the same time: the entry is read again.
            Ok(()) | Err(CommitError::Fence { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Another process has the lane and runs its jobs: what they would write here is refused anyway.
fn drop_jobs_of(lane: Lane, running: &mut RunningJobs) {
    running.retain(|(of, _, _), task| {
        let is_kept = *of != lane;
        if !is_kept {
            task.abort();
        }
        is_kept
    });
}

fn forget(running: &mut RunningJobs, ended: Result<Running, tokio::task::JoinError>) {
    // The tasks catch panics of the handlers. A job that was dropped is no longer listed.
    if let Ok(id) = ended {
        running.remove(&id);
    }
}

/// Waits for the running jobs until a time, then drops them.
async fn end(mut tasks: JoinSet<Running>, until: Instant) {
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    if timeout_at(until, all_ended).await.is_err() {
        tracing::info!(
            jobs = tasks.len(),
            "jobs are interrupted and run again after the next start"
        );
        tasks.shutdown().await;
    }
}
