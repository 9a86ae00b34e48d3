//! The forward extremities of the graph, and which of them our next event references.
//!
//! Few extremities mean few states to resolve. Must not trust depth or time, which the sender chooses.

use std::collections::BTreeSet;

use ruma::OwnedEventId;
use weft_wire::limits;

use crate::Pdu;

/// The forward extremities after an event was accepted. The event becomes one. The events it references are no longer
/// extremities, also those that it reaches through events rejected or soft-failed until now (`between`): an ancestor
/// left as an extremity would bring back state that has changed since. Must be called for accepted events only: our
/// events never reference rejected and soft-failed ones.
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

/// The forward extremities that our next event references: all, or if there are more than
/// [`limits::MAX_CITED_EXTREMITIES`], the newest. Our event replaces them, so that later events reference the others.
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
    fn a_thousand_extremities_are_merged_by_about_a_hundred_events() {
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
