//! The ends of the graph: the events which nothing follows yet, and which of them our next event cites.
//!
//! Few ends mean few states to resolve. Must not trust depth or time, which anybody can choose.

use std::collections::BTreeSet;

use ruma::OwnedEventId;
use weft_wire::limits;

use crate::Pdu;

/// The ends after an event was accepted: it is one, and what it follows is none any more, also by way of events that were
/// rejected or held back until now (`between`): left as an end beside it, such an ancestor would bring back state that was
/// changed since. To be called for accepted events only: rejected and soft-failed ones are never cited by ours.
#[must_use]
pub fn advance<'a>(
    current: &BTreeSet<OwnedEventId>,
    accepted: &'a Pdu,
    between: impl IntoIterator<Item = &'a Pdu>,
) -> BTreeSet<OwnedEventId> {
    let mut next = current.clone();
    for event in between.into_iter().chain([accepted]) {
        for followed in event.prev_events() {
            next.remove(followed);
        }
    }
    next.insert(accepted.event_id().to_owned());
    next
}

/// The ends that our next event cites: all, or where they are more than [`limits::MAX_CITED_EXTREMITIES`] the ones
/// that came last. Our event takes their place, so that the others' turn comes with the events after it.
#[must_use]
pub fn cite(oldest_first: &[OwnedEventId]) -> Vec<OwnedEventId> {
    let left_out = oldest_first.len().saturating_sub(limits::MAX_CITED_EXTREMITIES);
    oldest_first.iter().skip(left_out).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::cite;
    use ruma::{EventId, OwnedEventId};

    #[test]
    fn a_thousand_ends_are_closed_by_about_a_hundred_events() {
        let id = |n: usize| EventId::parse(format!("${n}")).unwrap();
        let mut ends: Vec<OwnedEventId> = (0..1_000).map(id).collect();
        let mut ours = 0;
        while ends.len() > 1 {
            let cited = cite(&ends);
            assert!(cited.len() <= 10 && cited.len() > 1);
            ends.retain(|end| !cited.contains(end));
            ends.push(id(1_000 + ours));
            ours += 1;
        }
        assert!(ours < 115, "{ours}");
    }
}
