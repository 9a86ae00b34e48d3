//! Many versions of one map, each made from an earlier one: states and state vectors at all events of a log.
//!
//! Most events change nothing or one entry, and most follow the newest ones. Only the newest versions are in memory
//! completely; the others are changes of earlier ones. Memory grows with the changes, and a version costs no more to read
//! than its size. Must not know what the maps mean.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ruma::OwnedEventId;
use weft_crdt::{ClientId, StateVector};
use weft_dag::{StateKey, StateMap};

/// A map that has versions.
pub(crate) trait Versioned: Clone + Default {
    /// One change of an entry.
    type Change: Clone;
    /// Applies a change.
    fn apply(&mut self, change: &Self::Change);
    /// The number of entries.
    fn size(&self) -> usize;
    /// The changes that make `to` from this map.
    fn changes(&self, to: &Self) -> Vec<Self::Change>;
}

impl Versioned for StateMap {
    type Change = (StateKey, Option<OwnedEventId>);

    fn apply(&mut self, (key, event): &Self::Change) {
        match event {
            Some(event) => drop(self.insert(key.clone(), event.clone())),
            None => drop(self.remove(key)),
        }
    }

    fn size(&self) -> usize {
        self.0.len()
    }

    fn changes(&self, to: &Self) -> Vec<Self::Change> {
        let removed = self.0.keys().filter(|key| !to.0.contains_key(*key));
        let removed = removed.map(|key| (key.clone(), None));
        let set = to.0.iter().filter(|(key, event)| self.0.get(*key) != Some(event));
        removed
            .chain(set.map(|(key, event)| (key.clone(), Some(event.clone()))))
            .collect()
    }
}

impl Versioned for Arc<StateVector> {
    type Change = (ClientId, u32);

    fn apply(&mut self, (client, end): &Self::Change) {
        Arc::make_mut(self).raise(*client, *end);
    }

    fn size(&self) -> usize {
        self.len()
    }

    /// Vectors only grow.
    fn changes(&self, to: &Self) -> Vec<Self::Change> {
        to.iter().filter(|(client, end)| self.get(*client) < *end).collect()
    }
}

/// The number of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version(u32);

/// Versions in memory completely: concurrent branches of a busy room.
const RECENT: usize = 16;
/// A version is kept whole after this number of changes, or after as many as it has entries.
const MIN_CHANGES: usize = 64;

enum Step<M: Versioned> {
    Whole(M),
    Changes(Version, Box<[M::Change]>),
}

struct Node<M: Versioned> {
    step: Step<M>,
    /// Changes since the last whole version.
    changes: usize,
}

/// All versions of one map.
pub(crate) struct Versions<M: Versioned> {
    nodes: Vec<Node<M>>,
    recent: VecDeque<(Version, M)>,
    merged: BTreeMap<Vec<Version>, Version>,
    /// Entries that were read again or merged: the work that a file causes.
    work: u64,
}

/// Merges that are remembered.
const MAX_MERGED: usize = 4_096;

impl<M: Versioned> Default for Versions<M> {
    fn default() -> Self {
        Self {
            nodes: vec![Node {
                step: Step::Whole(M::default()),
                changes: 0,
            }],
            recent: VecDeque::new(),
            merged: BTreeMap::new(),
            work: 0,
        }
    }
}

impl<M: Versioned> Versions<M> {
    /// The empty map.
    pub(crate) const EMPTY: Version = Version(0);

    /// Entries that were read again or merged.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }

    /// A map. Cheap for the newest ones if a copy is cheap.
    pub(crate) fn get(&mut self, version: Version) -> M {
        if let Some((_, map)) = self.recent.iter().find(|(recent, _)| *recent == version) {
            return map.clone();
        }
        let map = self.read_again(version);
        self.keep(version, map.clone());
        map
    }

    /// The version after these changes of another one.
    pub(crate) fn change(&mut self, from: Version, changes: Vec<M::Change>) -> Version {
        if changes.is_empty() {
            return from;
        }
        let place = self.recent.iter().position(|(recent, _)| *recent == from);
        // Mostly nothing follows the earlier version any more, and its map is changed in place.
        let mut map = match place.and_then(|place| self.recent.remove(place)) {
            Some((_, map)) => map,
            None => self.read_again(from),
        };
        changes.iter().for_each(|change| map.apply(change));
        let before = self.node(from).map_or(0, |node| node.changes);
        let since = before + changes.len();
        let (step, since) = if since >= map.size().max(MIN_CHANGES) {
            self.work += map.size() as u64;
            (Step::Whole(map.clone()), 0)
        } else {
            (Step::Changes(from, changes.into()), since)
        };
        let version = Version(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { step, changes: since });
        self.keep(version, map);
        version
    }

    /// The version of a merge of several ones, which are sorted and differ. `merge` makes the map.
    pub(crate) fn merge<E>(
        &mut self,
        versions: &[Version],
        merge: impl FnOnce(&[M]) -> Result<M, E>,
    ) -> Result<Version, E> {
        match versions {
            [] => return Ok(Self::EMPTY),
            [one] => return Ok(*one),
            _ => {}
        }
        if let Some(version) = self.merged.get(versions) {
            return Ok(*version);
        }
        let maps: Vec<M> = versions.iter().map(|version| self.get(*version)).collect();
        self.work += maps.iter().map(|map| map.size() as u64).sum::<u64>();
        let merged = merge(&maps)?;
        // If one has what all have, nothing new is stored.
        let differences = maps.iter().map(|map| map.changes(&merged));
        let nearest = versions
            .iter()
            .zip(differences)
            .min_by_key(|(_, changes)| changes.len());
        drop(maps);
        let version = match nearest {
            Some((from, changes)) => self.change(*from, changes),
            None => Self::EMPTY,
        };
        if self.merged.len() >= MAX_MERGED {
            self.merged.clear();
        }
        self.merged.insert(versions.to_vec(), version);
        Ok(version)
    }

    fn node(&self, version: Version) -> Option<&Node<M>> {
        self.nodes.get(usize::try_from(version.0).ok()?)
    }

    /// From the last whole version before it.
    fn read_again(&mut self, version: Version) -> M {
        let (mut changes, mut at) = (Vec::new(), version);
        let mut map = loop {
            match self.node(at).map(|node| &node.step) {
                Some(Step::Whole(map)) => break map.clone(),
                Some(Step::Changes(from, step)) => {
                    changes.push(step);
                    at = *from;
                }
                None => break M::default(),
            }
        };
        for change in changes.iter().rev().flat_map(|step| step.iter()) {
            map.apply(change);
        }
        self.work += map.size() as u64;
        map
    }

    fn keep(&mut self, version: Version, map: M) {
        self.recent.push_front((version, map));
        self.recent.truncate(RECENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u64) -> ClientId {
        ClientId::new(n).unwrap()
    }

    #[test]
    fn every_version_is_what_it_was() {
        let mut versions: Versions<Arc<StateVector>> = Versions::default();
        let mut expected = vec![(Versions::<Arc<StateVector>>::EMPTY, Arc::new(StateVector::new()))];
        let mut random = 1_u64;
        for n in 0..3_000_u32 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Mostly after the newest, sometimes after any.
            let at = if random >> 60 == 0 {
                (random >> 20) as usize % expected.len()
            } else {
                expected.len() - 1
            };
            let (from, mut vector) = expected[at].clone();
            let change = (client(random >> 40 & 0xff), n + 1);
            Arc::make_mut(&mut vector).raise(change.0, change.1);
            expected.push((versions.change(from, vec![change]), vector));
        }
        for (version, vector) in expected.iter().rev() {
            assert_eq!(versions.get(*version), *vector);
        }
        assert!(
            versions
                .nodes
                .iter()
                .filter(|node| matches!(node.step, Step::Whole(_)))
                .count()
                < 60
        );
    }

    #[test]
    fn a_merge_that_adds_nothing_is_no_new_version() {
        let mut versions: Versions<Arc<StateVector>> = Versions::default();
        let one = versions.change(Versions::<Arc<StateVector>>::EMPTY, vec![(client(1), 5)]);
        let two = versions.change(one, vec![(client(2), 5)]);
        let merge = |maps: &[Arc<StateVector>]| {
            let mut all = StateVector::new();
            maps.iter().for_each(|map| all.merge_max(map));
            Ok::<_, ()>(Arc::new(all))
        };
        assert_eq!(versions.merge(&[one, two], merge), Ok(two));
        let other = versions.change(one, vec![(client(3), 1)]);
        let both = versions.merge(&[two, other], merge).unwrap();
        assert_eq!(versions.get(both).len(), 3);
        assert_eq!(versions.merge(&[two, other], |_| Err(())), Ok(both), "remembered");
    }

    #[test]
    fn states_lose_entries_too() {
        let key = |n: u32| ("m.room.member".to_owned(), n.to_string());
        let event = |n: u32| ruma::EventId::parse(format!("${n}")).unwrap();
        let mut versions: Versions<StateMap> = Versions::default();
        let mut at = Versions::<StateMap>::EMPTY;
        for n in 0..200 {
            at = versions.change(at, vec![(key(n), Some(event(n)))]);
        }
        let all = at;
        let fewer = versions.change(at, vec![(key(7), None)]);
        assert_eq!(versions.get(fewer).0.len(), 199);
        assert_eq!(versions.get(all).0.len(), 200);
        let (all, fewer) = (versions.get(all), versions.get(fewer));
        assert_eq!(all.changes(&fewer), [(key(7), None)]);
    }
}
