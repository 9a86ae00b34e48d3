//! Filling gaps: missing `prev_events` and auth events are requested from other servers.
//!
//! Everything is limited: rounds, events, requests in a time, the wait for each answer. An event that no server had is
//! not requested again for a while, so that a server that invents a thousand events costs no more than one (T18, T19).
//! Must not decide about events, only fetch them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
};

use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::time::{Duration, timeout};
use weft_dag::{
    StateMap, Verified,
    order::{Links, order},
};
use weft_room_api::{PeerError, Peers, StateIds, Unavailable};
use weft_wire::limits::{MAX_BACKFILL_EVENTS, MAX_EVENT_IDS_PER_REQUEST, MAX_FETCHED_BYTES, MAX_GAP_EVENTS};

use crate::peer_selection::select_peers;
use crate::{memory::SharedMemory, sight::Sight};

/// Other servers that are tried if the origin does not have an event.
const MAX_OTHER_SERVERS: usize = 2;
/// Events of a state that is fetched if a gap can't be filled: the state of a room of 10,000 members.
const MAX_STATE_EVENTS: usize = 20_000;

/// The time limit of one answer. It may be a hundred events, each a request with a shorter time limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The requests of one fetch.
pub struct EventFetcher<'a> {
    peers: &'a dyn Peers,
    memory: &'a SharedMemory,
    /// The server that sent the event with the gap.
    origin: OwnedServerName,
    us: &'a ServerName,
    /// A server could not be reached or was not tried: a missing event may then exist.
    unsure: bool,
    /// Bytes of events that may still be held.
    bytes_left: usize,
}

/// The result of filling a gap.
#[derive(Debug, Default, Clone)]
pub struct Filled {
    /// Events to decide about before the one with the gap, in order.
    pub events: Vec<Verified>,
    /// For events whose ancestors no server returns, the remote state before them; its events are in `outliers`.
    pub remote_states: BTreeMap<OwnedEventId, StateMap>,
    /// Events known only as part of a state, in the order of their auth events.
    pub outliers: Vec<Verified>,
}

impl Filled {
    /// Only events of a state or an auth chain.
    pub fn of_outliers(outliers: Vec<Verified>) -> Self {
        Self {
            outliers,
            ..Self::default()
        }
    }
}

impl<'a> EventFetcher<'a> {
    /// A fetcher for events that `origin` sent.
    #[must_use]
    pub fn new(peers: &'a dyn Peers, memory: &'a SharedMemory, origin: OwnedServerName, us: &'a ServerName) -> Self {
        Self {
            peers,
            memory,
            origin,
            us,
            unsure: false,
            bytes_left: MAX_FETCHED_BYTES,
        }
    }

    /// Records events that no server had.
    fn remember(&mut self, ids: impl IntoIterator<Item = OwnedEventId>) {
        if !self.unsure {
            self.memory.remember(ids);
        }
    }

    /// Sends a request to a server, if that is allowed now. `None`: no answer, or an error.
    async fn call<T>(
        &mut self,
        server: &ServerName,
        what: &'static str,
        request: impl Future<Output = Result<T, PeerError>>,
    ) -> Option<T> {
        if self.bytes_left == 0 || !self.memory.may_request(server, &self.origin) {
            self.unsure = true;
            return None;
        }
        let answer = timeout(ANSWER_TIMEOUT, request).await.unwrap_or_else(|_| {
            Err(PeerError::Unreachable {
                server: server.to_string(),
                reason: "timeout".to_owned(),
            })
        });
        let is_reached = !matches!(answer, Err(PeerError::Unreachable { .. }));
        self.memory.note_answer(server, is_reached);
        self.unsure |= !is_reached;
        answer
            .inspect_err(|error| tracing::debug!(%error, what, "another server did not return the events"))
            .ok()
    }

    /// The events of an answer that are of this room (T35), within the limit of bytes.
    fn useful(&mut self, room: &RoomId, answer: Option<Vec<Verified>>) -> Vec<Verified> {
        let mut events = answer.unwrap_or_default();
        events.retain(|event| {
            let fits = event.pdu().json().len() <= self.bytes_left;
            self.bytes_left = if fits {
                self.bytes_left.saturating_sub(event.pdu().json().len())
            } else {
                0
            };
            fits && event.pdu().room_id() == room
        });
        events
    }

    /// The servers to try this time: the origin of the event, then others in the room.
    fn servers(&mut self, graph: &Sight) -> Vec<OwnedServerName> {
        let attempt = self.memory.next_attempt();
        let servers = graph.servers.clone();
        let others = select_peers(servers, &[&self.origin, self.us], attempt, MAX_OTHER_SERVERS);
        let origin = std::iter::once(self.origin.clone()).filter(|server| *server != *self.us);
        origin.chain(others).collect()
    }

    /// Fetches the events between our extremities and an event; if they are not available, the state there. `None`: not
    /// available at present.
    pub async fn fill(&mut self, graph: &Sight, event: &Verified) -> Result<Option<Filled>, Unavailable> {
        let prev = event.pdu().prev_events();
        if prev.iter().any(|id| self.memory.is_absent(id)) {
            return Ok(None);
        }
        let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
        let servers = self.servers(graph);
        if unknown_before(graph, event, &pool).await?.is_empty() {
            // The missing events have arrived meanwhile.
            return Ok(Some(Filled::default()));
        }
        for server in &servers {
            self.walk_back(graph, event, server, &mut pool).await?;
            if unknown_before(graph, event, &pool).await?.is_empty() {
                if !is_anchored(graph, event, &pool).await? {
                    let (room, id, origin) = (&graph.room, event.pdu().event_id(), &self.origin);
                    tracing::debug!(%room, event = %id, %origin, "event precedes our join; left to backfill");
                    return Ok(None);
                }
                return Ok(Some(Filled {
                    events: order(pool.into_values().collect(), Links::All, |event| event.pdu()),
                    ..Filled::default()
                }));
            }
        }
        self.fetch_remote_state(graph, event, pool, &servers).await
    }

    /// Requests the missing events from one server, round after round, while there is progress.
    async fn walk_back(
        &mut self,
        graph: &Sight,
        event: &Verified,
        server: &OwnedServerName,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) -> Result<(), Unavailable> {
        let earliest: Vec<OwnedEventId> = graph
            .extremities
            .iter()
            .take(MAX_EVENT_IDS_PER_REQUEST)
            .cloned()
            .collect();
        let (room, version) = (&graph.room, &graph.version);
        while pool.len() < MAX_GAP_EVENTS {
            let latest = with_unknown_past(graph, event, pool).await?;
            if latest.is_empty() {
                return Ok(());
            }
            let before = pool.len();
            let peers = self.peers;
            let request = peers.missing_events(room, version, server, &earliest, &latest, MAX_BACKFILL_EVENTS);
            let answer = self.call(server, "missing events", request).await;
            for got in self.useful(room, answer) {
                if got.pdu().event_id() != event.pdu().event_id() && pool.len() < MAX_GAP_EVENTS {
                    pool.entry(got.pdu().event_id().to_owned()).or_insert(got);
                }
            }
            keep_needed(graph, event, pool).await?;
            if pool.len() == before {
                // A server that does not have the event itself (a join that is sent to us) may have its ancestors.
                self.backfill_unknown(graph, event, server, pool).await?;
                keep_needed(graph, event, pool).await?;
            }
            if pool.len() == before {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Requests the missing events from one server by their ids.
    async fn backfill_unknown(
        &mut self,
        graph: &Sight,
        event: &Verified,
        server: &OwnedServerName,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) -> Result<(), Unavailable> {
        // The sender's own server has the event, so it would have returned these above.
        if event.pdu().sender().server_name() == *server {
            return Ok(());
        }
        let mut unknown = unknown_before(graph, event, pool).await?;
        unknown.truncate(MAX_EVENT_IDS_PER_REQUEST);
        let (room, version, peers) = (&graph.room, &graph.version, self.peers);
        let request = peers.backfill(room, version, server, &unknown, MAX_BACKFILL_EVENTS);
        let answer = self.call(server, "events before a missing one", request).await;
        for got in self.useful(room, answer) {
            let id = got.pdu().event_id();
            if pool.len() < MAX_GAP_EVENTS && !graph.has_state_after(id).await? {
                pool.entry(id.to_owned()).or_insert(got);
            }
        }
        Ok(())
    }

    /// No server returns the events, or there are too many: requests the state at the edge of the gap instead.
    async fn fetch_remote_state(
        &mut self,
        graph: &Sight,
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
        graph: &Sight,
        edge: &OwnedEventId,
        servers: &[OwnedServerName],
    ) -> Option<(OwnedServerName, StateIds)> {
        let peers = self.peers;
        for server in servers {
            let request = peers.state_ids(&graph.room, server, edge);
            match self.call(server, "the state at the edge of a gap", request).await {
                Some(ids) if ids.state.len().saturating_add(ids.auth_chain.len()) <= MAX_STATE_EVENTS => {
                    return Some((server.clone(), ids));
                }
                Some(_) => tracing::warn!(
                    event = "room.remote_state_too_large", room = %graph.room, %server,
                    "a state with too many events"
                ),
                None => {}
            }
        }
        None
    }

    /// Fetches these events and all that they cite, in the order of their auth events. `None`: not available.
    async fn fetch(
        &mut self,
        graph: &Sight,
        ids: &[OwnedEventId],
        servers: &[OwnedServerName],
    ) -> Result<Option<Vec<Verified>>, Unavailable> {
        let mut pool: BTreeMap<OwnedEventId, Verified> = BTreeMap::new();
        let mut wanted: BTreeSet<OwnedEventId> = absent(graph, ids, &pool).await?;
        while !wanted.is_empty() {
            if wanted.iter().any(|id| self.memory.is_absent(id)) || pool.len() > MAX_STATE_EVENTS {
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
        graph: &Sight,
        server: &OwnedServerName,
        wanted: &BTreeSet<OwnedEventId>,
        pool: &mut BTreeMap<OwnedEventId, Verified>,
    ) {
        let wanted: Vec<OwnedEventId> = wanted.iter().cloned().collect();
        let peers = self.peers;
        for chunk in wanted.chunks(MAX_EVENT_IDS_PER_REQUEST) {
            let request = peers.events(&graph.version, server, chunk);
            let Some(answer) = self.call(server, "events", request).await else {
                return;
            };
            for got in self.useful(&graph.room, Some(answer)) {
                // Only the requested events: an answer must not bring in others.
                if chunk.iter().any(|id| id == got.pdu().event_id()) {
                    pool.insert(got.pdu().event_id().to_owned(), got);
                }
            }
        }
    }

    /// Fetches the missing auth events of an event.
    pub async fn fetch_auth(
        &mut self,
        graph: &Sight,
        missing: &[OwnedEventId],
    ) -> Result<Option<Vec<Verified>>, Unavailable> {
        let servers = self.servers(graph);
        self.fetch(graph, missing, &servers).await
    }

    /// Adds to a filled gap the missing auth events of its events and of the event with the gap. Unavailable ones are
    /// left out: the events that cite them then can't be decided about.
    pub async fn add_auth(&mut self, graph: &Sight, event: &Verified, filled: &mut Filled) -> Result<(), Unavailable> {
        let coming: BTreeMap<OwnedEventId, Verified> = filled
            .events
            .iter()
            .chain(&filled.outliers)
            .map(|event| (event.pdu().event_id().to_owned(), event.clone()))
            .collect();
        let cited: Vec<OwnedEventId> = std::iter::once(event)
            .chain(&filled.events)
            .flat_map(|event| event.pdu().auth_events())
            .cloned()
            .collect();
        let missing: Vec<OwnedEventId> = absent(graph, &cited, &coming).await?.into_iter().collect();
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(outliers) = self.fetch_auth(graph, &missing).await? {
            filled.outliers.extend(outliers);
            filled.outliers = order(std::mem::take(&mut filled.outliers), Links::Auth, |event| event.pdu());
        }
        Ok(())
    }
}

/// Drops fetched events that are not ancestors of `event`. `/get_missing_events` may return events older than our join;
/// those belong to backfill. Persisted now, such an event would become a forward extremity and restore state that was
/// changed since.
async fn keep_needed(
    graph: &Sight,
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

/// Whether the event, or a fetched ancestor of it, references a persisted event. A server that is aware of our join
/// sends no event that references none of our events since: such an event precedes our join and waits for backfill.
/// Otherwise a server could send old events again and make them forward extremities.
async fn is_anchored(
    graph: &Sight,
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

async fn is_persisted(graph: &Sight, id: &EventId) -> Result<bool, Unavailable> {
    Ok(graph.event(id).await?.is_some_and(|known| !known.outlier))
}

/// The event and those of the pool whose `prev_events` are neither here nor in the pool.
async fn with_unknown_past(
    graph: &Sight,
    event: &Verified,
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<Vec<OwnedEventId>, Unavailable> {
    let mut edge = Vec::new();
    for candidate in std::iter::once(event).chain(pool.values()) {
        for id in candidate.pdu().prev_events() {
            if !pool.contains_key(id) && !graph.has_state_after(id).await? {
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
    graph: &Sight,
    event: &Verified,
    pool: &BTreeMap<OwnedEventId, Verified>,
) -> Result<Vec<OwnedEventId>, Unavailable> {
    let mut unknown = Vec::new();
    for id in std::iter::once(event)
        .chain(pool.values())
        .flat_map(|event| event.pdu().prev_events())
    {
        if !pool.contains_key(id) && !graph.has_state_after(id).await? {
            unknown.push(id.clone());
        }
    }
    Ok(unknown)
}

async fn absent(
    graph: &Sight,
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

/// The remote state by type and state key. Of duplicates the first counts.
async fn remote_state(graph: &Sight, ids: &StateIds, fetched: &[Verified]) -> Result<StateMap, Unavailable> {
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

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;
    use weft_dag::testing::World;

    use super::*;
    use weft_room_api::testing::NoPeers;

    /// An answer with more bytes than the limit is cut, and nothing more is requested.
    #[tokio::test]
    async fn a_fetch_is_limited_in_bytes() {
        let mut world = World::public(&RoomVersionId::V12, "@alice:a.example", &[]);
        let content = serde_json::json!({ "body": "hello" });
        world.send_after(&world.head_list(), "@alice:a.example", "m.room.message", None, content);
        let event = world.verified(world.order.last().unwrap());
        let (room, bytes) = (world.room_id.clone(), event.pdu().json().len());
        let origin: OwnedServerName = ServerName::parse("a.example").unwrap();
        let memory = SharedMemory::default();
        let mut fetcher = EventFetcher::new(&NoPeers, &memory, origin.clone(), &origin);
        fetcher.bytes_left = 2 * bytes + 1;
        let answer = vec![event.clone(), event.clone(), event.clone()];
        assert_eq!(fetcher.useful(&room, Some(answer)).len(), 2);
        let asked = fetcher.call(&origin, "events", async { Ok(()) }).await;
        assert!(asked.is_none() && fetcher.unsure);
    }
}
