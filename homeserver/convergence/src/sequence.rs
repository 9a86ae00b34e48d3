//! The text of a room in the order of its graph, event by event, while no clock is claimed twice: each update is then
//! checked against its past only, and neither the events nor the state vectors before the current ones are needed.
//!
//! A clock that is claimed twice is found when the second claim comes; then all events have to be compared
//! ([`crate::rivals`]). Must not read the store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weft_crdt::{ClientId, StateVector};

use crate::{
    admission::{Judgement, Owners, Past, admit_at},
    rivals::{Admitted, Claim},
};

/// The decisions about the updates so far.
#[derive(Debug, Default)]
pub struct Sequence {
    owners: Owners,
    claimed: ClaimedClocks,
}

/// The decision about an update.
#[derive(Debug)]
pub enum Decision {
    /// It is part of the text.
    Stands(Admitted),
    /// It is not: inadmissible after its past, or it contains nothing new.
    Falls,
    /// An earlier update claims a clock of this client that it claims too.
    ClaimedTwice(ClientId),
}

impl Sequence {
    /// Decides about the next update. `known`: the state vector before its event.
    pub fn next(&mut self, claim: &Claim, known: &StateVector) -> Decision {
        for (client, range) in &claim.ranges {
            if !self.claimed.add(*client, *range) {
                return Decision::ClaimedTwice(*client);
            }
        }
        self.admit(claim, known).map_or(Decision::Falls, Decision::Stands)
    }

    /// The same if it is known that no clock is claimed twice.
    pub(crate) fn admit(&mut self, claim: &Claim, known: &StateVector) -> Option<Admitted> {
        let past = Past {
            vector: known,
            owners: &self.owners,
        };
        let (update, ranges) = match admit_at(&claim.update, &claim.sender, &past) {
            Judgement::Admitted { update, ranges } => (update, ranges),
            Judgement::NothingNew | Judgement::Inadmissible { .. } => return None,
        };
        for client in ranges.keys() {
            self.owners.claim(*client, &claim.sender);
        }
        Some(Admitted { update, ranges })
    }
}

/// The claimed clocks of each client as ranges; adjacent ones are joined, so that their number is about that of the
/// clients.
#[derive(Debug, Default)]
struct ClaimedClocks(HashMap<ClientId, BTreeMap<u32, u32>>);

impl ClaimedClocks {
    /// Adds a range; false if one of its clocks is in another.
    fn add(&mut self, client: ClientId, (from, to): (u32, u32)) -> bool {
        let ranges = self.0.entry(client).or_default();
        let before = ranges.range(..=from).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| end > from) || ranges.range(from..to.max(from)).next().is_some() {
            return false;
        }
        let to = ranges.remove(&to).unwrap_or(to);
        match before {
            Some((start, end)) if end == from => ranges.insert(start, to),
            _ => ranges.insert(from, to),
        };
        true
    }
}

/// The state vector before an event: the merge of those after its `prev_events`.
pub fn known_before<'a>(mut after_prev: impl Iterator<Item = &'a Arc<StateVector>>) -> Arc<StateVector> {
    let Some(first) = after_prev.next() else {
        return Arc::default();
    };
    let mut known = Arc::clone(first);
    for other in after_prev {
        if !known.covers(other) {
            Arc::make_mut(&mut known).merge_max(other);
        }
    }
    known
}

/// The state vector after an event.
pub fn known_after(mut known: Arc<StateVector>, admitted: Option<&Admitted>) -> Arc<StateVector> {
    for (client, (_, to)) in admitted.iter().flat_map(|admitted| &admitted.ranges) {
        Arc::make_mut(&mut known).raise(*client, *to);
    }
    known
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_clock_is_found_that_is_claimed_twice(claims in prop::collection::vec((0..2_u32, 0..20_u32, 1..5_u32), 1..12)) {
            let (mut claimed, mut clocks) = (ClaimedClocks::default(), std::collections::BTreeSet::new());
            for (client, from, length) in claims {
                let new: Vec<(u32, u32)> = (from..from + length).map(|clock| (client, clock)).collect();
                let is_new = new.iter().all(|clock| !clocks.contains(clock));
                prop_assert_eq!(claimed.add(ClientId::from(client), (from, from + length)), is_new);
                if !is_new {
                    break;
                }
                clocks.extend(new);
            }
        }
    }

    #[test]
    fn adjacent_ranges_are_one() {
        let (mut claimed, client) = (ClaimedClocks::default(), ClientId::from(1_u32));
        for start in [0, 20, 10, 30] {
            assert!(claimed.add(client, (start, start + 10)));
        }
        assert_eq!(claimed.0[&client], BTreeMap::from([(0, 40)]));
    }
}
