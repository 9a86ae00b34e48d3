//! The chain cover: which state events are in the auth chain of which others, without walking the chain.
//!
//! Every state event gets a position `(chain, seq)`. Within a chain, all earlier events are ancestors of each event (by
//! `auth_events`). An edge from one chain to another is a *link*. The index answers the queries of state resolution at
//! a cost that depends on the difference between the states, not on the number of members. The idea is Synapse's
//! (docs/auth_chain_difference_algorithm.md). Only direct links are stored: a graph built to have many transitive ones
//! (CVE-2024-31208) can't make the index larger than the auth events of its events. Must not hold events, only ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

use crate::{Pdu, StateMap};

/// A position in the index. `seq` begins at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The chain, unique within the room.
    pub chain: u64,
    /// The position in the chain.
    pub seq: u64,
}

/// The stored row of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventChain {
    /// The event.
    pub event: OwnedEventId,
    /// Its chain.
    pub chain: u64,
    /// Its position in the chain.
    pub seq: u64,
    /// The positions in other chains that it links to.
    pub links: Vec<Place>,
}

/// These events are not in the index: add them, oldest first, and repeat the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events are not in the chain index: {0:?}")]
pub struct NotIndexed(pub Vec<OwnedEventId>);

/// The index of one room.
#[derive(Clone, Debug, Default)]
pub struct ChainCover {
    places: HashMap<OwnedEventId, Place>,
    chains: HashMap<u64, Chain>,
    next_chain: u64,
}

/// One chain. `events[seq - 1]` is the event at `seq`.
#[derive(Clone, Debug, Default)]
struct Chain {
    events: Vec<OwnedEventId>,
    /// From a position in this chain to a position in another, ascending by the first.
    outgoing: Vec<(u64, Place)>,
    /// Keyed by the position in this chain: the positions in other chains that link to it.
    incoming: BTreeMap<u64, Vec<Place>>,
    /// For each other chain, the highest position that this chain links to; links to lower positions are left out.
    reached: HashMap<u64, u64>,
}

/// For each chain, how far it is reached (as ancestors): all positions up to and including this one.
type Reach = HashMap<u64, u64>;

impl ChainCover {
    /// The index from its stored rows, in any order.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = EventChain>) -> Self {
        let mut rows: Vec<EventChain> = rows.into_iter().collect();
        rows.sort_by_key(|row| (row.seq, row.chain));
        let mut cover = Self::default();
        for row in rows {
            cover.place(&row);
        }
        cover
    }

    /// Whether the event is in the index.
    #[must_use]
    pub fn contains(&self, event: &EventId) -> bool {
        self.places.contains_key(event)
    }

    /// The number of events in the index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the index is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds an event and returns the row to store; `None` if it is in the index already.
    ///
    /// # Errors
    /// Names its auth events that are not in the index.
    pub fn add(&mut self, pdu: &Pdu) -> Result<Option<EventChain>, NotIndexed> {
        self.add_event(pdu.event_id(), pdu.auth_events())
    }

    /// [`ChainCover::add`] with the bare ids.
    ///
    /// # Errors
    /// As [`ChainCover::add`].
    pub fn add_event(&mut self, event: &EventId, cites: &[OwnedEventId]) -> Result<Option<EventChain>, NotIndexed> {
        if self.contains(event) {
            return Ok(None);
        }
        let missing: Vec<OwnedEventId> = cites.iter().filter(|id| !self.contains(id)).cloned().collect();
        if !missing.is_empty() {
            return Err(NotIndexed(missing));
        }
        let cited: BTreeSet<Place> = cites.iter().filter_map(|id| self.places.get(id)).copied().collect();
        // Continue the longest chain that ends in one of the auth events; start a new chain if all of them have a
        // successor.
        let continued = cited
            .iter()
            .filter(|place| self.chain_len(place.chain) == place.seq)
            .max_by_key(|place| (place.seq, place.chain));
        let (chain, seq) = continued.map_or((self.next_chain, 1), |place| (place.chain, place.seq + 1));
        let known = self.chains.get(&chain).map(|chain| &chain.reached);
        let mut furthest: BTreeMap<u64, u64> = BTreeMap::new();
        for place in cited.iter().filter(|place| place.chain != chain) {
            if known
                .and_then(|known| known.get(&place.chain))
                .is_none_or(|seq| *seq < place.seq)
            {
                furthest.insert(place.chain, place.seq);
            }
        }
        let links = furthest.into_iter().map(|(chain, seq)| Place { chain, seq }).collect();
        let row = EventChain {
            event: event.to_owned(),
            chain,
            seq,
            links,
        };
        self.place(&row);
        Ok(Some(row))
    }

    /// Whether `to` is `from` or in its auth chain. False if either is not in the index.
    #[must_use]
    pub fn reachable(&self, from: &EventId, to: &EventId) -> bool {
        let (Some(from), Some(to)) = (self.places.get(from), self.places.get(to)) else {
            return false;
        };
        self.reach([*from]).get(&to.chain).is_some_and(|seq| *seq >= to.seq)
    }

    /// The events and all events in their auth chains.
    ///
    /// # Errors
    /// Names the events that are not in the index.
    pub fn with_ancestors<'a>(
        &self,
        events: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> Result<BTreeSet<OwnedEventId>, NotIndexed> {
        let reach = self.reach(self.places_of(events)?);
        Ok(self.between(|_| 0, &reach).collect())
    }

    /// The auth difference of the states: the events in the auth chain of at least one state and not of all. As in
    /// Synapse, the auth chain of a state includes the state's own events.
    ///
    /// # Errors
    /// Names the events that are not in the index.
    pub fn difference(&self, states: &[&StateMap]) -> Result<BTreeSet<OwnedEventId>, NotIndexed> {
        let mut reaches = Vec::with_capacity(states.len());
        for state in states {
            reaches.push(self.reach(self.places_of(state.0.values())?));
        }
        let mut any = Reach::new();
        for (chain, seq) in reaches.iter().flatten() {
            let furthest = any.entry(*chain).or_default();
            *furthest = (*furthest).max(*seq);
        }
        let all = |chain: u64| {
            reaches
                .iter()
                .map(|reach| reach.get(&chain).copied().unwrap_or(0))
                .min()
                .unwrap_or(0)
        };
        Ok(self.between(all, &any).collect())
    }

    /// The conflicted state subgraph of state resolution 2.1 (MSC4297): every event on a path by `auth_events` from one
    /// conflicted event to another, including both.
    ///
    /// # Errors
    /// Names the events that are not in the index.
    pub fn conflicted_subgraph<'a>(
        &self,
        conflicted: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> Result<BTreeSet<OwnedEventId>, NotIndexed> {
        let places = self.places_of(conflicted)?;
        let down = self.reach(places.iter().copied());
        let up = self.reach_up(&places);
        let below_first = |chain: u64| up.get(&chain).map_or(u64::MAX, |first| first.saturating_sub(1));
        Ok(self.between(below_first, &down).collect())
    }

    fn chain_len(&self, chain: u64) -> u64 {
        self.chains.get(&chain).map_or(0, |chain| chain.events.len() as u64)
    }

    fn place(&mut self, row: &EventChain) {
        let here = Place {
            chain: row.chain,
            seq: row.seq,
        };
        self.next_chain = self.next_chain.max(row.chain + 1);
        self.places.insert(row.event.clone(), here);
        let chain = self.chains.entry(row.chain).or_default();
        chain.events.push(row.event.clone());
        for link in &row.links {
            chain.outgoing.push((row.seq, *link));
            chain.reached.insert(link.chain, link.seq);
        }
        for link in &row.links {
            self.chains
                .entry(link.chain)
                .or_default()
                .incoming
                .entry(link.seq)
                .or_default()
                .push(here);
        }
    }

    fn places_of<'a>(&self, events: impl IntoIterator<Item = &'a OwnedEventId>) -> Result<Vec<Place>, NotIndexed> {
        let mut places = Vec::new();
        let mut missing = Vec::new();
        for event in events {
            match self.places.get(event) {
                Some(place) => places.push(*place),
                None => missing.push(event.clone()),
            }
        }
        if missing.is_empty() {
            Ok(places)
        } else {
            Err(NotIndexed(missing))
        }
    }

    /// How far each chain is reached from these positions. Follows every link at most once.
    fn reach(&self, from: impl IntoIterator<Item = Place>) -> Reach {
        let mut reach = Reach::new();
        let mut work: Vec<Place> = from.into_iter().collect();
        while let Some(place) = work.pop() {
            let before = reach.get(&place.chain).copied().unwrap_or(0);
            if place.seq <= before {
                continue;
            }
            reach.insert(place.chain, place.seq);
            let Some(chain) = self.chains.get(&place.chain) else {
                continue;
            };
            let new = chain.outgoing.partition_point(|(seq, _)| *seq <= before);
            let links = chain.outgoing.iter().skip(new).take_while(|(seq, _)| *seq <= place.seq);
            work.extend(links.map(|(_, target)| *target));
        }
        reach
    }

    /// The first position of each chain from which one of these is reached.
    fn reach_up(&self, to: &[Place]) -> Reach {
        let mut first = Reach::new();
        let mut work = to.to_vec();
        while let Some(place) = work.pop() {
            let before = first.get(&place.chain).copied().unwrap_or(u64::MAX);
            if place.seq >= before {
                continue;
            }
            first.insert(place.chain, place.seq);
            let Some(chain) = self.chains.get(&place.chain) else {
                continue;
            };
            work.extend(
                chain
                    .incoming
                    .range(place.seq..before)
                    .flat_map(|(_, origins)| origins.iter().copied()),
            );
        }
        first
    }

    /// The events of each chain after `after` and up to the position reached.
    fn between<'a>(
        &'a self,
        after: impl Fn(u64) -> u64 + 'a,
        upto: &'a Reach,
    ) -> impl Iterator<Item = OwnedEventId> + 'a {
        upto.iter().flat_map(move |(chain, upto)| {
            let events = self
                .chains
                .get(chain)
                .map(|chain| chain.events.as_slice())
                .unwrap_or_default();
            let first = usize::try_from(after(*chain)).unwrap_or(usize::MAX);
            let last = usize::try_from(*upto).unwrap_or(usize::MAX);
            events.iter().take(last).skip(first).cloned()
        })
    }
}
