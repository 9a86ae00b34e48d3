//! The order in which received events are decided: each after those of them in its `prev_events` and `auth_events`.
//!
//! Must not use depth or time: the sender chooses those.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::Pdu;
use ruma::{EventId, OwnedEventId};

/// Which references count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// `prev_events` and `auth_events`.
    All,
    /// `auth_events` alone, for events whose position in the timeline doesn't matter.
    Auth,
}

/// Sorts items by their events; ready items stay in the given order. Of an event that occurs twice the first item is
/// kept. Cycles, which hashes make impossible, are left out.
pub fn order<T>(items: Vec<T>, links: Links, pdu: impl Fn(&T) -> &Pdu) -> Vec<T> {
    let mut unique: HashMap<OwnedEventId, usize> = HashMap::new();
    let mut heap: Vec<Option<T>> = Vec::new();
    for item in items {
        if let Entry::Vacant(free) = unique.entry(pdu(&item).event_id().to_owned()) {
            free.insert(heap.len());
            heap.push(Some(item));
        }
    }
    let place = |id: &EventId| unique.get(id).copied();
    let mut open = vec![0_usize; heap.len()];
    let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, item) in heap.iter().enumerate() {
        let Some(event) = item.as_ref().map(&pdu) else { continue };
        let prev = if links == Links::All { event.prev_events() } else { &[] };
        for before in prev.iter().chain(event.auth_events()).filter_map(|id| place(id)) {
            followers.entry(before).or_default().push(at);
            if let Some(open) = open.get_mut(at) {
                *open += 1;
            }
        }
    }
    let mut ready: VecDeque<usize> = (0..heap.len()).filter(|at| open.get(*at) == Some(&0)).collect();
    let mut sorted = Vec::with_capacity(heap.len());
    while let Some(at) = ready.pop_front() {
        sorted.extend(heap.get_mut(at).and_then(Option::take));
        for follower in followers.get(&at).into_iter().flatten() {
            let Some(open) = open.get_mut(*follower) else { continue };
            *open -= 1;
            if *open == 0 {
                ready.push_back(*follower);
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use crate::testing::World;
    use proptest::{prelude::*, sample::Index};
    use ruma::RoomVersionId;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn every_event_comes_after_the_events_that_it_references(swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 30), forks in prop::collection::vec(any::<Index>(), 12)) {
            let mut world = World::public(&RoomVersionId::V12, "@alice:a.example", &[("@bob:b.example", 50)]);
            for (n, fork) in forks.iter().enumerate() {
                let after = world.order[4 + fork.index(world.order.len() - 4)].clone();
                world.send_after(&[after], "@bob:b.example", "m.room.message", None, serde_json::json!({ "n": n }));
            }
            let mut events: Vec<_> = world.order.iter().map(|id| world.pdu(id)).collect();
            for (a, b) in swaps {
                let (a, b) = (a.index(events.len()), b.index(events.len()));
                events.swap(a, b);
            }
            events.push(events[0].clone());
            for links in [Links::All, Links::Auth] {
                let sorted = order(events.clone(), links, |pdu| pdu);
                prop_assert_eq!(sorted.len(), world.order.len());
                for (at, event) in sorted.iter().enumerate() {
                    let prev = if links == Links::All { event.prev_events() } else { &[] };
                    for before in prev.iter().chain(event.auth_events()) {
                        prop_assert!(sorted[..at].iter().any(|earlier| earlier.event_id() == before));
                    }
                }
            }
        }
    }
}
