//! The text from its events alone: which updates stand, what is known after each event, whom client ids belong to.
//!
//! Needed where two events claim the same blocks (only a lying server can make them), and where events from before our
//! time come in. A pure function of the events: the order in which they came makes no difference. And what comes new, and
//! touches no block that stands, changes nothing of what stands: so it can be taken in alone ([`super::text`]). Must not
//! read the store, nor the text that it replaces. Source: "Two claims to the same clocks" in `spec/docs/admission.md`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedUserId};
use weft_crdt::{ClientId, StateVector, Update};
use weft_dag::Pdu;
use weft_store::tables::rooms::event_flags;
use weft_wire::{event_types, update::UpdateContent};

use crate::{
    admission::{Judgement, Owners, Past, judge},
    conflicts::Claims,
};

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
    /// What is known after each event, in the order of the graph.
    pub(crate) vectors: Vec<(OwnedEventId, Arc<StateVector>)>,
}

/// The text as it grows, event by event.
#[derive(Default)]
struct Growing {
    updates: Vec<Standing>,
    /// Who brought which blocks, by the place in `updates`.
    claims: Claims,
    owners: Owners,
    /// What is known after each event.
    vectors: HashMap<OwnedEventId, Arc<StateVector>>,
}

/// Works the text out.
pub(crate) fn rebuild(events: Vec<InPlace>) -> Rebuilt {
    let mut text = Growing::default();
    let mut vectors = Vec::with_capacity(events.len());
    for event in in_order(followed(events)) {
        let known = text.known_before(&event.pdu);
        let after = text.admit(&event, &known).map_or(known, Arc::new);
        let id = event.pdu.event_id().to_owned();
        text.vectors.insert(id.clone(), Arc::clone(&after));
        vectors.push((id, after));
    }
    Rebuilt {
        updates: text.updates,
        vectors,
    }
}

impl Growing {
    fn known_before(&self, pdu: &Pdu) -> Arc<StateVector> {
        let mut vectors = pdu.prev_events().iter().filter_map(|before| self.vectors.get(before));
        let Some(first) = vectors.next() else {
            return Arc::default();
        };
        let mut known = Arc::clone(first);
        for other in vectors {
            if !known.covers(other) {
                Arc::make_mut(&mut known).merge_max(other);
            }
        }
        known
    }

    /// What is known after an event that carries an update, if that stands: it is admissible after what stands of its
    /// past, and nothing that stands has brought other blocks under its ids.
    fn admit(&mut self, event: &InPlace, known: &StateVector) -> Option<StateVector> {
        let pdu = &event.pdu;
        let is_rejected = event.flags & event_flags::REJECTED != 0;
        if is_rejected || pdu.kind() != event_types::UPDATE || pdu.state_key().is_some() {
            return None;
        }
        let content: UpdateContent = pdu.content_as().ok()?;
        let past = Past {
            vector: known,
            owners: &self.owners,
        };
        let Judgement::Admitted { update, ranges } = judge(&content, pdu.sender(), &past) else {
            return None;
        };
        let standing = Standing {
            event: pdu.event_id().to_owned(),
            sender: pdu.sender().to_owned(),
            update,
        };
        if self.has_rival(&standing, &ranges) {
            return None;
        }
        let mut after = known.clone();
        for (client, range) in ranges {
            after.raise(client, range.1);
            self.claims.add(client, range, self.updates.len());
            self.owners.claim(client, pdu.sender());
        }
        self.updates.push(standing);
        Some(after)
    }

    /// Whether something that stands brings other blocks under some of these ids.
    fn has_rival(&self, update: &Standing, ranges: &BTreeMap<ClientId, (u32, u32)>) -> bool {
        let mut rivals = ranges
            .iter()
            .flat_map(|(client, range)| self.claims.overlapping(*client, *range))
            .filter_map(|rival| self.updates.get(rival));
        rivals.any(|rival| differs(rival, update))
    }
}

/// Whether two updates that bring the same ids are two texts. Who says it belongs to it: else a client id would have two
/// owners, and which of them a server knows would depend on whom it heard first. A server that was restored from a backup
/// may bring the same blocks of its user in another event, which harms nobody.
fn differs(one: &Standing, other: &Standing) -> bool {
    one.sender != other.sender || one.update.encode() != other.update.encode()
}

/// Events in the one order that follows from the graph: each after those that it follows, and of those that are ready the
/// one with the lowest id. What comes new and is followed by none of these takes a place among them and moves nobody.
/// What is in a circle, which no hashes allow, is left out.
fn in_order(mut events: Vec<InPlace>) -> Vec<InPlace> {
    // By id, so that a lower place is a lower id.
    events.sort_unstable_by(|one, other| one.pdu.event_id().cmp(other.pdu.event_id()));
    let place: HashMap<&EventId, usize> = events.iter().map(|event| event.pdu.event_id()).zip(0..).collect();
    let mut open = vec![0_usize; events.len()];
    let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, (event, open)) in events.iter().zip(&mut open).enumerate() {
        for before in event.pdu.prev_events().iter().filter_map(|id| place.get(&**id)) {
            followers.entry(*before).or_default().push(at);
            *open += 1;
        }
    }
    let unfollowing = open.iter().zip(0..).filter(|(open, _)| **open == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = unfollowing.map(|(_, at)| Reverse(at)).collect();
    let mut sorted = Vec::with_capacity(events.len());
    while let Some(Reverse(at)) = ready.pop() {
        sorted.extend(events.get(at).cloned());
        for follower in followers.get(&at).into_iter().flatten() {
            if let Some(open) = open.get_mut(*follower) {
                *open -= 1;
                if *open == 0 {
                    ready.push(Reverse(*follower));
                }
            }
        }
    }
    sorted
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

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};
    use ruma::RoomVersionId;
    use weft_dag::testing::World;
    use yrs::{Doc, ReadTxn as _, Text as _, Transact as _, updates::decoder::Decode as _};

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

    fn swaps() -> impl Strategy<Value = Vec<(Index, Index)>> {
        prop::collection::vec((any::<Index>(), any::<Index>()), 30)
    }

    /// A room in which this was said.
    fn history(says: Vec<Said>) -> Vec<InPlace> {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
        let start = world.order.len() - 1;
        for said in says {
            let places = &world.order[start..];
            let prev = said.after.iter().map(|index| places[index.index(places.len())].clone());
            let prev: BTreeSet<OwnedEventId> = prev.collect();
            let content = update(said.client, said.letter, said.from, said.from + said.length);
            let prev: Vec<OwnedEventId> = prev.into_iter().collect();
            world.send_after(&prev, WRITERS[said.who], "dev.weft.update", None, content);
        }
        in_place(&world)
    }

    fn in_place(world: &World) -> Vec<InPlace> {
        let events = world.order.iter().map(|id| world.pdu(id));
        events.map(|pdu| InPlace { pdu, flags: 0 }).collect()
    }

    fn standing(rebuilt: &Rebuilt) -> BTreeMap<OwnedEventId, Vec<u8>> {
        let updates = rebuilt.updates.iter();
        updates
            .map(|update| (update.event.clone(), update.update.encode()))
            .collect()
    }

    fn claims(event: &InPlace) -> BTreeMap<u64, (u32, u32)> {
        let content = event.pdu.content_as::<UpdateContent>();
        content
            .ok()
            .and_then(|content| content.ranges().ok())
            .unwrap_or_default()
    }

    fn apart(one: (u32, u32), other: (u32, u32)) -> bool {
        one.1 <= other.0 || other.1 <= one.0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// However many lie, and in whatever order it comes: one text.
        #[test]
        fn the_order_of_arrival_makes_no_difference(says in prop::collection::vec(said(), 1..16), swaps in swaps()) {
            let mut events = history(says);
            let one = rebuild(events.clone());
            for (a, b) in swaps {
                let (a, b) = (a.index(events.len()), b.index(events.len()));
                events.swap(a, b);
            }
            let other = rebuild(events);
            prop_assert_eq!(standing(&one), standing(&other));
            let known = |rebuilt: &Rebuilt| -> BTreeMap<OwnedEventId, Vec<u8>> {
                rebuilt.vectors.iter().map(|(event, vector)| (event.clone(), vector.encode())).collect()
            };
            prop_assert_eq!(known(&one), known(&other));
            // No two that stand bring other blocks under one id.
            for (n, first) in one.updates.iter().enumerate() {
                for second in one.updates.iter().skip(n + 1) {
                    for (client, range) in first.update.ranges() {
                        let Some(other) = second.update.ranges().get(&client).copied() else { continue };
                        prop_assert!(apart(range, other) || first.update.encode() == second.update.encode());
                    }
                }
            }
        }

        /// An event that comes new is taken in alone, unless it brings blocks under ids that are taken: what stood before
        /// it, stands, and it stands itself if it may after its own past.
        #[test]
        fn what_comes_new_and_touches_nothing_changes_nothing(says in prop::collection::vec(said(), 1..16), swaps in swaps()) {
            let all = history(says);
            let mut order: Vec<usize> = (0..all.len()).collect();
            for (a, b) in swaps {
                let (a, b) = (a.index(order.len()), b.index(order.len()));
                order.swap(a, b);
            }
            let mut here: Vec<InPlace> = Vec::new();
            let mut before = rebuild(Vec::new());
            while here.len() < all.len() {
                let is_here = |id: &EventId| here.iter().any(|event| event.pdu.event_id() == id);
                let next = order.iter().map(|at| &all[*at]).find(|event| {
                    !is_here(event.pdu.event_id()) && event.pdu.prev_events().iter().all(|id| is_here(id))
                });
                let next = next.unwrap().clone();
                here.push(next.clone());
                let after = rebuild(here.clone());
                let own = claims(&next);
                let touches = before.updates.iter().flat_map(|update| update.update.ranges()).any(|(client, range)| {
                    own.get(&client.get()).is_some_and(|own| !apart(range, *own))
                });
                if !touches {
                    let mut others = standing(&after);
                    others.remove(next.pdu.event_id());
                    prop_assert_eq!(others, standing(&before));
                }
                before = after;
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
        let rebuilt = rebuild(in_place(&world));
        let standing = standing(&rebuilt);
        assert!(standing.contains_key(winner.event_id()) && standing.contains_key(beside.event_id()));
        assert!(!standing.contains_key(loser.event_id()) && !standing.contains_key(continues.event_id()));
    }

    /// An event of `spec/vectors/claims`.
    #[derive(serde::Deserialize)]
    struct Vector {
        event_id: OwnedEventId,
        prev_events: Vec<OwnedEventId>,
        sender: OwnedUserId,
        update: String,
        clients: BTreeMap<u64, (u32, u32)>,
        #[serde(default)]
        rejected: bool,
        #[serde(default)]
        soft_failed: bool,
    }

    impl Vector {
        fn in_place(self) -> InPlace {
            let bytes = (0..self.update.len()).step_by(2);
            let bytes: Vec<u8> = bytes
                .map(|at| u8::from_str_radix(&self.update[at..at + 2], 16).unwrap())
                .collect();
            let json = serde_json::json!({
                "type": "dev.weft.update", "room_id": "!room:alpha.example", "sender": self.sender, "auth_events": [],
                "content": UpdateContent::new(&bytes, self.clients), "prev_events": self.prev_events, "depth": 1,
                "origin_server_ts": 1_800_000_000_000_u64, "hashes": { "sha256": "" }, "signatures": {},
            });
            let version = weft_dag::RoomVersion::new(&RoomVersionId::V11).unwrap();
            let pdu = Pdu::from_trusted_json(&json.to_string(), self.event_id, &version, self.rejected).unwrap();
            let rejected = if self.rejected { event_flags::REJECTED } else { 0 };
            let held_back = if self.soft_failed { event_flags::SOFT_FAILED } else { 0 };
            InPlace {
                pdu: Arc::new(pdu),
                flags: rejected | held_back,
            }
        }
    }

    #[test]
    fn the_vectors_of_the_specification() {
        #[derive(serde::Deserialize)]
        struct File {
            events: Vec<Vector>,
            stand: Vec<OwnedEventId>,
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/claims");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file: File = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut events: Vec<InPlace> = file.events.into_iter().map(Vector::in_place).collect();
            for _ in 0..events.len() {
                events.rotate_left(1);
                let stand: Vec<OwnedEventId> = standing(&rebuild(events.clone())).into_keys().collect();
                assert_eq!(stand, file.stand, "{}", path.display());
            }
            count += 1;
        }
        assert!(count >= 11, "{count} vectors");
    }

    /// An honest word that refers to a lie has no place once the lie lost. Then it must not keep out what was said under
    /// the same ids either: who heard the lie last has never admitted the word.
    #[test]
    fn what_can_not_stand_beats_nobody() {
        (1..8).for_each(a_spoof_beside_a_word_on_a_lie_stands);
    }

    fn a_spoof_beside_a_word_on_a_lie_stands(length: u32) {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
        let fork = world.head_list();
        let one = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'a', 0, 4));
        let two = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'b', 0, 4));
        let loser = one.event_id().max(two.event_id()).to_owned();
        let refers = Doc::with_client_id(8);
        let body = refers.get_or_insert_text("body");
        let lie: UpdateContent = world.pdu(&loser).content_as().unwrap();
        let lie = yrs::Update::decode_v1(&lie.bytes().unwrap()).unwrap();
        refers.transact_mut().apply_update(lie).unwrap();
        body.insert(&mut refers.transact_mut(), 2, "xx");
        let mut known = yrs::StateVector::default();
        known.set_max(yrs::block::ClientID::new(7), 4);
        let bytes = refers.transact().encode_diff_v1(&known);
        let content = serde_json::to_value(UpdateContent::new(&bytes, [(8, (0, 2))])).unwrap();
        let on_loser = world.send_after(&[loser], WRITERS[0], "dev.weft.update", None, content);
        let spoofs = world.send_after(&fork, WRITERS[2], "dev.weft.update", None, update(8, 'z', 0, length));
        let standing = standing(&rebuild(in_place(&world)));
        assert!(!standing.contains_key(on_loser.event_id()));
        assert!(standing.contains_key(spoofs.event_id()));
    }
}
