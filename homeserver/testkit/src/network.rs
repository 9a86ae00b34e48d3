//! A network of servers in this process with faults that a test switches on: cut, silent and slow servers, and wrong answers.
//! Must not deliver transactions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use tokio::sync::Notify;
use weft_dag::{Pdu, Verified};
use weft_room::Rooms;
use weft_room_api::{PeerError, Peers};

use crate::peers::{Conduct, Link, LinkedPeers, Request, unreachable};

/// See the module.
#[derive(Default)]
pub struct MemoryNetwork {
    rooms: Mutex<BTreeMap<OwnedServerName, Rooms>>,
    /// Something happened that a waiting test may wait for.
    pub happened: Notify,
    /// The number of requests between servers.
    requests: AtomicU64,
    cut: AtomicBool,
    refuse_missing: AtomicBool,
    refuse_history: AtomicBool,
    redact_history: AtomicBool,
    /// Servers that accept requests and don't answer.
    silent: Mutex<BTreeSet<OwnedServerName>>,
    /// Servers whose answers don't arrive before the deadline of the request, and that deadline.
    slow: Mutex<HashMap<OwnedServerName, Duration>>,
    /// Requests that wait for silent servers now.
    unanswered: AtomicU64,
    responsive: Notify,
    /// The answer of a server to a request for the ancestors of these events: each has a gap before it.
    gaps: Mutex<HashMap<OwnedEventId, Arc<Pdu>>>,
}

/// A request that is counted until it is answered or cancelled.
struct Unanswered<'a>(&'a AtomicU64);

impl<'a> Unanswered<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "the names document the methods; no lock is poisoned"
)]
impl MemoryNetwork {
    /// The rooms of a server can be reached from now on.
    pub fn up(&self, name: &ServerName, rooms: Rooms) {
        self.rooms.lock().unwrap().insert(name.to_owned(), rooms);
    }

    /// A server can't be reached from now on.
    pub fn down(&self, name: &ServerName) {
        self.rooms.lock().unwrap().remove(name);
    }

    /// The requests of a server to the others. They end with the network.
    #[must_use]
    pub fn peers(self: &Arc<Self>) -> Arc<dyn Peers> {
        Arc::new(LinkedPeers(MemoryLink(Arc::downgrade(self))))
    }

    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub fn heal(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// From now on this server accepts requests and doesn't answer.
    pub fn silence(&self, server: &str) {
        self.silent.lock().unwrap().insert(server.try_into().unwrap());
    }

    /// From now on the answers of this server don't arrive before the deadline of each request.
    pub fn answer_slowly(&self, server: &str, deadline: Duration) {
        self.slow.lock().unwrap().insert(server.try_into().unwrap(), deadline);
    }

    /// Silent servers answer, also pending requests.
    pub fn answer_again(&self) {
        self.silent.lock().unwrap().clear();
        self.responsive.notify_waiters();
    }

    /// Requests that are not answered now.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The number of requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// For a request for the ancestors of one of these events, their server returns others of them, and no event of its
    /// room.
    pub fn answer_with_gaps(&self, events: &[Verified]) {
        let events = events
            .iter()
            .map(|event| (event.pdu().event_id().to_owned(), Arc::clone(event.pdu())));
        self.gaps.lock().unwrap().extend(events);
    }

    /// No server returns the history from before a join, neither by backfill nor event by event.
    pub fn refuse_history(&self, refuse: bool) {
        self.refuse_history.store(refuse, Ordering::Relaxed);
    }

    /// From now on backfill returns redacted copies, as for a server that must not see the content.
    pub fn redact_history(&self) {
        self.redact_history.store(true, Ordering::Relaxed);
    }

    pub fn refuse_missing_events(&self, refuse: bool) {
        self.refuse_missing.store(refuse, Ordering::Relaxed);
    }

    /// The events that the server returns as missing before others of them.
    fn gaps_before(&self, from: &ServerName, latest: &[OwnedEventId]) -> Vec<Arc<Pdu>> {
        let gaps = self.gaps.lock().unwrap();
        let asked = latest.iter().filter_map(|id| gaps.get(id));
        let before = asked.flat_map(|pdu| pdu.prev_events()).filter_map(|id| gaps.get(id));
        before
            .filter(|pdu| pdu.sender().server_name() == from)
            .cloned()
            .collect()
    }

    async fn until_responsive(&self, server: &ServerName) {
        let is_silent = || self.silent.lock().unwrap().contains(server);
        if !is_silent() {
            return;
        }
        let _unanswered = Unanswered::new(&self.unanswered);
        self.happened.notify_waiters();
        loop {
            let responsive = self.responsive.notified();
            tokio::pin!(responsive);
            responsive.as_mut().enable();
            if !is_silent() {
                return;
            }
            responsive.await;
        }
    }
}

/// Does not keep the network alive, whose rooms have it.
struct MemoryLink(Weak<MemoryNetwork>);

#[async_trait]
impl Link for MemoryLink {
    async fn reach(&self, server: &ServerName) -> Result<Rooms, PeerError> {
        let network = self
            .0
            .upgrade()
            .ok_or_else(|| unreachable(server, "the test is over"))?;
        network.requests.fetch_add(1, Ordering::Relaxed);
        network.until_responsive(server).await;
        let deadline = network.slow.lock().unwrap().get(server).copied();
        if let Some(deadline) = deadline {
            tokio::time::sleep(deadline).await;
            return Err(unreachable(server, "the answer is not complete in time"));
        }
        if network.is_cut() {
            return Err(unreachable(server, "cut"));
        }
        let rooms = network.rooms.lock().unwrap().get(server).cloned();
        rooms.ok_or_else(|| unreachable(server, "no such server"))
    }

    fn conduct(&self, server: &ServerName, request: Request<'_>) -> Conduct {
        let Some(network) = self.0.upgrade() else {
            return Conduct::Refuses;
        };
        let is_on = |fault: &AtomicBool| fault.load(Ordering::Relaxed);
        match request {
            Request::MissingEvents(latest) => {
                let gaps = network.gaps_before(server, latest);
                if !gaps.is_empty() {
                    Conduct::Substitutes(gaps)
                } else if is_on(&network.refuse_missing) {
                    Conduct::Refuses
                } else {
                    Conduct::Honest
                }
            }
            Request::Events(_) | Request::Backfill(_) if is_on(&network.refuse_history) => Conduct::Refuses,
            Request::Backfill(_) if is_on(&network.redact_history) => Conduct::Redacts,
            _ => Conduct::Honest,
        }
    }
}
