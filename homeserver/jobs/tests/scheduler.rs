//! The scheduler over the memory engine, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use weft_clock::{Clock, millis, testing::RuntimeClock};
use weft_jobs::{Job, JobHandler, JobWaker, KindLimits, Outcome, Scheduler, SchedulerConfig, request, withdraw};
use weft_store::{
    Batch, CommitError, Lane, Store,
    memory::{MemoryDisk, Tail},
    tables::jobs::{DUE_JOBS, JOBS},
};

const LANE: Lane = Lane::FIRST;
const LIMITS: KindLimits = KindLimits {
    at_once: 2,
    first_pause: Duration::from_secs(10),
    longest_pause: Duration::from_secs(100),
    deadline: Duration::from_secs(1_000),
};

/// A handler that records its runs and returns the outcomes that the test has set for a key; otherwise it is done.
struct Recorder {
    kind: &'static str,
    runs: Mutex<Vec<(String, u32)>>,
    outcomes: Mutex<BTreeMap<String, Vec<Outcome>>>,
    /// A run waits for a permit.
    gate: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Recorder {
    fn new(kind: &'static str) -> Arc<Self> {
        Arc::new(Self {
            kind,
            runs: Mutex::default(),
            outcomes: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// Runs wait until the test opens the gate.
    fn closed(kind: &'static str) -> Arc<Self> {
        let mut recorder = Self::new(kind);
        Arc::get_mut(&mut recorder).unwrap().gate = Semaphore::new(0);
        recorder
    }

    fn returns(&self, key: &str, outcomes: impl IntoIterator<Item = Outcome>) {
        self.outcomes
            .lock()
            .unwrap()
            .insert(key.to_owned(), outcomes.into_iter().collect());
    }

    fn runs(&self) -> Vec<(String, u32)> {
        self.runs.lock().unwrap().clone()
    }

    fn keys(&self) -> Vec<String> {
        self.runs().into_iter().map(|(key, _)| key).collect()
    }
}

#[async_trait]
impl JobHandler for Recorder {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn limits(&self) -> KindLimits {
        LIMITS
    }

    async fn run(&self, job: &Job) -> Outcome {
        self.runs.lock().unwrap().push((job.key.clone(), job.attempts()));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        assert_ne!(job.payload(), "panic", "a panic that the test requested");
        let mut outcomes = self.outcomes.lock().unwrap();
        let left = outcomes.get_mut(&job.key).filter(|left| !left.is_empty());
        left.map_or(Outcome::Done, |left| left.remove(0))
    }
}

struct World {
    disk: MemoryDisk,
    store: Store,
    clock: Arc<RuntimeClock>,
    scheduler: Scheduler,
    waker: JobWaker,
}

impl World {
    async fn new(handlers: &[&Arc<Recorder>]) -> Self {
        Self::on(
            MemoryDisk::new(),
            Arc::new(RuntimeClock::starting_at(1_700_000_000_000)),
            handlers,
        )
        .await
    }

    async fn on(disk: MemoryDisk, clock: Arc<RuntimeClock>, handlers: &[&Arc<Recorder>]) -> Self {
        let store = Store::open(disk.open()).await.unwrap();
        Self::with(disk, store, clock, handlers)
    }

    /// Another process that takes the lanes of this one, which goes on.
    async fn take_over(&self, handlers: &[&Arc<Recorder>]) -> Self {
        let store = Store::open(self.disk.attach()).await.unwrap();
        Self::with(self.disk.clone(), store, Arc::clone(&self.clock), handlers)
    }

    fn with(disk: MemoryDisk, store: Store, clock: Arc<RuntimeClock>, handlers: &[&Arc<Recorder>]) -> Self {
        let waker = JobWaker::default();
        let config = SchedulerConfig {
            store: store.clone(),
            clock: clock.clone(),
            random: || 0,
            lanes: vec![LANE],
            at_once: 3,
            waker: waker.clone(),
        };
        let handlers = handlers
            .iter()
            .map(|handler| Arc::clone(handler) as Arc<dyn JobHandler>)
            .collect();
        let scheduler = Scheduler::start(config, handlers);
        Self {
            disk,
            store,
            clock,
            scheduler,
            waker,
        }
    }

    /// A power loss and a restart.
    async fn restarted(self, handlers: &[&Arc<Recorder>]) -> Self {
        self.scheduler.stop(Duration::ZERO).await;
        self.disk.power_loss(Tail::Lost);
        Self::on(self.disk.clone(), Arc::clone(&self.clock), handlers).await
    }

    fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    async fn request(&self, kind: &str, key: &str, after: Duration) {
        self.request_with(kind, key, after, "").await;
    }

    async fn request_with(&self, kind: &str, key: &str, after: Duration, payload: &str) {
        let mut batch = Batch::new();
        let due = self.now() + u64::try_from(after.as_millis()).unwrap();
        request(&mut batch, LANE, (kind, key), due, payload);
        self.store.commit(batch).await.unwrap();
        self.waker.wake();
    }

    async fn rows(&self) -> (usize, usize) {
        let jobs = self.store.scan_all(JOBS.under(&(LANE,))).await.unwrap().len();
        (jobs, self.store.scan_all(DUE_JOBS.under(&(LANE,))).await.unwrap().len())
    }
}

/// Lets everything happen that is due within this time.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds) + Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_once_when_it_is_due_and_leaves_no_row() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "now", Duration::ZERO).await;
    world.request("a", "later", Duration::from_secs(300)).await;
    pass(1).await;
    assert_eq!(handler.keys(), ["now"]);
    pass(298).await;
    assert_eq!(handler.keys(), ["now"]);
    pass(2).await;
    assert_eq!(handler.keys(), ["now", "later"]);
    pass(1_000).await;
    assert_eq!((handler.runs().len(), world.rows().await), (2, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_job_survives_a_restart() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "x", Duration::from_secs(300)).await;
    pass(100).await;
    let world = world.restarted(&[&handler]).await;
    pass(198).await;
    assert!(handler.runs().is_empty());
    pass(2).await;
    assert_eq!(handler.keys(), ["x"]);
    assert_eq!(world.rows().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_work_is_queued_once_and_its_newest_time_counts() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    for seconds in [300, 200, 100, 500] {
        world.request("a", "x", Duration::from_secs(seconds)).await;
    }
    pass(499).await;
    assert!(handler.runs().is_empty());
    assert_eq!(world.rows().await, (1, 1), "obsolete entries are removed");
    pass(2).await;
    assert_eq!(handler.keys(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn work_requested_while_its_job_runs_is_not_lost() {
    let handler = Recorder::closed("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "x", Duration::ZERO).await;
    pass(1).await;
    world.request("a", "x", Duration::ZERO).await;
    pass(1).await;
    assert_eq!(handler.runs().len(), 1, "one run of a job at a time");
    handler.gate.add_permits(1);
    pass(1).await;
    assert_eq!(handler.runs().len(), 2);
    handler.gate.add_permits(1);
    pass(1).await;
    assert_eq!((handler.runs().len(), world.rows().await), (2, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_kind_at_its_limit_does_not_delay_another() {
    let (slow, quick) = (Recorder::closed("slow"), Recorder::new("quick"));
    let world = World::new(&[&slow, &quick]).await;
    for number in 0..20 {
        world.request("slow", &format!("{number:02}"), Duration::ZERO).await;
    }
    world.request("quick", "x", Duration::ZERO).await;
    pass(1).await;
    assert_eq!(
        (slow.keys(), quick.keys()),
        (vec!["00".to_owned(), "01".to_owned()], vec!["x".to_owned()])
    );
    let figures = world.scheduler.figures().await.unwrap();
    assert_eq!(
        (figures[0].kind, figures[0].queued, figures[0].running),
        ("slow", 20, 2)
    );
    assert_eq!(
        (figures[1].queued, figures[1].done, figures[1].oldest_due),
        (0, 1, None)
    );
    assert!(figures[0].oldest_due.is_some_and(|due| due <= world.now()));
    slow.gate.add_permits(20);
    pass(1).await;
    assert_eq!((slow.runs().len(), slow.most.load(Ordering::SeqCst)), (20, 2));
    assert_eq!(world.rows().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_kinds_together_have_a_limit() {
    let handlers = [Recorder::closed("a"), Recorder::closed("b")];
    let world = World::new(&[&handlers[0], &handlers[1]]).await;
    for kind in ["a", "b"] {
        for key in ["1", "2"] {
            world.request(kind, key, Duration::ZERO).await;
        }
    }
    pass(1).await;
    let started = || handlers.iter().map(|handler| handler.runs().len()).sum::<usize>();
    assert_eq!(started(), 3);
    handlers[0].gate.add_permits(1);
    pass(1).await;
    assert_eq!(started(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_is_repeated_after_growing_pauses_also_after_a_restart() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    let failed = || Outcome::Failed {
        reason: "unreachable".to_owned(),
    };
    handler.returns("x", std::iter::repeat_with(failed).take(3));
    world.request("a", "x", Duration::ZERO).await;
    // Eight tenths of 10, 20 and 40 s.
    pass(7).await;
    assert_eq!(handler.runs().len(), 1);
    pass(1).await;
    assert_eq!(handler.runs().len(), 2);
    let world = world.restarted(&[&handler]).await;
    pass(15).await;
    assert_eq!(handler.runs().len(), 2);
    pass(1).await;
    pass(32).await;
    let attempts: Vec<u32> = handler.runs().into_iter().map(|(_, attempts)| attempts).collect();
    assert_eq!(attempts, [0, 1, 2, 3]);
    assert_eq!(world.rows().await, (0, 0));
    // A new request does not wait for the pause of an earlier failure.
    handler.returns("y", [failed()]);
    world.request("a", "y", Duration::ZERO).await;
    pass(1).await;
    world.request("a", "y", Duration::ZERO).await;
    pass(1).await;
    assert_eq!(handler.runs()[4..], [("y".to_owned(), 0), ("y".to_owned(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_affects_no_other_job() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    world.request_with("a", "bad", Duration::ZERO, "panic").await;
    world.request("a", "good", Duration::ZERO).await;
    pass(1).await;
    assert_eq!(handler.keys(), ["bad", "good"]);
    assert_eq!(world.rows().await, (1, 1));
    let figures = world.scheduler.figures().await.unwrap();
    assert_eq!((figures[0].done, figures[0].failed, figures[0].running), (1, 1, 0));
    pass(9).await;
    assert_eq!(handler.runs()[2], ("bad".to_owned(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_more_to_do_runs_again_without_a_failure() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    let again = Outcome::Again {
        after: Duration::from_secs(5),
    };
    handler.returns("x", [again]);
    world.request("a", "x", Duration::ZERO).await;
    pass(4).await;
    assert_eq!(handler.runs().len(), 1);
    pass(1).await;
    assert_eq!(handler.runs(), [("x".to_owned(), 0), ("x".to_owned(), 0)]);
    assert_eq!(world.rows().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_interrupted_runs_again_after_the_next_start() {
    let handler = Recorder::closed("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "x", Duration::ZERO).await;
    pass(1).await;
    let world = world.restarted(&[&handler]).await;
    pass(1).await;
    assert_eq!(handler.runs().len(), 2);
    handler.gate.add_permits(1);
    pass(1).await;
    assert_eq!(world.rows().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_running_jobs_and_starts_none() {
    let handler = Recorder::closed("a");
    let world = World::new(&[&handler]).await;
    for key in ["1", "2", "3"] {
        world.request("a", key, Duration::ZERO).await;
    }
    pass(1).await;
    let stopping = tokio::spawn({
        let scheduler = world.scheduler.clone();
        async move { scheduler.stop(Duration::from_secs(60)).await }
    });
    pass(1).await;
    handler.gate.add_permits(2);
    stopping.await.unwrap();
    assert_eq!((handler.runs().len(), world.rows().await), (2, (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_job_does_not_run() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "x", Duration::from_secs(10)).await;
    let mut batch = Batch::new();
    withdraw(&mut batch, LANE, ("a", "x"));
    world.store.commit(batch).await.unwrap();
    pass(100).await;
    assert_eq!((handler.runs().len(), world.rows().await), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_unknown_kind_stay() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    world.request("of a newer program", "x", Duration::ZERO).await;
    pass(1_000).await;
    assert_eq!(world.rows().await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_missing_wake_up_delays_a_job_by_a_minute_at_most() {
    let handler = Recorder::new("a");
    let world = World::new(&[&handler]).await;
    pass(1).await;
    let mut batch = Batch::new();
    request(&mut batch, LANE, ("a", "x"), world.now(), "");
    world.store.commit(batch).await.unwrap();
    pass(60).await;
    assert_eq!(handler.keys(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_exceeds_its_deadline_has_failed() {
    let handler = Recorder::closed("a");
    let world = World::new(&[&handler]).await;
    world.request("a", "x", Duration::ZERO).await;
    pass(999).await;
    assert_eq!(handler.runs(), [("x".to_owned(), 0)]);
    pass(1).await;
    let figures = world.scheduler.figures().await.unwrap();
    assert_eq!((figures[0].running, figures[0].failed), (0, 1));
    handler.gate.add_permits(1);
    pass(20).await;
    assert_eq!(handler.runs()[1], ("x".to_owned(), 1));
    assert_eq!(world.rows().await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_lane_with_another_owner_are_dropped_and_stay_for_it() {
    let handler = Recorder::closed("a");
    let world = World::new(&[&handler]).await;
    for key in ["1", "2", "3"] {
        world.request("a", key, Duration::ZERO).await;
    }
    pass(1).await;
    assert_eq!(world.scheduler.figures().await.unwrap()[0].running, 2);
    let other = world.take_over(&[&Recorder::closed("a")]).await;
    // The first commit of the earlier owner shows that the lane has another owner.
    let mut batch = Batch::new();
    request(&mut batch, LANE, ("a", "4"), world.now(), "");
    assert!(matches!(
        world.store.commit(batch).await,
        Err(CommitError::LaneLost { .. })
    ));
    world.waker.wake();
    pass(1).await;
    assert_eq!(world.scheduler.figures().await.unwrap()[0].running, 0);
    handler.gate.add_permits(10);
    pass(1_000).await;
    assert_eq!(handler.runs().len(), 2, "nothing more is started");
    assert_eq!(other.rows().await.0, 3);
}
