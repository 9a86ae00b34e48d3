//! The entry point of the crate: accepts commands and finds the workers.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedUserId, RoomId};
use weft_budget::{DailyBudget, StoredBudget};
use weft_jobs::{JobWaker, KindFigures, Scheduler};
use weft_room_api::{Identity, Ports, RoomCommand, RoomError, RoomReply, RoomRouter, Unavailable};
use weft_room_read::Reader;
use weft_store::Store;
use weft_wire::limits::{
    MAX_EVENT_BYTES_PER_USER_AND_DAY, MAX_FETCHED_HISTORY_BYTES, MAX_FETCHED_HISTORY_BYTES_PER_ROOM,
    MAX_PARTICIPANTS_PER_DOCUMENT, MAX_STAGED_BYTES_PER_ROOM,
};

use crate::{
    EditRates, InvitationBounds,
    background::{Outward, Tasks},
    jobs,
    registry::Shared,
    router::LocalRouter,
};

/// Calls of a room that moves between processes. A move takes a fraction of a second.
const MAX_CALLS: u32 = 8;
/// The delay before the second call, which grows by itself with each further one: 2.8 s in all.
const CALL_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Times and limits of the write path.
#[derive(Debug, Clone)]
pub struct RoomConfig {
    /// A seal follows the last edit after this time.
    pub seal_idle: Duration,
    /// A seal follows the first unsealed edit after this time at most.
    pub seal_max: Duration,
    /// A seal follows the first unsealed edit after this time while a user of another server is live.
    pub seal_remote: Duration,
    /// How long a call of `remote_presence` has effect.
    pub remote_presence: Duration,
    /// A worker without work ends after this time; the room is loaded again when needed.
    pub idle_eviction: Duration,
    /// The text of a document that was neither edited nor requested from its worker for this time leaves memory; it is
    /// loaded again when needed.
    pub text_eviction: Duration,
    /// Updates after a document's snapshot above which a new one is written: opening is quick then.
    pub snapshot_after: u64,
    /// Updates between two checkpoints of a document, at most; the text at any event costs the nearest checkpoint and
    /// what is between.
    pub checkpoint_after: u64,
    /// Commands that may wait for one room.
    pub mailbox: usize,
    /// Limits of open invitations to, and knocks on, rooms that this server is not in.
    pub invitations: InvitationBounds,
    /// Any number; spreads the times at which failed jobs are repeated.
    pub random: fn() -> u64,
    /// Bytes of events and live edits that are accepted from one user in a day.
    pub event_bytes_per_user_and_day: u64,
    /// How often a document may be edited; `None`: without a limit.
    pub edit_rates: Option<EditRates>,
    /// Users of a document, joined and invited, above which this server's users can invite nobody and can't join.
    pub participants_per_document: usize,
    /// Bytes of staged events of one room.
    pub staged_bytes_per_room: u64,
    /// Bytes of fetched events of one room that are not decided yet.
    pub fetched_history_bytes_per_room: u64,
    /// The same of all rooms.
    pub fetched_history_bytes: u64,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            seal_idle: Duration::from_secs(2),
            seal_max: Duration::from_secs(5),
            seal_remote: Duration::from_millis(50),
            remote_presence: Duration::from_secs(60),
            idle_eviction: Duration::from_secs(300),
            text_eviction: Duration::from_secs(60),
            snapshot_after: 256,
            checkpoint_after: 500,
            mailbox: 256,
            invitations: InvitationBounds::default(),
            random: || 0,
            event_bytes_per_user_and_day: MAX_EVENT_BYTES_PER_USER_AND_DAY,
            edit_rates: None,
            participants_per_document: MAX_PARTICIPANTS_PER_DOCUMENT,
            staged_bytes_per_room: MAX_STAGED_BYTES_PER_ROOM,
            fetched_history_bytes_per_room: MAX_FETCHED_HISTORY_BYTES_PER_ROOM,
            fetched_history_bytes: MAX_FETCHED_HISTORY_BYTES,
        }
    }
}

/// All rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    pub(crate) shared: Arc<Shared>,
    /// The way to the rooms, for commands.
    pub(crate) router: Arc<dyn RoomRouter>,
    /// The tasks that request data from other servers, separate from the workers.
    pub(crate) tasks: Arc<Tasks>,
    /// Runs the durable jobs.
    scheduler: Scheduler,
}

impl Rooms {
    /// Creates the entry point. No worker runs before it is needed; call [`Rooms::recover`] before serving.
    #[must_use]
    pub fn start(config: RoomConfig, store: Store, identity: Arc<dyn Identity>, ports: Ports) -> Self {
        let Ports { changes, peers, clock } = ports;
        let waker = JobWaker::default();
        let tasks = Arc::new(Tasks::new(peers, waker.clone()));
        let background = Arc::clone(&tasks);
        let shared = Arc::new(Shared::new(config, store, identity, (changes, clock), background));
        let scheduler = jobs::start(&tasks.outward(&shared), waker);
        Self {
            router: Arc::new(LocalRouter(Arc::clone(&shared))),
            shared,
            tasks,
            scheduler,
        }
    }

    pub(crate) fn outward(&self) -> Outward {
        Outward {
            shared: Arc::clone(&self.shared),
            tasks: Arc::clone(&self.tasks),
        }
    }

    /// Seals all pending edits and ends the workers. Further commands are refused.
    pub async fn stop(&self) {
        // Jobs continue after the next start.
        self.scheduler.stop(Duration::ZERO).await;
        self.shared.stop().await;
    }

    /// The figures of the durable jobs, for the operator.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn job_figures(&self) -> Result<Vec<KindFigures>, Unavailable> {
        Ok(self.scheduler.figures().await?)
    }

    /// Reads of all rooms.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// The budget of bytes that users send in a day, for metrics.
    #[must_use]
    pub fn event_bytes(&self) -> &Arc<DailyBudget<OwnedUserId>> {
        &self.shared.event_bytes
    }

    /// The budget of bytes of staged events, for metrics.
    #[must_use]
    pub fn staged_bytes(&self) -> &Arc<StoredBudget> {
        self.shared.staged.budget()
    }

    /// The number of rooms that have a worker now.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shared.running()
    }

    /// The number of documents whose text is in memory now.
    #[must_use]
    pub fn texts_in_memory(&self) -> usize {
        self.shared.texts_in_memory()
    }

    /// Puts another router between the callers and the rooms of this process: one that knows other processes.
    #[must_use]
    pub fn routed(mut self, router: impl FnOnce(Arc<dyn RoomRouter>) -> Arc<dyn RoomRouter>) -> Self {
        self.router = router(self.router);
        self
    }

    /// Gives a command to a room and waits for its answer. Follows a room that moves to another process meanwhile: the
    /// one that was called has then done nothing.
    pub(crate) async fn call<T: TryFrom<RoomReply, Error = RoomError>>(
        &self,
        room: &RoomId,
        command: RoomCommand,
    ) -> Result<T, RoomError> {
        for attempt in 1..MAX_CALLS {
            match self.router.call(room, command.clone().into()).await {
                Err(RoomError::Unavailable(Unavailable::Moved)) => {
                    tracing::debug!(%room, attempt, "the room has moved; its new process is called");
                    tokio::time::sleep(CALL_AGAIN_AFTER * attempt).await;
                }
                answer => return answer?.try_into(),
            }
        }
        self.router.call(room, command.into()).await?.try_into()
    }
}
