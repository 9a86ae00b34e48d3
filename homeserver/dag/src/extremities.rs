//! The forward extremities of the graph, and which of them our next event references.
//!
//! Few extremities mean few states to resolve. Must not trust depth or time, which the sender chooses.

use ruma::OwnedEventId;
use weft_wire::limits;

use crate::Pdu;

/// The events that are no longer forward extremities once an event is accepted, which becomes one: the events it
/// references, also those that it reaches through events rejected or soft-failed until now (`between`). An ancestor left
/// as an extremity would bring back state that has changed since. Must be called for accepted events only: our events
/// never reference rejected and soft-failed ones.
pub fn followed<'a>(
    accepted: &'a Pdu,
    between: impl IntoIterator<Item = &'a Pdu>,
) -> impl Iterator<Item = &'a OwnedEventId> {
    let events = between.into_iter().chain([accepted]);
    events.flat_map(Pdu::prev_events)
}

/// The forward extremities that our next event references, oldest first: all, or if there are more than
/// [`limits::MAX_CITED_EXTREMITIES`], the newest. Our event replaces them, so that later events reference the others.
#[must_use]
pub fn cite<'a>(newest_first: impl IntoIterator<Item = &'a OwnedEventId>) -> Vec<OwnedEventId> {
    let newest = newest_first.into_iter().take(limits::MAX_CITED_EXTREMITIES);
    let mut cited: Vec<OwnedEventId> = newest.cloned().collect();
    cited.reverse();
    cited
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
            let cited = cite(ends.iter().rev());
            assert!(cited.len() <= 10 && cited.len() > 1);
            ends.retain(|end| !cited.contains(end));
            ends.push(id(1_000 + ours));
            ours += 1;
        }
        assert!(ours < 115, "{ours}");
    }
}
