//! Fetching what events of other servers need: one task per room, separate from its worker.
//!
//! After the commit of its turn the worker names staged events whose `prev_events` or auth events are missing. The task
//! requests them from other servers and hands over complete sets in topological order, a portion at a time, each after
//! the commit of the previous one. The staged rows stay on disk until the worker has merged them: after a crash the
//! fetch starts again.
//!
//! A server that does not answer delays only the events that it sent: for each origin one fetch runs at a time. Must
//! not decide about events; a worker must not wait for it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use tokio::{
    sync::mpsc,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;
use weft_dag::{StateMap, Verified};
use weft_ingest::{
    Fetched, Portion, Want,
    gaps::{EventFetcher, Filled},
    memory::SharedMemory,
    sight::Sight,
};
use weft_room_api::{Lacks, Unavailable};
use weft_store::tables::rooms::STAGING;

use crate::{
    background::Outward,
    mailbox::LocalCommand,
    staging::{EVENTS_PER_COMMIT, read_row},
};

/// Events of a room that wait for their fetch. Others stay staged, and are named again when the worker next reads them.
const MAX_WANTS: usize = 400;
/// Of these, events of one origin: this leaves space for those of other servers.
const MAX_WANTS_OF_ONE: usize = 20;
/// Requests to a room's task that it has not received yet; it receives them at once.
const QUEUE: usize = 100;
/// Concurrent fetches of a room, each for an event of another origin.
const MAX_AT_ONCE: usize = 4;
/// How long the fetch for one event may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3 * 60);
/// How long a received membership event waits for what it needs: its server waits for the answer.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often an event is decided about with what was fetched for it.
pub(crate) const MAX_ROUNDS: usize = 3;
/// A task without work ends after this time, and its memory with it.
const LINGER: Duration = Duration::from_secs(5 * 60);

/// The fetchers of all rooms.
#[derive(Debug, Default)]
pub(crate) struct Fetchers {
    rooms: Mutex<HashMap<OwnedRoomId, RoomFetcher>>,
    stopping: CancellationToken,
}

#[derive(Debug, Clone)]
struct RoomFetcher {
    wants: mpsc::Sender<Want>,
    memory: Arc<SharedMemory>,
}

impl Fetchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, RoomFetcher>> {
        self.rooms.lock()
    }

    /// Ends all tasks, even those that wait. The events that they fetched for are still staged.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// The fetcher of a room. Starts one if none runs, or if the last one panicked.
    fn of<'a>(rooms: &'a mut HashMap<OwnedRoomId, RoomFetcher>, out: &Outward, room: &RoomId) -> &'a mut RoomFetcher {
        let start = || {
            let (wants, queue) = mpsc::channel(QUEUE);
            let memory = Arc::<SharedMemory>::default();
            let fetch = Fetch {
                out: out.clone(),
                room: room.to_owned(),
                memory: Arc::clone(&memory),
            };
            tokio::spawn(run(fetch, queue));
            RoomFetcher { wants, memory }
        };
        let fetcher = rooms.entry(room.to_owned()).or_insert_with(start);
        if fetcher.wants.is_closed() {
            *fetcher = start();
        }
        fetcher
    }

    /// Removes a room's fetcher, unless a request was sent to it meanwhile.
    fn end(&self, room: &RoomId, queue: &mpsc::Receiver<Want>) -> bool {
        let mut rooms = self.lock();
        // Requests are sent under this lock.
        if queue.is_empty() {
            rooms.remove(room);
        }
        queue.is_empty()
    }
}

/// Requests what these events need. A request that does not fit the queue stays staged.
pub(crate) fn want(out: &Outward, room: &RoomId, wants: Vec<Want>) {
    // Under the lock, so that the task can't end between finding it and sending the request.
    let mut rooms = out.tasks.fetchers.lock();
    let fetcher = Fetchers::of(&mut rooms, out, room);
    for want in wants {
        let _ = fetcher.wants.try_send(want);
    }
}

/// Fetches what a membership event of another server needs, and has the worker merge it. Returns the remote state
/// before the event, if it was requested. `None`: not available.
pub(crate) async fn fetch_for(
    out: &Outward,
    event: &Verified,
    origin: OwnedServerName,
    lacks: Lacks,
) -> Result<Option<FetchedFor>, Unavailable> {
    let room = event.pdu().room_id();
    let fetch = Fetch {
        out: out.clone(),
        room: room.to_owned(),
        memory: Arc::clone(&Fetchers::of(&mut out.tasks.fetchers.lock(), out, room).memory),
    };
    let fetched = timeout(ACCEPT_TIMEOUT, fetch.fetch_and_merge(event, &origin, lacks));
    fetched.await.unwrap_or(Ok(None))
}

/// The task of a room.
async fn run(fetch: Fetch, mut queue: mpsc::Receiver<Want>) {
    let (fetchers, stopping) = {
        let tasks = &fetch.out.tasks;
        (Arc::clone(tasks), tasks.fetchers.stopping.clone())
    };
    let mut plan = Plan::default();
    let mut running: FuturesUnordered<BoxFuture<'_, (u64, OwnedServerName)>> = FuturesUnordered::new();
    loop {
        while running.len() < MAX_AT_ONCE
            && let Some(want) = plan.next(&fetch.memory)
        {
            let fetch = &fetch;
            let done = (want.number, want.origin.clone());
            running.push(async move { fetch.one(want).map(|()| done).await }.boxed());
        }
        let is_idle = running.is_empty();
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            Some((number, origin)) = running.next(), if !is_idle => plan.done(number, &origin),
            want = queue.recv() => match want {
                Some(want) => plan.add(want),
                None => return,
            },
            () = tokio::time::sleep(LINGER), if is_idle => {
                if fetchers.fetchers.end(&fetch.room, &queue) {
                    return;
                }
            }
        }
    }
}

/// The order of fetches.
#[derive(Default)]
struct Plan {
    queue: VecDeque<Want>,
    /// Rows that are in the queue or whose fetch runs.
    rows: HashSet<u64>,
    /// Origins whose fetch runs.
    busy: BTreeSet<OwnedServerName>,
}

impl Plan {
    /// Queues a request, if there is space for it.
    fn add(&mut self, want: Want) {
        let of_origin = self.queue.iter().filter(|other| other.origin == want.origin).count();
        let has_room = self.queue.len() < MAX_WANTS && of_origin < MAX_WANTS_OF_ONE;
        if has_room && self.rows.insert(want.number) {
            self.queue.push_back(want);
        }
    }

    /// The oldest request of an origin for which no fetch runs; origins that do not answer come last.
    fn next(&mut self, memory: &SharedMemory) -> Option<Want> {
        let is_free = |want: &Want| !self.busy.contains(&want.origin);
        let answers = |want: &Want| is_free(want) && !memory.is_silent(&want.origin);
        let position = self.queue.iter().position(answers);
        let position = position.or_else(|| self.queue.iter().position(is_free))?;
        let want = self.queue.remove(position)?;
        self.busy.insert(want.origin.clone());
        Some(want)
    }

    fn done(&mut self, number: u64, origin: &OwnedServerName) {
        self.rows.remove(&number);
        self.busy.remove(origin);
    }
}

/// What was fetched for an event.
#[derive(Debug, Default)]
pub(crate) struct FetchedFor {
    /// The remote state before the event; `None` if all its `prev_events` are here.
    pub(crate) remote_state: Option<StateMap>,
}

/// The context of a room's fetches.
struct Fetch {
    out: Outward,
    room: OwnedRoomId,
    memory: Arc<SharedMemory>,
}

impl Fetch {
    /// Fetches what a staged event needs, and has the worker merge it and the event.
    async fn one(&self, want: Want) {
        let (number, origin) = (want.number, want.origin.clone());
        match timeout(FETCH_TIMEOUT, self.fetch_for_row(want)).await {
            Ok(Ok(())) | Ok(Err(Unavailable::Stopping)) => {}
            Ok(Err(error)) => {
                tracing::error!(
                    event = "room.fetch_failed", room = %self.room, number, %error,
                    "the missing events of a staged event can't be fetched"
                );
            }
            Err(_) => tracing::debug!(room = %self.room, number, %origin, "a fetch timed out; it is tried again"),
        }
    }

    async fn fetch_for_row(&self, want: Want) -> Result<(), Unavailable> {
        let shared = &self.out.shared;
        let Some(row) = shared.store.get(&STAGING, &(&self.room, want.number)).await? else {
            return Ok(());
        };
        let Some(version) = shared.reader.version(&self.room).await? else {
            return Ok(());
        };
        // The worker drops a row that can't be parsed.
        let Some((origin, _, event)) = read_row(row, &version) else {
            return Ok(());
        };
        let mut lacks = want.lacks;
        for _ in 0..MAX_ROUNDS {
            let Some(FetchedFor { remote_state }) = self.fetch_and_merge(&event, &origin, lacks).await? else {
                return Ok(());
            };
            let portion = Portion {
                outliers: Vec::new(),
                gap: remote_state.is_some().then(|| origin.clone()),
                events: vec![Fetched {
                    event: event.clone(),
                    remote_state,
                    rows: vec![want.number],
                }],
            };
            match self.hand_over(portion).await?.pop() {
                Some(still) => lacks = still,
                // Events that wait for this one can be merged now.
                None => return shared.send(&self.room, LocalCommand::Resume(want.number)).await,
            }
        }
        Ok(())
    }

    /// Fetches what an event needs, and has the worker merge that. `None`: not available at present.
    async fn fetch_and_merge(
        &self,
        event: &Verified,
        origin: &OwnedServerName,
        lacks: Lacks,
    ) -> Result<Option<FetchedFor>, Unavailable> {
        let shared = &self.out.shared;
        let Some(sight) = Sight::load(&shared.reader, &self.room).await? else {
            return Ok(None);
        };
        let ours = shared.identity.server_name();
        let mut fetcher = EventFetcher::new(&*self.out.tasks.peers, &self.memory, origin.clone(), ours);
        let filled = match lacks {
            Lacks::Prev => fetcher.fill(&sight, event).await?,
            Lacks::Auth(ids) => fetcher.fetch_auth(&sight, &ids).await?.map(Filled::of_outliers),
        };
        let Some(mut filled) = filled else { return Ok(None) };
        fetcher.add_auth(&sight, event, &mut filled).await?;
        let remote_state = filled.remote_states.remove(event.pdu().event_id());
        let rest = self.hand_over_all(filled.clone(), origin).await?;
        if !rest.is_empty() {
            // State resolution may need more of the auth chains than the events cite.
            let outliers = fetcher.fetch_auth(&sight, &rest).await?.unwrap_or_default();
            filled.outliers = outliers;
            self.hand_over_all(filled, origin).await?;
        }
        Ok(Some(FetchedFor { remote_state }))
    }

    /// Hands over everything that fills a gap, a portion at a time. Returns the auth events that are missing.
    async fn hand_over_all(&self, filled: Filled, origin: &OwnedServerName) -> Result<Vec<OwnedEventId>, Unavailable> {
        let Filled {
            events,
            mut remote_states,
            outliers,
        } = filled;
        let mut missing = Vec::new();
        for outliers in outliers.chunks(EVENTS_PER_COMMIT) {
            let portion = Portion {
                outliers: outliers.to_vec(),
                ..Portion::default()
            };
            self.hand_over(portion).await?;
        }
        for events in events.chunks(EVENTS_PER_COMMIT) {
            let events: Vec<Fetched> = events
                .iter()
                .map(|event| Fetched {
                    event: event.clone(),
                    remote_state: remote_states.remove(event.pdu().event_id()),
                    rows: Vec::new(),
                })
                .collect();
            let has_gap = events.iter().any(|event| event.remote_state.is_some());
            let portion = Portion {
                outliers: Vec::new(),
                gap: has_gap.then(|| origin.clone()),
                events,
            };
            for lacks in self.hand_over(portion).await? {
                if let Lacks::Auth(ids) = lacks {
                    missing.extend(ids);
                }
            }
        }
        Ok(missing)
    }

    /// One portion. Returns what its events still need when it is committed.
    async fn hand_over(&self, portion: Portion) -> Result<Vec<Lacks>, Unavailable> {
        let merge = |reply| LocalCommand::Merge(Box::new(portion), reply);
        self.out.shared.ask(&self.room, merge).await
    }
}

#[cfg(test)]
mod tests {
    use ruma::ServerName;

    use super::*;

    fn want(number: u64, origin: &str) -> Want {
        Want {
            number,
            origin: ServerName::parse(origin).unwrap(),
            lacks: Lacks::Prev,
        }
    }

    fn next(plan: &mut Plan) -> Option<u64> {
        plan.next(&SharedMemory::default()).map(|want| want.number)
    }

    #[test]
    fn the_events_of_one_server_leave_space_for_those_of_others() {
        let mut plan = Plan::default();
        (0..1_000).for_each(|number| plan.add(want(number, "flood.example")));
        plan.add(want(1_000, "a.example"));
        assert_eq!(plan.queue.len(), MAX_WANTS_OF_ONE + 1);
        assert_eq!(next(&mut plan), Some(0));
        assert_eq!(next(&mut plan), Some(1_000), "a fetch of the first origin runs");
        assert_eq!(next(&mut plan), None);
        plan.done(0, &want(0, "flood.example").origin);
        assert_eq!(next(&mut plan), Some(1));
    }

    #[test]
    fn one_fetch_runs_per_event() {
        let mut plan = Plan::default();
        for _ in 0..3 {
            plan.add(want(7, "a.example"));
        }
        assert_eq!(next(&mut plan), Some(7));
        plan.add(want(7, "a.example"));
        plan.done(7, &want(7, "a.example").origin);
        assert_eq!(next(&mut plan), None);
        plan.add(want(7, "a.example"));
        assert_eq!(next(&mut plan), Some(7), "it is named again if it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn events_of_an_unresponsive_server_are_fetched_last() {
        let (mut plan, memory) = (Plan::default(), SharedMemory::default());
        plan.add(want(1, "silent.example"));
        plan.add(want(2, "a.example"));
        for _ in 0..2 {
            memory.note_answer(&want(1, "silent.example").origin, false);
        }
        let mut next = || plan.next(&memory).map(|want| want.number);
        assert_eq!((next(), next()), (Some(2), Some(1)));
    }
}
