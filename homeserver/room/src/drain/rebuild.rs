//! The text from its events alone: which updates stand, what is known after each event, whom client ids belong to.
//!
//! Needed where two events claim the same blocks (only a lying server can make them), and where events from before our
//! time come in. A pure function of the events: the order in which they came makes no difference. Must not read the
//! store, nor the text that it replaces.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedUserId, UserId};
use weft_crdt::{ClientId, StateVector, Update};
use weft_dag::Pdu;
use weft_store::tables::rooms::event_flags;
use weft_wire::{event_types, update::UpdateContent};

use super::order::{Links, order};
use crate::{
    admission::{Judgement, Owners, Past, judge},
    conflicts::{Claim, Outcome, decide},
};

/// Without the losers others are admitted otherwise, and may be losers in turn. Each pass only ever adds some; a graph that
/// needs more passes than this was made to, and where we stop all servers stop.
const MAX_PASSES: usize = 8;

/// An event of the room, in its place.
#[derive(Clone)]
pub(crate) struct InPlace {
    pub(crate) pdu: Arc<Pdu>,
    pub(crate) flags: u8,
}

/// An update that is part of the text.
#[derive(Clone)]
pub(crate) struct Standing {
    pub(crate) event: OwnedEventId,
    pub(crate) sender: OwnedUserId,
    pub(crate) update: Update,
}

/// What follows from the events.
pub(crate) struct Rebuilt {
    /// In the order of the graph.
    pub(crate) updates: Vec<Standing>,
    /// What is known after each event, in the order of the graph, with the event whose vector it is, if it is the same.
    pub(crate) vectors: Vec<(OwnedEventId, Arc<StateVector>)>,
}

/// The accepted events and all their ancestors, in order: what else there is has no part in the text, and none of these
/// follows it.
struct Graph {
    events: Vec<InPlace>,
    place: HashMap<OwnedEventId, usize>,
}

/// What one pass found.
#[derive(Default)]
struct Pass {
    admitted: Vec<(usize, Update, Vec<Claim>)>,
    vectors: Vec<Arc<StateVector>>,
    /// Who brought the blocks of a client that end at a clock.
    ends: HashMap<(ClientId, u32), Vec<usize>>,
    /// Who used a client id first.
    firsts: HashMap<ClientId, Vec<usize>>,
}

/// Works the text out.
pub(crate) fn rebuild(events: Vec<InPlace>) -> Rebuilt {
    let graph = Graph::new(events);
    let mut fallen: BTreeSet<OwnedEventId> = BTreeSet::new();
    let mut pass = graph.pass(&fallen);
    for round in 1..=MAX_PASSES {
        let outcomes = pass.outcomes(&graph);
        // What builds on a loser is admitted again without it: it may be all there by itself, or have a gap.
        let last = round == MAX_PASSES;
        let losers = outcomes.into_iter().filter(|(_, outcome)| match outcome {
            Outcome::Stands => false,
            Outcome::LostTo(_) => true,
            Outcome::BuildsOn(_) => last,
        });
        let known = fallen.len();
        fallen.extend(losers.map(|(event, _)| event));
        if fallen.len() == known {
            break;
        }
        pass = graph.pass(&fallen);
    }
    let ids = graph.events.iter().map(|event| event.pdu.event_id().to_owned());
    let vectors = ids.zip(pass.vectors).collect();
    let standing = pass.admitted.into_iter().filter_map(|(at, update, _)| {
        let pdu = &graph.events.get(at)?.pdu;
        Some(Standing {
            event: pdu.event_id().to_owned(),
            sender: pdu.sender().to_owned(),
            update,
        })
    });
    Rebuilt {
        updates: standing.collect(),
        vectors,
    }
}

impl Graph {
    fn new(events: Vec<InPlace>) -> Self {
        let events = order(followed(events), Links::All, |event| &event.pdu);
        let place = events
            .iter()
            .enumerate()
            .map(|(at, event)| (event.pdu.event_id().to_owned(), at))
            .collect();
        Self { events, place }
    }

    fn before(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let prev = self
            .events
            .get(at)
            .map(|event| event.pdu.prev_events())
            .unwrap_or_default();
        prev.iter().filter_map(|id| self.place.get(&**id).copied())
    }

    /// Admits every update against its past, as if those that fell had brought nothing.
    fn pass(&self, fallen: &BTreeSet<OwnedEventId>) -> Pass {
        let mut pass = Pass::default();
        for (at, event) in self.events.iter().enumerate() {
            let known = self.known_before(&pass, at);
            let carries = event.pdu.kind() == event_types::UPDATE
                && event.pdu.state_key().is_none()
                && event.flags & event_flags::REJECTED == 0;
            let after = if carries {
                self.admit(&mut pass, at, &event.pdu, &known, fallen)
            } else {
                None
            };
            pass.vectors.push(after.map_or(known, Arc::new));
        }
        pass
    }

    fn known_before(&self, pass: &Pass, at: usize) -> Arc<StateVector> {
        let mut vectors = self.before(at).filter_map(|before| pass.vectors.get(before));
        let Some(first) = vectors.next() else {
            return Arc::new(StateVector::new());
        };
        let mut known = Arc::clone(first);
        for other in vectors {
            if !known.covers(other) {
                Arc::make_mut(&mut known).merge_max(other);
            }
        }
        known
    }

    /// What is known after an update, if it is admitted.
    fn admit(
        &self,
        pass: &mut Pass,
        at: usize,
        pdu: &Pdu,
        known: &StateVector,
        fallen: &BTreeSet<OwnedEventId>,
    ) -> Option<StateVector> {
        if fallen.contains(pdu.event_id()) {
            return None;
        }
        let content: UpdateContent = pdu.content_as().ok()?;
        let mut owners = Owners::default();
        for client in content.ranges().ok()?.into_keys().filter_map(ClientId::new) {
            let first = self.in_past(pass.firsts.get(&client), at).into_iter().next();
            if let Some(first) = first.and_then(|first| self.events.get(first)) {
                owners.claim(client, first.pdu.sender());
            }
        }
        let Judgement::Admitted { update, ranges } = judge(
            &content,
            pdu.sender(),
            &Past {
                vector: known,
                owners: &owners,
            },
        ) else {
            return None;
        };
        let claims = ranges.iter().map(|(client, (from, to))| {
            let bases = self.in_past(pass.ends.get(&(*client, *from)).filter(|_| *from > 0), at);
            let bases = bases.into_iter().filter_map(|basis| self.events.get(basis));
            Claim {
                event: pdu.event_id().to_owned(),
                client: *client,
                from: *from,
                to: *to,
                bases: bases.map(|basis| basis.pdu.event_id().to_owned()).collect(),
            }
        });
        pass.admitted.push((at, update, claims.collect()));
        let mut after = known.clone();
        for (client, (from, to)) in ranges {
            after.raise(client, to);
            pass.ends.entry((client, to)).or_default().push(at);
            if from == 0 {
                pass.firsts.entry(client).or_default().push(at);
            }
        }
        Some(after)
    }

    /// Which of these events are in the past of an event. Mostly there is one, and admission said that it is; only where
    /// blocks were forged there are more, and the graph is walked.
    fn in_past(&self, candidates: Option<&Vec<usize>>, at: usize) -> Vec<usize> {
        let Some(candidates) = candidates else {
            return Vec::new();
        };
        if let [one] = candidates.as_slice() {
            return vec![*one];
        }
        let mut found = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut work: Vec<usize> = self.before(at).collect();
        while let Some(before) = work.pop() {
            if seen.insert(before) {
                if candidates.contains(&before) {
                    found.insert(before);
                }
                work.extend(self.before(before));
            }
        }
        found.into_iter().collect()
    }
}

/// What the accepted events and their ancestors follow that is not here. What only a refused event follows has no part in
/// the text: it may not have been held against the state of now yet, and isn't asked for.
pub(crate) fn missing(events: &HashMap<OwnedEventId, InPlace>) -> BTreeSet<OwnedEventId> {
    let counted = followed(events.values().cloned().collect());
    let cited = counted.iter().flat_map(|event| event.pdu.prev_events());
    cited.filter(|id| !events.contains_key(*id)).cloned().collect()
}

/// The accepted events and all their ancestors.
fn followed(events: Vec<InPlace>) -> Vec<InPlace> {
    let mut events: BTreeMap<OwnedEventId, InPlace> = events
        .into_iter()
        .filter(|event| event.flags & event_flags::OUTLIER == 0)
        .map(|event| (event.pdu.event_id().to_owned(), event))
        .collect();
    let accepted = events.values().filter(|event| event_flags::is_accepted(event.flags));
    let mut work: Vec<Arc<Pdu>> = accepted.map(|event| Arc::clone(&event.pdu)).collect();
    let mut seen: HashSet<OwnedEventId> = work.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    while let Some(pdu) = work.pop() {
        for id in pdu.prev_events() {
            if let Some(before) = events.get(id).filter(|_| !seen.contains(id)) {
                seen.insert(id.clone());
                work.push(Arc::clone(&before.pdu));
            }
        }
    }
    events.retain(|id, _| seen.contains(id));
    events.into_values().collect()
}

impl Pass {
    /// What becomes of those that were admitted; empty where nothing is disputed.
    fn outcomes(&self, graph: &Graph) -> BTreeMap<OwnedEventId, Outcome> {
        let claims: Vec<Claim> = self
            .admitted
            .iter()
            .flat_map(|(_, _, claims)| claims)
            .cloned()
            .collect();
        if !overlap(&claims) {
            return BTreeMap::new();
        }
        // Who says it belongs to it: else a client id would have two owners, and which of them a server knows would
        // depend on whom it heard first.
        let said: HashMap<&EventId, (&UserId, Vec<u8>)> = self
            .admitted
            .iter()
            .filter_map(|(at, update, _)| {
                let pdu = &graph.events.get(*at)?.pdu;
                Some((pdu.event_id(), (pdu.sender(), update.encode())))
            })
            .collect();
        decide(&claims, |one, other| said.get(&*one.event) != said.get(&*other.event))
    }
}

/// Whether any two claims overlap: mostly none do, and there is nothing to decide.
fn overlap(claims: &[Claim]) -> bool {
    let mut by_client: BTreeMap<ClientId, Vec<(u32, u32)>> = BTreeMap::new();
    for claim in claims {
        by_client.entry(claim.client).or_default().push((claim.from, claim.to));
    }
    by_client.into_values().any(|mut ranges| {
        ranges.sort_unstable();
        ranges
            .windows(2)
            .any(|pair| matches!(pair, [(_, end), (from, _)] if from < end))
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};
    use ruma::RoomVersionId;
    use weft_dag::testing::World;
    use yrs::{Doc, ReadTxn as _, Text as _, Transact as _};

    use super::*;

    const WRITERS: [&str; 3] = ["@alice:a.example", "@bob:b.example", "@carol:c.example"];

    /// The blocks `[from, to)` of a client, as somebody says them who wrote nothing but this letter.
    fn update(client: u64, letter: char, from: u32, to: u32) -> serde_json::Value {
        let doc = Doc::with_client_id(client);
        let body = doc.get_or_insert_text("body");
        let text: String = std::iter::repeat_n(letter, usize::try_from(to).unwrap()).collect();
        body.insert(&mut doc.transact_mut(), 0, &text);
        let mut known = yrs::StateVector::default();
        known.set_max(yrs::block::ClientID::new(client), from);
        let bytes = doc.transact().encode_diff_v1(&known);
        serde_json::to_value(UpdateContent::new(&bytes, [(client, (from, to))])).unwrap()
    }

    #[derive(Clone, Debug)]
    struct Said {
        who: usize,
        client: u64,
        letter: char,
        from: u32,
        length: u32,
        after: Vec<Index>,
    }

    fn said() -> impl Strategy<Value = Said> {
        let letters = prop::sample::select(vec!['a', 'b', 'c']);
        (
            0..3_usize,
            1..3_u64,
            letters,
            0..3_u32,
            1..3_u32,
            prop::collection::vec(any::<Index>(), 1..3),
        )
            .prop_map(|(who, client, letter, from, length, after)| Said {
                who,
                client,
                letter,
                from: from * 2,
                length: length * 2,
                after,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// However many lie, and in whatever order it comes: one text.
        #[test]
        fn the_order_of_arrival_makes_no_difference(
            says in prop::collection::vec(said(), 1..16),
            swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 30),
        ) {
            let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
            let start = world.order.len() - 1;
            for said in says {
                let places = &world.order[start..];
                let mut prev: Vec<OwnedEventId> =
                    said.after.iter().map(|index| places[index.index(places.len())].clone()).collect();
                prev.sort();
                prev.dedup();
                let content = update(said.client, said.letter, said.from, said.from + said.length);
                world.send_after(&prev, WRITERS[said.who], "dev.weft.update", None, content);
            }
            let mut events: Vec<InPlace> =
                world.order.iter().map(|id| InPlace { pdu: world.pdu(id), flags: 0 }).collect();
            let one = rebuild(events.clone());
            for (a, b) in swaps {
                let (a, b) = (a.index(events.len()), b.index(events.len()));
                events.swap(a, b);
            }
            let other = rebuild(events);
            let standing = |rebuilt: &Rebuilt| -> BTreeMap<OwnedEventId, Vec<u8>> {
                rebuilt.updates.iter().map(|update| (update.event.clone(), update.update.encode())).collect()
            };
            prop_assert_eq!(standing(&one), standing(&other));
            let known = |rebuilt: &Rebuilt| -> BTreeMap<OwnedEventId, Vec<u8>> {
                rebuilt.vectors.iter().map(|(event, vector)| (event.clone(), vector.encode())).collect()
            };
            prop_assert_eq!(known(&one), known(&other));
            // No two that stand bring other blocks under one id.
            for (n, first) in one.updates.iter().enumerate() {
                for second in one.updates.iter().skip(n + 1) {
                    for (client, (from, to)) in first.update.ranges() {
                        let Some((other_from, other_to)) = second.update.ranges().get(&client).copied() else { continue };
                        let apart = to <= other_from || other_to <= from;
                        prop_assert!(apart || first.update.encode() == second.update.encode());
                    }
                }
            }
        }
    }

    #[test]
    fn what_builds_on_a_lie_that_lost_is_out_and_what_was_said_beside_it_is_in() {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25)]);
        let fork = world.head_list();
        let one = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'a', 0, 4));
        let two = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'b', 0, 4));
        let (winner, loser) = if one.event_id() < two.event_id() {
            (one, two)
        } else {
            (two, one)
        };
        let on_loser = [loser.event_id().to_owned()];
        let continues = world.send_after(&on_loser, WRITERS[1], "dev.weft.update", None, update(7, 'b', 4, 6));
        let beside = world.send_after(&on_loser, WRITERS[0], "dev.weft.update", None, update(8, 'x', 0, 2));
        let events = world
            .order
            .iter()
            .map(|id| InPlace {
                pdu: world.pdu(id),
                flags: 0,
            })
            .collect();
        let standing: BTreeSet<OwnedEventId> = rebuild(events).updates.into_iter().map(|update| update.event).collect();
        assert!(standing.contains(winner.event_id()) && standing.contains(beside.event_id()));
        assert!(!standing.contains(loser.event_id()) && !standing.contains(continues.event_id()));
    }
}
