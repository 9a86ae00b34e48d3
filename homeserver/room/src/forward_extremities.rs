//! The forward extremities of a room in memory, in the order of their arrival, with the state groups after them.
//!
//! Another server chooses how many branches its events make, so the cost of an accepted event must not grow with the
//! number of extremities. Must not decide which events are accepted, and must not read the store.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};
use weft_dag::{Pdu, extremities};

/// What is known of the state after an extremity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StateAfter {
    /// The row was not read since the room was loaded.
    #[default]
    NotRead,
    /// The event has no state group.
    Absent,
    /// The number of the state group.
    Group(u64),
}

impl StateAfter {
    /// From the row of the event, which may be absent.
    pub(crate) fn read(group: Option<u64>) -> Self {
        group.map_or(Self::Absent, Self::Group)
    }
}

/// A forward extremity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extremity {
    pub(crate) id: OwnedEventId,
    pub(crate) depth: u64,
    pub(crate) after: StateAfter,
}

impl Extremity {
    /// An accepted event whose state group is not known yet.
    pub(crate) fn of(pdu: &Pdu) -> Self {
        Self {
            id: pdu.event_id().to_owned(),
            depth: pdu.depth(),
            after: StateAfter::NotRead,
        }
    }
}

/// How many extremities have each state group after them.
pub(crate) type Groups = BTreeMap<u64, usize>;

/// The forward extremities of a room.
#[derive(Debug, Default)]
pub(crate) struct ForwardExtremities {
    /// By a number that grows with each arrival.
    by_arrival: BTreeMap<u64, Extremity>,
    arrivals: HashMap<OwnedEventId, u64>,
    groups: Groups,
    unread: HashSet<OwnedEventId>,
    next: u64,
    /// Whether they differ from what the store contains.
    is_changed: bool,
}

impl ForwardExtremities {
    /// Those of the store, oldest first.
    pub(crate) fn stored(oldest_first: impl IntoIterator<Item = Extremity>) -> Self {
        let mut extremities = Self::default();
        for extremity in oldest_first {
            extremities.push(extremity);
        }
        extremities.is_changed = false;
        extremities
    }

    pub(crate) fn len(&self) -> usize {
        self.by_arrival.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_arrival.is_empty()
    }

    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.arrivals.contains_key(id)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Extremity> {
        self.by_arrival.values()
    }

    /// The event ids, oldest first.
    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = &OwnedEventId> {
        self.iter().map(|extremity| &extremity.id)
    }

    /// At most `count` of them: the newest, oldest first.
    pub(crate) fn newest(&self, count: usize) -> impl Iterator<Item = &OwnedEventId> {
        self.ids().skip(self.len().saturating_sub(count))
    }

    /// The depths of those of these events that are extremities.
    pub(crate) fn depths<'a>(&'a self, ids: &'a [OwnedEventId]) -> impl Iterator<Item = u64> + 'a {
        let known = ids.iter().filter_map(|id| self.arrivals.get(id));
        known.filter_map(|arrival| Some(self.by_arrival.get(arrival)?.depth))
    }

    /// An accepted event becomes an extremity, and what it follows is none any more ([`extremities::followed`]).
    pub(crate) fn advance(&mut self, accepted: &Pdu, between: &[Arc<Pdu>], after: StateAfter) {
        for followed in extremities::followed(accepted, between.iter().map(Arc::as_ref)) {
            self.remove(followed);
        }
        self.push(Extremity {
            after,
            ..Extremity::of(accepted)
        });
    }

    /// The state groups that remain after [`ForwardExtremities::advance`] with these events, without the one of the
    /// accepted event itself. [`ForwardExtremities::unread`] must be empty.
    pub(crate) fn groups_beside(&self, accepted: &Pdu, between: &[Arc<Pdu>]) -> Groups {
        let mut groups = self.groups.clone();
        let mut leaving: Vec<&OwnedEventId> =
            extremities::followed(accepted, between.iter().map(Arc::as_ref)).collect();
        let own = accepted.event_id().to_owned();
        leaving.push(&own);
        leaving.sort();
        leaving.dedup();
        let known = leaving.into_iter().filter_map(|id| self.arrivals.get(id));
        for extremity in known.filter_map(|arrival| self.by_arrival.get(arrival)) {
            uncount(&mut groups, extremity.after);
        }
        groups
    }

    /// The state groups after the extremities. [`ForwardExtremities::unread`] must be empty.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Extremities whose state group was not read yet.
    pub(crate) fn unread(&self) -> Vec<OwnedEventId> {
        self.unread.iter().cloned().collect()
    }

    /// Records the state after an extremity.
    pub(crate) fn note_state(&mut self, id: &EventId, after: StateAfter) {
        let arrival = self.arrivals.get(id);
        if let Some(extremity) = arrival.and_then(|arrival| self.by_arrival.get_mut(arrival)) {
            uncount(&mut self.groups, extremity.after);
            extremity.after = after;
            count(&mut self.groups, after);
            self.unread.remove(id);
        }
    }

    /// Keeps only some extremities.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&EventId) -> bool) {
        let leaving: Vec<OwnedEventId> = self.ids().filter(|id| !keep(id)).cloned().collect();
        for id in &leaving {
            self.remove(id);
        }
    }

    /// Adds an extremity as the newest; one that is there keeps its place.
    pub(crate) fn push(&mut self, extremity: Extremity) {
        if self.contains(&extremity.id) {
            return;
        }
        self.next = self.next.saturating_add(1);
        count(&mut self.groups, extremity.after);
        if extremity.after == StateAfter::NotRead {
            self.unread.insert(extremity.id.clone());
        }
        self.arrivals.insert(extremity.id.clone(), self.next);
        self.by_arrival.insert(self.next, extremity);
        self.is_changed = true;
    }

    fn remove(&mut self, id: &EventId) {
        let arrival = self.arrivals.remove(id);
        if let Some(extremity) = arrival.and_then(|arrival| self.by_arrival.remove(&arrival)) {
            uncount(&mut self.groups, extremity.after);
            self.unread.remove(id);
            self.is_changed = true;
        }
    }

    /// Whether they have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }
}

fn count(groups: &mut Groups, after: StateAfter) {
    if let StateAfter::Group(group) = after {
        *groups.entry(group).or_default() += 1;
    }
}

fn uncount(groups: &mut Groups, after: StateAfter) {
    let StateAfter::Group(group) = after else { return };
    if let Some(number) = groups.get_mut(&group) {
        *number = number.saturating_sub(1);
        if *number == 0 {
            groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use ruma::RoomVersionId;
    use weft_dag::testing::World;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any graph: the same ids as a set from which each event removes what it follows, and counts of their groups.
        #[test]
        fn they_are_the_events_that_no_accepted_event_follows(
            shape in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 1..4), 0_u64..3), 1..40),
        ) {
            let mut world = World::public(&RoomVersionId::V12, "@alice:a.example", &[]);
            let mut all = world.head_list();
            let mut extremities = ForwardExtremities::stored([]);
            let mut expected: BTreeSet<OwnedEventId> = BTreeSet::new();
            let mut groups: HashMap<OwnedEventId, u64> = HashMap::new();
            for (prev, group) in shape {
                let prev: BTreeSet<_> = prev.iter().map(|index| index.get(&all).clone()).collect();
                let prev: Vec<_> = prev.into_iter().collect();
                let body = serde_json::json!({ "body": all.len() });
                let pdu = world.send_after(&prev, "@alice:a.example", "m.room.message", None, body);
                let beside = extremities.groups_beside(&pdu, &[]);
                extremities.advance(&pdu, &[], StateAfter::Group(group));
                expected.retain(|id| !prev.contains(id));
                expected.insert(pdu.event_id().to_owned());
                groups.insert(pdu.event_id().to_owned(), group);
                all.push(pdu.event_id().to_owned());

                prop_assert_eq!(extremities.ids().cloned().collect::<BTreeSet<_>>(), expected.clone());
                let mut counted = Groups::new();
                expected.iter().for_each(|id| *counted.entry(groups[id]).or_default() += 1);
                prop_assert_eq!(extremities.groups(), &counted);
                uncount(&mut counted, StateAfter::Group(group));
                prop_assert_eq!(beside, counted);
                let by_age: Vec<_> = extremities.ids().map(|id| all.iter().position(|other| other == id)).collect();
                prop_assert!(by_age.is_sorted());
            }
        }
    }

    #[test]
    fn the_state_of_a_stored_extremity_is_read_once() {
        let id = EventId::parse("$one").unwrap();
        let extremity = Extremity {
            id: id.clone(),
            depth: 3,
            after: StateAfter::NotRead,
        };
        let mut extremities = ForwardExtremities::stored([extremity]);
        assert_eq!(extremities.unread(), std::slice::from_ref(&id));
        extremities.note_state(&id, StateAfter::Group(7));
        assert!(extremities.unread().is_empty() && !extremities.take_changed());
        assert_eq!(extremities.groups(), &Groups::from([(7, 1)]));
        assert_eq!(extremities.depths(std::slice::from_ref(&id)).collect::<Vec<_>>(), [3]);
        extremities.retain(|_| false);
        assert!(extremities.groups().is_empty() && extremities.take_changed() && !extremities.take_changed());
    }
}
