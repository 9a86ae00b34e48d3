//! Filling gaps: events that an event follows or rests on, and that aren't here, are asked of other servers.
//!
//! Everything is bounded: rounds, events, questions in one drain. What was asked for in vain isn't asked for again for a
//! while, so that a server which makes up a thousand events costs no more than one (T18, T19). Must not decide about
//! events, only bring them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId};
use weft_dag::{StateMap, Verified};
use weft_wire::limits::{MAX_BACKFILL_EVENTS, MAX_EVENT_IDS_PER_REQUEST, MAX_GAP_EVENTS};

use crate::{
    PeerError, Peers, StateIds, Unavailable,
    ingest::{
        graph::Graph,
        order::{Links, order},
    },
    peer_selection::select_peers,
};

/// Questions about one room to other servers in [`REQUEST_WINDOW_MS`].
const MAX_REQUESTS: u32 = 60;
/// Milliseconds in which that many may be asked: as often as what waits is looked at again.
const REQUEST_WINDOW_MS: u64 = 30_000;
/// Other servers that are asked where the sender doesn't have it.
const MAX_OTHER_SERVERS: usize = 2;
/// How long an event that nobody had isn't asked for again, milliseconds.
const FORGET_AFTER_MS: u64 = 5 * 60 * 1_000;
/// Events that are remembered as not to be had. Above it, all are forgotten: it is a memory, not a promise.
const MAX_REMEMBERED: usize = 10_000;
/// Event of a state that is fetched where a gap can't be filled: the state of a room of 10,000 members.
const MAX_STATE_EVENTS: usize = 20_000;

/// What was asked for in vain, and when. Belongs to a room's worker and may be lost at any time.
#[derive(Debug, Default)]
pub(crate) struct NegativeCache {
    events: HashMap<OwnedEventId, MilliSecondsSinceUnixEpoch>,
    /// Staged rows that wait, as far as is known, and the last one that was looked at.
    waiting: usize,
    looked_at: u64,
    timer: Timer,
    /// Times that others than the sender might have been asked: each time it is others' turn.
    attempt: usize,
    /// Questions asked since then.
    asked: u32,
    since: u64,
}

/// The timer after which what waits is looked at again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timer {
    set: Arc<AtomicBool>,
    rung: Arc<AtomicBool>,
}

impl Timer {
    /// The time has come.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.set.store(false, Ordering::Release);
    }
}

/// So many rows that wait are looked at each time something comes, which may be what they wait for. If there are more,
/// only when the timer rings: a thousand events that nobody can place must not make each good one dear (T19).
const FEW: usize = 100;

impl NegativeCache {
    fn remember(&mut self, id: OwnedEventId, now: MilliSecondsSinceUnixEpoch) {
        if self.events.len() >= MAX_REMEMBERED {
            self.events.clear();
        }
        self.events.insert(id, now);
    }

    /// After which row a drain begins.
    pub(crate) fn begin(&self) -> u64 {
        let rung = self.timer.rung.swap(false, Ordering::AcqRel);
        if rung || self.waiting <= FEW { 0 } else { self.looked_at }
    }

    /// Notes what a drain has found; true where rows wait.
    pub(crate) fn end(&mut self, first: u64, last: u64, waiting: usize) -> bool {
        self.waiting = if first == 0 { waiting } else { self.waiting + waiting };
        self.looked_at = last;
        self.waiting > 0
    }

    /// The timer to set; None where it is set already.
    pub(crate) fn timer(&self) -> Option<Timer> {
        (!self.timer.set.swap(true, Ordering::AcqRel)).then(|| self.timer.clone())
    }

    fn recently(&self, id: &OwnedEventId, now: MilliSecondsSinceUnixEpoch) -> bool {
        let age = |at: &MilliSecondsSinceUnixEpoch| u64::from(now.get()).saturating_sub(u64::from(at.get()));
        self.events.get(id).is_some_and(|at| age(at) < FORGET_AFTER_MS)
    }
}

/// One drain's questions.
pub(crate) struct EventFetcher<'a> {
    peers: &'a dyn Peers,
    negative_cache: &'a mut NegativeCache,
    now: MilliSecondsSinceUnixEpoch,
    /// Somebody could not be reached or was not asked: that an event was not to be had means nothing then.
    unsure: bool,
}

/// What came of trying to fill a gap.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// Events to decide about before the one with the gap, in order.
    pub(crate) events: Vec<Verified>,
    /// For events whose past nobody would give, the state before them as it was told; its events come in `outliers`.
    pub(crate) remote_states: BTreeMap<OwnedEventId, StateMap>,
    /// Events known only as part of a state, in the order of their citations.
    pub(crate) outliers: Vec<Verified>,
}

impl<'a> EventFetcher<'a> {
    pub(crate) fn new(
        peers: &'a dyn Peers,
        negative_cache: &'a mut NegativeCache,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        Self {
            peers,
            negative_cache,
            now,
            unsure: false,
        }
    }

    /// Remembers what nobody had.
    fn remember(&mut self, ids: impl IntoIterator<Item = OwnedEventId>) {
        for id in ids.into_iter().filter(|_| !self.unsure) {
            self.negative_cache.remember(id, self.now);
        }
    }

    /// The events of an answer that are of this room (T35).
    fn useful(&mut self, room: &RoomId, answer: Result<Vec<Verified>, PeerError>, what: &str) -> Vec<Verified> {
        match answer {
            Ok(events) => events
                .into_iter()
                .filter(|event| event.pdu().room_id() == room)
                .collect(),
            Err(error) => {
                self.unsure |= matches!(error, PeerError::Unreachable { .. });
                tracing::debug!(%room, %error, what, "another server could not help");
                Vec::new()
            }
        }
    }

    /// Whether one more may be asked; counts it.
    fn may_ask(&mut self) -> bool {
        let now = u64::from(self.now.get());
        if now.saturating_sub(self.negative_cache.since) >= REQUEST_WINDOW_MS {
            self.negative_cache.since = now;
            self.negative_cache.asked = 0;
        }
        let may = self.negative_cache.asked < MAX_REQUESTS;
        self.negative_cache.asked = self.negative_cache.asked.saturating_add(u32::from(may));
        self.unsure |= !may;
        may
    }

    /// Whom to ask this time: who sent the event, then others in the room.
    fn servers(&mut self, graph: &impl Graph, origin: &OwnedServerName, us: &OwnedServerName) -> Vec<OwnedServerName> {
        let attempt = self.negative_cache.attempt;
        self.negative_cache.attempt = attempt.wrapping_add(1);
        let others = select_peers(graph.servers(), &[origin, us], attempt, MAX_OTHER_SERVERS);
        let origin = std::iter::once(origin.clone()).filter(|server| server != us);
        origin.chain(others).collect()
    }

    /// Brings what lies between our ends of the graph and an event; where it can't be had, the state there.
    /// None: not to be had at present.
    pub(crate) async fn fill(
        &mut self,
        graph: &impl Graph,
        event: &Verified,
        origin: &OwnedServerName,
        us: &OwnedServerName,
    ) -> Result<Option<Filled>, Unavailable> {
        if event
            .pdu()
            .prev_events()
            .iter()
            .any(|id| self.negative_cache.recently(id, self.now))
        {
            return Ok(None);
        }
        let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
        let servers = self.servers(graph, origin, us);
        for server in &servers {
            self.walk_back(graph, event, server, &mut pool).await?;
            if unknown_before(graph, event, &pool).await?.is_empty() {
                if !is_anchored(graph, event, &pool).await? {
                    tracing::debug!(room = %graph.room_id(), event = %event.pdu().event_id(), %origin, "an event of the past");
                    return Ok(None);
                }
                let events = order(pool.into_values().collect(), Links::All, |event| event.pdu());
                return Ok(Some(Filled {
                    events,
                    ..Filled::default()
                }));
            }
        }
        self.trust_remote_state(graph, event, pool, &servers).await
    }

    /// Asks one server for what is missing, round after round, as long as that gets on.
    async fn walk_back(
        &mut self,
        graph: &impl Graph,
        event: &Verified,
        server: &OwnedServerName,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) -> Result<(), Unavailable> {
        let earliest: Vec<OwnedEventId> = graph
            .extremities()
            .into_iter()
            .take(MAX_EVENT_IDS_PER_REQUEST)
            .collect();
        while pool.len() < MAX_GAP_EVENTS {
            let latest = with_unknown_past(graph, event, pool).await?;
            if latest.is_empty() || !self.may_ask() {
                return Ok(());
            }
            let answer = self
                .peers
                .missing_events(
                    graph.room_id(),
                    graph.version(),
                    server,
                    &earliest,
                    &latest,
                    MAX_BACKFILL_EVENTS,
                )
                .await;
            let before = pool.len();
            for got in self.useful(graph.room_id(), answer, "missing events") {
                if got.pdu().event_id() != event.pdu().event_id() && pool.len() < MAX_GAP_EVENTS {
                    pool.entry(got.pdu().event_id().to_owned()).or_insert(got);
                }
            }
            keep_needed(graph, event, pool).await?;
            if pool.len() == before {
                // Whoever doesn't have the event itself (a join that is brought to us) may have what it follows.
                self.go_back(graph, event, server, pool).await?;
                keep_needed(graph, event, pool).await?;
            }
            if pool.len() == before {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks one server for what is missing by its own name.
    async fn go_back(
        &mut self,
        graph: &impl Graph,
        event: &Verified,
        server: &OwnedServerName,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) -> Result<(), Unavailable> {
        // A sender's own server has the event: it would have said.
        if event.pdu().sender().server_name() == *server || !self.may_ask() {
            return Ok(());
        }
        let mut unknown = unknown_before(graph, event, pool).await?;
        unknown.truncate(MAX_EVENT_IDS_PER_REQUEST);
        let (room, version) = (graph.room_id(), graph.version());
        let answer = self
            .peers
            .backfill(room, version, server, &unknown, MAX_BACKFILL_EVENTS)
            .await;
        for got in self.useful(room, answer, "events before one that is not here") {
            let id = got.pdu().event_id();
            if pool.len() < MAX_GAP_EVENTS && graph.state_after(id).await?.is_none() {
                pool.entry(id.to_owned()).or_insert(got);
            }
        }
        Ok(())
    }

    /// Nobody gives the events, or they are too many: the state at the edge of the gap is asked for instead.
    async fn trust_remote_state(
        &mut self,
        graph: &impl Graph,
        event: &Verified,
        pool: BTreeMap<OwnedEventId, Verified>,
        servers: &[OwnedServerName],
    ) -> Result<Option<Filled>, Unavailable> {
        let mut filled = Filled::default();
        for edge in with_unknown_past(graph, event, &pool).await? {
            let Some((server, ids)) = self.state_at(graph, &edge, servers).await else {
                let unknown = unknown_before(graph, event, &pool).await?;
                self.remember(unknown);
                return Ok(None);
            };
            let wanted: Vec<OwnedEventId> = ids.state.iter().chain(&ids.auth_chain).cloned().collect();
            let Some(outliers) = self.fetch(graph, &wanted, std::slice::from_ref(&server)).await? else {
                return Ok(None);
            };
            let state = remote_state(graph, &ids, &outliers).await?;
            filled.outliers.extend(outliers);
            filled.remote_states.insert(edge, state);
        }
        filled.outliers = order(filled.outliers, Links::Auth, |event| event.pdu());
        filled.events = order(pool.into_values().collect(), Links::All, |event| event.pdu());
        Ok(Some(filled))
    }

    async fn state_at(
        &mut self,
        graph: &impl Graph,
        edge: &OwnedEventId,
        servers: &[OwnedServerName],
    ) -> Option<(OwnedServerName, StateIds)> {
        for server in servers {
            if !self.may_ask() {
                return None;
            }
            match self.peers.state_ids(graph.room_id(), server, edge).await {
                Ok(ids) if ids.state.len() + ids.auth_chain.len() <= MAX_STATE_EVENTS => {
                    return Some((server.clone(), ids));
                }
                Ok(_) => tracing::warn!(room = %graph.room_id(), %server, "a state of too many events"),
                Err(error) => {
                    self.unsure |= matches!(error, PeerError::Unreachable { .. });
                    tracing::debug!(room = %graph.room_id(), %error, "no state at the edge of a gap");
                }
            }
        }
        None
    }

    /// Brings these events and all that they rest on, in the order of their citations. None: not to be had.
    pub(crate) async fn fetch(
        &mut self,
        graph: &impl Graph,
        ids: &[OwnedEventId],
        servers: &[OwnedServerName],
    ) -> Result<Option<Vec<Verified>>, Unavailable> {
        let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
        let mut wanted: BTreeSet<OwnedEventId> = absent(graph, ids, &pool).await?;
        while !wanted.is_empty() {
            if wanted.iter().any(|id| self.negative_cache.recently(id, self.now)) || pool.len() > MAX_STATE_EVENTS {
                return Ok(None);
            }
            let before = pool.len();
            for server in servers {
                self.fetch_from(graph, server, &wanted, &mut pool).await;
                wanted.retain(|id| !pool.contains_key(id));
                if wanted.is_empty() {
                    break;
                }
            }
            if pool.len() == before {
                self.remember(wanted);
                return Ok(None);
            }
            let cited: Vec<OwnedEventId> = pool
                .values()
                .flat_map(|event| event.pdu().auth_events())
                .cloned()
                .collect();
            wanted.extend(absent(graph, &cited, &pool).await?);
        }
        Ok(Some(order(pool.into_values().collect(), Links::Auth, |event| {
            event.pdu()
        })))
    }

    async fn fetch_from(
        &mut self,
        graph: &impl Graph,
        server: &OwnedServerName,
        wanted: &BTreeSet<OwnedEventId>,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) {
        let wanted: Vec<OwnedEventId> = wanted.iter().cloned().collect();
        for chunk in wanted.chunks(MAX_EVENT_IDS_PER_REQUEST) {
            if !self.may_ask() {
                return;
            }
            let answer = self.peers.events(graph.version(), server, chunk).await;
            for got in self.useful(graph.room_id(), answer, "events") {
                // Only what was asked for: an answer isn't a way to bring in other things.
                if chunk.iter().any(|id| id == got.pdu().event_id()) {
                    pool.insert(got.pdu().event_id().to_owned(), got);
                }
            }
        }
    }

    /// Brings what an event rests on and isn't here.
    pub(crate) async fn fetch_auth(
        &mut self,
        graph: &impl Graph,
        missing: &[OwnedEventId],
        origin: &OwnedServerName,
        us: &OwnedServerName,
    ) -> Result<Option<Vec<Verified>>, Unavailable> {
        let servers = self.servers(graph, origin, us);
        self.fetch(graph, missing, &servers).await
    }
}

/// Lets go of what the event doesn't need. Whoever is asked for the past of an event goes back beyond what is here, if that
/// is no ancestor of our ends; what lies there is older than our join. It comes with the room's history, as the past:
/// taken in now it would be an end of the graph, and bring back what was changed since.
async fn keep_needed(
    graph: &impl Graph,
    event: &Verified,
    pool: &mut BTreeMap<OwnedEventId, Verified>,
) -> Result<(), Unavailable> {
    let mut needed: BTreeSet<OwnedEventId> = BTreeSet::new();
    let mut work: Vec<OwnedEventId> = event.pdu().prev_events().to_vec();
    while let Some(id) = work.pop() {
        if needed.contains(&id) || is_persisted(graph, &id).await? {
            continue;
        }
        if let Some(got) = pool.get(&id) {
            work.extend(got.pdu().prev_events().iter().cloned());
            needed.insert(id);
        }
    }
    pool.retain(|id, _| needed.contains(id));
    Ok(())
}

/// Whether the event, or what was fetched for it, follows something that is here in its place. Who knows that we are in
/// the room makes no event that follows nothing of what is here since: it is of the past, and waits until that is here.
/// A server that sends such events again would have them taken for ends of the graph.
async fn is_anchored(
    graph: &impl Graph,
    event: &Verified,
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<bool, Unavailable> {
    for id in std::iter::once(event)
        .chain(pool.values())
        .flat_map(|event| event.pdu().prev_events())
    {
        if is_persisted(graph, id).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn is_persisted(graph: &impl Graph, id: &EventId) -> Result<bool, Unavailable> {
    Ok(graph.event(id).await?.is_some_and(|known| !known.outlier))
}

/// The event and those of the pool that follow something which is neither here nor in the pool.
async fn with_unknown_past(
    graph: &impl Graph,
    event: &Verified,
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<Vec<OwnedEventId>, Unavailable> {
    let mut edge = Vec::new();
    for candidate in std::iter::once(event).chain(pool.values()) {
        for id in candidate.pdu().prev_events() {
            if !pool.contains_key(id) && graph.state_after(id).await?.is_none() {
                edge.push(candidate.pdu().event_id().to_owned());
                break;
            }
        }
        if edge.len() >= MAX_EVENT_IDS_PER_REQUEST {
            break;
        }
    }
    Ok(edge)
}

async fn unknown_before(
    graph: &impl Graph,
    event: &Verified,
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<Vec<OwnedEventId>, Unavailable> {
    let mut unknown = Vec::new();
    for id in std::iter::once(event)
        .chain(pool.values())
        .flat_map(|event| event.pdu().prev_events())
    {
        if !pool.contains_key(id) && graph.state_after(id).await?.is_none() {
            unknown.push(id.clone());
        }
    }
    Ok(unknown)
}

async fn absent(
    graph: &impl Graph,
    ids: &[OwnedEventId],
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<BTreeSet<OwnedEventId>, Unavailable> {
    let mut absent = BTreeSet::new();
    for id in ids {
        if !pool.contains_key(id) && graph.event(id).await?.is_none() {
            absent.insert(id.clone());
        }
    }
    Ok(absent)
}

/// The told state by type and state key. What is said twice is said once: the first counts.
async fn remote_state(graph: &impl Graph, ids: &StateIds, fetched: &[Verified]) -> Result<StateMap, Unavailable> {
    let fetched: HashMap<_, _> = fetched
        .iter()
        .map(|event| (event.pdu().event_id(), event.pdu()))
        .collect();
    let mut state = StateMap::default();
    for id in &ids.state {
        let pdu = match fetched.get(&**id) {
            Some(pdu) => Some((*pdu).clone()),
            None => graph.event(id).await?.map(|known| known.pdu),
        };
        let entry = pdu.filter(|pdu| !pdu.rejected()).and_then(|pdu| pdu.state_entry());
        if let Some(key) = entry {
            state.insert_new(key, id.clone());
        }
    }
    Ok(state)
}
