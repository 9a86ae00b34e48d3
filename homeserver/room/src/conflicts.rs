//! Equal claims: which of several events that brought the same clocks of a client stands.
//!
//! Only a lying server can make two events that bring other blocks under the same ids. Yjs would then differ for ever
//! between those who saw one first and those who saw the other. So every server decides by the same pure function of
//! the events, whatever their order of arrival (`spec/docs/admission.md`): of claims that build on the same blocks the
//! event with the lower id wins, and what builds on a loser falls with it. Must not read the store or the update's text.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use ruma::OwnedEventId;
use weft_crdt::ClientId;

/// What one event brings of one client's blocks: the clocks `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The event.
    pub(crate) event: OwnedEventId,
    /// Whose blocks.
    pub(crate) client: ClientId,
    /// First clock.
    pub(crate) from: u32,
    /// Clock after the last.
    pub(crate) to: u32,
    /// The events in its causal past that brought the block before `from`: mostly one, none at clock 0.
    pub(crate) bases: Vec<OwnedEventId>,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is part of the document.
    Stands,
    /// Another event with other blocks under the same ids stands instead.
    LostTo(OwnedEventId),
    /// It builds on an event that doesn't stand, or that isn't known, and on no other.
    BuildsOn(OwnedEventId),
}

/// Decides about all events that have claims. The order of `claims` makes no difference.
///
/// `differs` tells whether two claims that overlap are of different senders or bring different blocks there: a server that
/// was restored from a backup may bring the same blocks of its user in another event, which harms nobody.
///
/// An event stands or falls as a whole. They are taken in the order of their ids, but each after those that it builds
/// on; it stands if something stands that each of its claims builds on, and none that stands already brings other blocks
/// under its ids.
#[must_use]
pub(crate) fn decide(claims: &[Claim], differs: impl Fn(&Claim, &Claim) -> bool) -> BTreeMap<OwnedEventId, Outcome> {
    let events = Events::gather(claims);
    let mut waiting: BTreeMap<&OwnedEventId, usize> = BTreeMap::new();
    let mut ready = BinaryHeap::new();
    for (event, own) in &events.claims {
        let bases = own.iter().flat_map(|claim| &claim.bases);
        let open = bases.filter(|basis| events.claims.contains_key(*basis)).count();
        if open == 0 {
            ready.push(Reverse(*event));
        } else {
            waiting.insert(event, open);
        }
    }

    let mut outcomes = BTreeMap::new();
    let mut standing = Standing::default();
    while let Some(Reverse(event)) = ready.pop() {
        let own = events.claims.get(event).map(Vec::as_slice).unwrap_or_default();
        let outcome = standing.judge(own, &outcomes, &differs);
        if outcome == Outcome::Stands {
            standing.add(own);
        }
        outcomes.insert(event.clone(), outcome);
        for follower in events.followers.get(event).into_iter().flatten() {
            if let Some(open) = waiting.get_mut(*follower) {
                *open -= 1;
                if *open == 0 {
                    waiting.remove(*follower);
                    ready.push(Reverse(*follower));
                }
            }
        }
    }
    // Hashes allow no circle; should there be one all the same, nothing in it stands.
    for event in waiting.into_keys() {
        outcomes.insert(event.clone(), Outcome::BuildsOn(event.clone()));
    }
    outcomes
}

/// Claims by event, and who builds on whom (once for each claim that does).
#[derive(Default)]
struct Events<'a> {
    claims: BTreeMap<&'a OwnedEventId, Vec<&'a Claim>>,
    followers: BTreeMap<&'a OwnedEventId, Vec<&'a OwnedEventId>>,
}

impl<'a> Events<'a> {
    fn gather(claims: &'a [Claim]) -> Self {
        let mut events = Self::default();
        for claim in claims {
            events.claims.entry(&claim.event).or_default().push(claim);
            for basis in &claim.bases {
                events.followers.entry(basis).or_default().push(&claim.event);
            }
        }
        events
    }
}

/// The claims of events that stand: for each client by their first clock. Those that overlap bring the same blocks.
#[derive(Default)]
struct Standing<'a> {
    clients: BTreeMap<ClientId, Ranges<'a>>,
}

#[derive(Default)]
struct Ranges<'a> {
    by_start: BTreeMap<u32, Vec<&'a Claim>>,
    longest: u32,
}

impl<'a> Standing<'a> {
    fn judge(
        &self,
        own: &[&Claim],
        outcomes: &BTreeMap<OwnedEventId, Outcome>,
        differs: &impl Fn(&Claim, &Claim) -> bool,
    ) -> Outcome {
        let stands = |basis: &OwnedEventId| outcomes.get(basis) == Some(&Outcome::Stands);
        let baseless = own
            .iter()
            .filter(|claim| !claim.bases.is_empty() && !claim.bases.iter().any(stands));
        if let Some(basis) = baseless.flat_map(|claim| &claim.bases).min() {
            return Outcome::BuildsOn(basis.clone());
        }
        let rivals = own
            .iter()
            .flat_map(|claim| self.overlapping(claim).filter(|other| differs(claim, other)));
        match rivals.map(|rival| &rival.event).min() {
            Some(rival) => Outcome::LostTo(rival.clone()),
            None => Outcome::Stands,
        }
    }

    fn overlapping(&self, claim: &Claim) -> impl Iterator<Item = &'a Claim> {
        let ranges = self.clients.get(&claim.client);
        let first = claim.from.saturating_sub(ranges.map_or(0, |ranges| ranges.longest));
        let (from, to) = (claim.from, claim.to);
        ranges
            .into_iter()
            .flat_map(move |ranges| ranges.by_start.range(first..to.max(first)))
            .flat_map(|(_, claims)| claims.iter().copied())
            .filter(move |other| other.to > from && other.from < to)
    }

    fn add(&mut self, own: &[&'a Claim]) {
        for claim in own {
            let ranges = self.clients.entry(claim.client).or_default();
            ranges.longest = ranges.longest.max(claim.to.saturating_sub(claim.from));
            ranges.by_start.entry(claim.from).or_default().push(claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};
    use ruma::EventId;

    use super::*;

    fn id(name: &str) -> OwnedEventId {
        EventId::parse(format!("${name}")).unwrap()
    }

    fn claim(event: &str, client: u64, from: u32, to: u32, basis: Option<&str>) -> Claim {
        Claim {
            event: id(event),
            client: ClientId::new(client).unwrap(),
            from,
            to,
            bases: basis.map(id).into_iter().collect(),
        }
    }

    fn always(_: &Claim, _: &Claim) -> bool {
        true
    }

    #[test]
    fn the_lower_id_wins_and_what_builds_on_the_loser_falls() {
        let claims = [
            claim("b", 1, 0, 10, None),
            claim("c", 1, 0, 5, None),
            claim("a", 1, 5, 10, Some("c")),
            claim("d", 1, 10, 11, Some("b")),
            claim("e", 2, 0, 1, None),
        ];
        let outcomes = decide(&claims, always);
        assert_eq!(outcomes[&id("b")], Outcome::Stands);
        assert_eq!(outcomes[&id("c")], Outcome::LostTo(id("b")));
        // Though its id is the lowest of all: it has nothing to stand on.
        assert_eq!(outcomes[&id("a")], Outcome::BuildsOn(id("c")));
        assert_eq!(outcomes[&id("d")], Outcome::Stands);
        assert_eq!(outcomes[&id("e")], Outcome::Stands);
    }

    #[test]
    fn an_event_falls_as_a_whole_and_frees_its_other_claims() {
        let claims = [
            claim("a", 1, 0, 5, None),
            claim("b", 1, 0, 3, None),
            claim("b", 2, 0, 3, None),
            claim("c", 2, 0, 9, None),
        ];
        let outcomes = decide(&claims, always);
        assert_eq!(outcomes[&id("b")], Outcome::LostTo(id("a")));
        assert_eq!(outcomes[&id("c")], Outcome::Stands, "its rival fell for another reason");
    }

    #[test]
    fn who_has_two_bases_falls_with_neither_alone() {
        let mut both = claim("d", 1, 5, 6, Some("a"));
        both.bases.push(id("b"));
        let claims = [claim("a", 1, 0, 5, None), claim("b", 1, 0, 5, None), both];
        assert_eq!(decide(&claims, always)[&id("d")], Outcome::Stands);
    }

    #[test]
    fn the_same_blocks_twice_harm_nobody() {
        let claims = [
            claim("a", 1, 0, 5, None),
            claim("b", 1, 0, 7, None),
            claim("c", 1, 7, 8, Some("b")),
        ];
        assert!(
            decide(&claims, |_, _| false)
                .values()
                .all(|outcome| *outcome == Outcome::Stands)
        );
    }

    #[test]
    fn what_builds_on_an_unknown_event_does_not_stand() {
        let outcomes = decide(&[claim("a", 1, 4, 5, Some("nobody"))], always);
        assert_eq!(outcomes[&id("a")], Outcome::BuildsOn(id("nobody")));
    }

    /// Histories as lying servers could make them: each event continues any earlier event's blocks, or begins anew.
    fn history() -> impl Strategy<Value = Vec<Claim>> {
        let event = (
            prop::collection::vec((0..3_u64, any::<Index>(), 1..4_u32, any::<bool>()), 1..3),
            any::<u16>(),
        );
        prop::collection::vec(event, 1..25).prop_map(|events| {
            let mut claims: Vec<Claim> = Vec::new();
            for (n, (parts, name)) in events.into_iter().enumerate() {
                let event = id(&format!("{name:05}-{n}"));
                let known = claims.clone();
                for (client, index, length, anew) in parts {
                    let client = ClientId::new(client).unwrap();
                    if claims
                        .iter()
                        .any(|claim| claim.event == event && claim.client == client)
                    {
                        continue;
                    }
                    let bases: Vec<&Claim> = known.iter().filter(|claim| claim.client == client).collect();
                    let basis = (!anew && !bases.is_empty()).then(|| bases[index.index(bases.len())]);
                    let from = basis.map_or(0, |basis| basis.to);
                    claims.push(Claim {
                        event: event.clone(),
                        client,
                        from,
                        to: from + length,
                        bases: basis.map(|b| b.event.clone()).into_iter().collect(),
                    });
                }
            }
            claims
        })
    }

    proptest! {
        #[test]
        fn every_order_of_arrival_gives_one_document(claims in history(), swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 40)) {
            let expected = decide(&claims, always);
            let mut shuffled = claims.clone();
            for (a, b) in swaps {
                let (a, b) = (a.index(shuffled.len()), b.index(shuffled.len()));
                shuffled.swap(a, b);
            }
            prop_assert_eq!(&decide(&shuffled, always), &expected);
            // Told of one more event at a time, the last word is the same.
            let mut last = BTreeMap::new();
            for n in 1..=shuffled.len() {
                last = decide(&shuffled[..n], always);
            }
            prop_assert_eq!(&last, &expected);

            let standing: Vec<&Claim> = claims.iter().filter(|claim| expected[&claim.event] == Outcome::Stands).collect();
            for (n, one) in standing.iter().enumerate() {
                for other in standing.iter().skip(n + 1).filter(|other| other.client == one.client) {
                    prop_assert!(one.to <= other.from || other.to <= one.from, "two stand for the same clocks");
                }
                for basis in &one.bases {
                    prop_assert_eq!(&expected[basis], &Outcome::Stands);
                }
            }
            // Nobody falls without a reason.
            for (event, outcome) in &expected {
                match outcome {
                    Outcome::Stands => {}
                    Outcome::LostTo(rival) => prop_assert_eq!(&expected[rival], &Outcome::Stands),
                    Outcome::BuildsOn(basis) => {
                        prop_assert!(basis != event);
                        prop_assert_ne!(&expected[basis], &Outcome::Stands);
                    }
                }
            }
        }
    }
}
