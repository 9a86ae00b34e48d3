//! State resolution: one state from the states of several branches (Matrix, versions 2 and 2.1).
//!
//! The algorithm is ruma's. The chain cover supplies the auth difference and the conflicted subgraph, so that whole
//! auth chains are not needed. Must not load anything.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{
    ChainCover, EventSource, Pdu, RoomVersion, StateKey, StateMap, authorize::named_create, chain_cover::NotIndexed,
};

/// Why states could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Load these events, with their auth chains ([`ChainCover::with_ancestors`]), and repeat the call.
    #[error("events are not loaded: {0:?}")]
    Missing(Vec<OwnedEventId>),
    /// Add these events to the index first.
    #[error(transparent)]
    NotIndexed(#[from] NotIndexed),
    /// The events can't be resolved.
    #[error("state resolution failed: {0}")]
    Failed(String),
}

/// The resolved state of these branch states. The order of `forks` makes no difference.
///
/// # Errors
/// Events are missing from the source or the index, or an event is malformed.
pub fn resolve(
    version: &RoomVersion,
    forks: &[StateMap],
    cover: &ChainCover,
    source: &impl EventSource,
) -> Result<StateMap, ResolveError> {
    let first = forks.first().cloned().unwrap_or_default();
    if forks.iter().all(|fork| *fork == first) {
        return Ok(first);
    }
    let conflicted = conflicted_events(forks);
    let Some(rules) = version.rules().state_res.v2_rules() else {
        return Err(ResolveError::Failed(
            "the room version has no supported state resolution algorithm".to_owned(),
        ));
    };
    let difference = cover.difference(&forks.iter().collect::<Vec<_>>())?;
    let subgraph = if rules.consider_conflicted_state_subgraph {
        cover.conflicted_subgraph(&conflicted)?
    } else {
        BTreeSet::new()
    };
    let wanted = conflicted.iter().chain(&difference).chain(&subgraph);
    let events = Loaded::new(source);
    events.require(version, wanted)?;

    let maps: Vec<_> = forks.iter().map(to_ruma).collect();
    // ruma uses every event that is not in all auth chains: with these two "chains", exactly the difference.
    let chains = vec![difference.into_iter().collect::<EventIdSet<_>>(), EventIdSet::new()];
    let resolved = state_res::resolve(
        &version.rules().authorization,
        rules,
        maps.iter(),
        chains,
        |id| events.get(id),
        |_| Some(subgraph.iter().cloned().collect()),
    );
    // A missing event changes the result silently, so this error takes precedence over any other.
    events.missing()?;
    let resolved = resolved.map_err(|error| ResolveError::Failed(error.to_string()))?;
    Ok(resolved
        .into_iter()
        .map(|((kind, key), event)| ((kind.to_string(), key), event))
        .collect())
}

/// The events that are set for a key in some of the states and not in all.
fn conflicted_events(forks: &[StateMap]) -> BTreeSet<OwnedEventId> {
    let mut seen: HashMap<(&StateKey, &OwnedEventId), usize> = HashMap::new();
    for entry in forks.iter().flat_map(|fork| fork.0.iter()) {
        *seen.entry(entry).or_default() += 1;
    }
    seen.into_iter()
        .filter(|(_, count)| *count < forks.len())
        .map(|((_, event), _)| event.clone())
        .collect()
}

fn to_ruma(state: &StateMap) -> state_res::StateMap<OwnedEventId> {
    state
        .0
        .iter()
        .map(|((kind, key), event)| ((StateEventType::from(kind.as_str()), key.clone()), event.clone()))
        .collect()
}

/// A source that records the requested events that it does not have.
struct Loaded<'a, S> {
    source: &'a S,
    missing: RefCell<BTreeSet<OwnedEventId>>,
}

impl<'a, S: EventSource> Loaded<'a, S> {
    fn new(source: &'a S) -> Self {
        Self {
            source,
            missing: RefCell::default(),
        }
    }

    fn get(&self, id: &EventId) -> Option<Arc<Pdu>> {
        let event = self.source.event(id);
        if event.is_none() {
            self.missing.borrow_mut().insert(id.to_owned());
        }
        event
    }

    /// Looks up all these events and their auth events, so that one error names all missing ones.
    fn require<'b>(
        &self,
        version: &RoomVersion,
        ids: impl Iterator<Item = &'b OwnedEventId>,
    ) -> Result<(), ResolveError> {
        for event in ids.filter_map(|id| self.get(id)) {
            for cited in event.auth_events().iter().chain(named_create(&event, version).as_ref()) {
                self.get(cited);
            }
        }
        self.missing()
    }

    fn missing(&self) -> Result<(), ResolveError> {
        let missing = self.missing.borrow();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ResolveError::Missing(missing.iter().cloned().collect()))
        }
    }
}
