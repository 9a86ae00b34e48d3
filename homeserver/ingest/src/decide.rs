//! Decides about one event whose ancestors are here: computes the state before it and applies the authorisation rules.
//!
//! Must not send requests to other servers: missing events are returned in the error, and the caller fetches them.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{EventId, OwnedEventId};
use weft_dag::{
    Authorized, EventMap, EventSource as _, Missing, ResolveError, StateMap, StateView, Verified, lock, resolve,
};
use weft_room_api::{Lacks, Unavailable};

use crate::graph::Graph;

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub enum Undecided {
    /// `prev_events` of the event are missing.
    #[error("prev events are missing: {0:?}")]
    Prev(Vec<OwnedEventId>),
    /// Auth events, of the event or needed by state resolution, are missing.
    #[error("auth events are missing: {0:?}")]
    Auth(Vec<OwnedEventId>),
    /// State resolution failed.
    #[error("{0}")]
    Unresolvable(String),
    /// The store can't be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Undecided {
    /// What is missing; `None` if there is nothing to fetch.
    pub fn lacks(&self) -> Option<Lacks> {
        match self {
            Self::Prev(_) => Some(Lacks::Prev),
            Self::Auth(ids) => Some(Lacks::Auth(ids.clone())),
            Self::Unresolvable(_) | Self::Unavailable(_) => None,
        }
    }
}

/// Decides about an event at its place in the graph. `remote_state` is the unverified state before it from
/// `/state_ids`, for an event with prev events that no server returned; it is resolved together with the states that
/// are known. `now` is the current state, if the event is to be checked against it (soft failure).
pub async fn decide(
    graph: &impl Graph,
    event: Verified,
    remote_state: Option<StateMap>,
    now: Option<&StateView>,
) -> Result<(Authorized, StateMap), Undecided> {
    let mut forks = Vec::new();
    let mut unknown = Vec::new();
    for id in event.pdu().prev_events() {
        match graph.state_after(id).await? {
            Some(state) => forks.push(state),
            None => unknown.push(id.clone()),
        }
    }
    match remote_state {
        Some(state) => forks.push(usable_remote_state(graph, state).await?),
        None if !unknown.is_empty() => return Err(Undecided::Prev(unknown)),
        None => {}
    }
    let before = resolve_loading(graph, &forks).await?;
    let authorized = authorize(graph, event, &before, now).await?;
    Ok((authorized, before))
}

/// Decides about an outlier by its auth events alone.
pub async fn decide_outlier(graph: &impl Graph, event: Verified) -> Result<(Authorized, StateMap), Undecided> {
    let cited = load(graph, event.pdu().auth_events()).await?;
    let mut before = StateMap::default();
    for pdu in cited.0.values() {
        if let Some(key) = pdu.state_entry() {
            before.insert(key, pdu.event_id().to_owned());
        }
    }
    // In room version 12 the room id cites the create event.
    if let Some(create) = create_id(graph).filter(|_| event.pdu().kind() != "m.room.create") {
        before.insert(("m.room.create".to_owned(), String::new()), create);
    }
    let authorized = authorize(graph, event, &before, None).await?;
    Ok((authorized, before))
}

async fn authorize(
    graph: &impl Graph,
    event: Verified,
    before: &StateMap,
    now: Option<&StateView>,
) -> Result<Authorized, Undecided> {
    let event = whole(graph, event).await?;
    let mut wanted: Vec<OwnedEventId> = event.pdu().auth_events().to_vec();
    if event.pdu().kind() != "m.room.create" {
        wanted.extend(create_id(graph));
    }
    let keys = lock::deciding_keys(event.pdu(), graph.version(), lock::entry(before));
    let entries: Vec<OwnedEventId> = keys
        .iter()
        .filter_map(|(kind, key)| before.get(kind, key))
        .cloned()
        .collect();
    wanted.extend(entries.iter().cloned());
    let source = load(graph, &wanted).await?;
    let view = StateView::from_events(
        graph.version().clone(),
        entries.iter().filter_map(|id| source.event(id)),
    );
    event
        .authorize(graph.version(), &source, &view, now)
        .map_err(|Missing(missing)| Undecided::Auth(missing))
}

/// The stored whole event, if the received copy is redacted. Servers may redact what the requester must not see, and a
/// malicious server may redact anything: a stored state event is never judged by, or replaced with, such a copy.
async fn whole(graph: &impl Graph, event: Verified) -> Result<Verified, Unavailable> {
    if !event.redacted_on_receipt() {
        return Ok(event);
    }
    let Some(known) = graph.event(event.pdu().event_id()).await? else {
        return Ok(event);
    };
    let id = event.pdu().event_id().to_owned();
    Ok(Verified::from_trusted_json(known.pdu.json(), id, graph.version(), false).unwrap_or(event))
}

/// The create event: in room version 12 the room id names it, before it is in every state.
fn create_id(graph: &impl Graph) -> Option<OwnedEventId> {
    if graph.version().room_id_is_create_hash() {
        return EventId::parse(format!("${}", graph.room_id().strip_sigil())).ok();
    }
    graph.current().create().map(|create| create.event_id().to_owned())
}

/// The part of a remote state that may be used: events that are here and not rejected, and the local create event.
async fn usable_remote_state(graph: &impl Graph, mut remote_state: StateMap) -> Result<StateMap, Unavailable> {
    let mut refused = Vec::new();
    let ids: Vec<OwnedEventId> = remote_state.0.values().cloned().collect();
    graph.read_events(&ids).await?;
    for (key, id) in remote_state.0.iter() {
        if graph.event(id).await?.is_none_or(|known| known.pdu.rejected()) {
            refused.push(key.clone());
        }
    }
    for key in &refused {
        remote_state.remove(key);
    }
    if let Some(create) = create_id(graph) {
        remote_state.insert(("m.room.create".to_owned(), String::new()), create);
    }
    Ok(remote_state)
}

/// Loads events; missing ones are returned in the error.
pub async fn load(graph: &impl Graph, ids: &[OwnedEventId]) -> Result<EventMap, Undecided> {
    let (events, missing) = load_some(graph, ids.iter()).await?;
    if missing.is_empty() {
        Ok(events)
    } else {
        Err(Undecided::Auth(missing))
    }
}

async fn load_some(
    graph: &impl Graph,
    ids: impl Iterator<Item = &OwnedEventId> + Send,
) -> Result<(EventMap, Vec<OwnedEventId>), Unavailable> {
    let ids: Vec<OwnedEventId> = ids.cloned().collect();
    graph.read_events(&ids).await?;
    let mut events = EventMap::default();
    let mut missing = Vec::new();
    for id in ids {
        match graph.event(&id).await? {
            Some(known) => events.insert(Arc::clone(&known.pdu)),
            None => missing.push(id),
        }
    }
    Ok((events, missing))
}

/// Resolves states and loads the events that this needs.
pub async fn resolve_loading(graph: &impl Graph, forks: &[StateMap]) -> Result<StateMap, Undecided> {
    let mut events = EventMap::default();
    let mut asked: BTreeSet<OwnedEventId> = BTreeSet::new();
    loop {
        let ids = match resolve(graph.version(), forks, graph.cover(), &events) {
            Ok(state) => return Ok(state),
            Err(ResolveError::Missing(ids)) => ids,
            Err(ResolveError::NotIndexed(missing)) => return Err(Undecided::Auth(missing.0)),
            Err(ResolveError::Failed(why)) => return Err(Undecided::Unresolvable(why)),
        };
        // All auth chains at once, so that there are few rounds.
        let below = graph
            .cover()
            .with_ancestors(ids.iter().filter(|id| graph.cover().contains(id)));
        let mut wanted: BTreeSet<OwnedEventId> = below.unwrap_or_default();
        wanted.extend(ids);
        wanted.retain(|id| asked.insert(id.clone()));
        let (loaded, missing) = load_some(graph, wanted.iter()).await?;
        if wanted.is_empty() || !missing.is_empty() {
            return Err(Undecided::Auth(missing));
        }
        events.0.extend(loaded.0);
    }
}

/// Whether an event is persisted here with at least the content of this copy: nothing is left to decide.
pub async fn is_settled(graph: &impl Graph, event: &Verified) -> Result<bool, Unavailable> {
    let known = graph.event(event.pdu().event_id()).await?;
    Ok(known.is_some_and(|known| !known.outlier && (!known.pruned || event.redacted_on_receipt())))
}
