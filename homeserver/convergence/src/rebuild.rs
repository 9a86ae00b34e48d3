//! Computes the text from the events alone: the updates that stand, the state vector after each event, the owners of
//! client ids.
//!
//! Needed if two events claim the same clocks (only a malicious server or one restored from a backup makes these), and
//! after backfill. A pure function of the events: the order of arrival makes no difference. If no clock is claimed
//! twice, an update depends on its past alone, and a new one is merged alone (`weft-room`, `ingest::text`). Otherwise
//! [`crate::rivals`] decides. Must not read the store or the text that it replaces.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedUserId, ServerName};
use weft_crdt::{StateVector, Update};
use weft_dag::Pdu;
use weft_dag::event_flags;
use weft_wire::{event_types, update::UpdateContent, witness};

use crate::{
    admission::read,
    rivals::{self, Admitted, Claim, Node, Outcome, Part, graph::Graph},
    sequence::{Sequence, known_after, known_before},
};

/// A persisted event of the room.
#[derive(Clone)]
pub struct PersistedEvent {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Bits of [`event_flags`].
    pub flags: u8,
}

/// An update that is part of the text.
#[derive(Clone)]
pub struct Standing {
    /// The event that carries it.
    pub event: OwnedEventId,
    /// The sender of the event.
    pub sender: OwnedUserId,
    /// The blocks of the update that were not known before.
    pub update: Update,
}

/// The results.
#[derive(Default)]
pub struct Rebuilt {
    /// In the order of the graph.
    pub updates: Vec<Standing>,
    /// The state vector after each event, in the order of the graph.
    pub vectors: Vec<(OwnedEventId, Arc<StateVector>)>,
    /// Some update lost against a rival: later events may change which updates stand.
    pub is_disputed: bool,
    /// Updates that the server `ours` should name in `dev.weft.stands`.
    pub to_name: Vec<OwnedEventId>,
    /// The number of comparisons of two claims in the graph.
    pub comparisons: usize,
}

/// Computes the text. `ours`: the server for which `to_name` is computed.
pub fn rebuild(events: Vec<PersistedEvent>, ours: Option<&ServerName>) -> Rebuilt {
    let nodes = nodes(&in_order(followed(events)));
    if !rivals::has_overlaps(&nodes) {
        return without_rivals(&nodes);
    }
    let graph = Graph::new(nodes);
    let settled = rivals::settle(&graph, ours);
    let id = |at: &usize| graph.nodes().get(*at).map(|node| node.id.clone());
    let mut rebuilt = Rebuilt {
        is_disputed: settled
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome, Some(Outcome::Lost))),
        to_name: settled.to_name.iter().filter_map(id).collect(),
        comparisons: settled.comparisons,
        ..Rebuilt::default()
    };
    for (node, outcome) in graph.nodes().iter().zip(settled.outcomes) {
        let known = rebuilt.known_before(graph.nodes(), node);
        let admitted = match outcome {
            Some(Outcome::Stands(admitted)) => Some(admitted),
            Some(Outcome::Falls | Outcome::Lost) | None => None,
        };
        rebuilt.enter(node, known, admitted);
    }
    rebuilt
}

/// If no clock is claimed twice: each update is checked against its past only.
fn without_rivals(nodes: &[Node]) -> Rebuilt {
    let (mut rebuilt, mut sequence) = (Rebuilt::default(), Sequence::default());
    for node in nodes {
        let known = rebuilt.known_before(nodes, node);
        let admitted = node.claim.as_ref().and_then(|claim| sequence.admit(claim, &known));
        rebuilt.enter(node, known, admitted);
    }
    rebuilt
}

impl Rebuilt {
    /// The state vector before an event.
    fn known_before(&self, nodes: &[Node], node: &Node) -> Arc<StateVector> {
        debug_assert!(self.vectors.len() < nodes.len(), "each event is entered once");
        let vectors = node.after.iter().filter_map(|before| self.vectors.get(*before));
        known_before(vectors.map(|(_, vector)| vector))
    }

    /// Enters the next event in the order of the graph, and its update if it stands.
    fn enter(&mut self, node: &Node, known: Arc<StateVector>, admitted: Option<Admitted>) {
        let admitted = admitted.zip(node.claim.as_ref());
        let after = known_after(known, admitted.as_ref().map(|(admitted, _)| admitted));
        if let Some((admitted, claim)) = admitted {
            self.updates.push(Standing {
                event: node.id.clone(),
                sender: claim.sender.clone(),
                update: admitted.update,
            });
        }
        self.vectors.push((node.id.clone(), after));
    }
}

/// The events in the form that the rules use, in order.
fn nodes(events: &[PersistedEvent]) -> Vec<Node> {
    let places: HashMap<&EventId, usize> = events.iter().map(|event| event.pdu.event_id()).zip(0..).collect();
    events.iter().map(|event| node(event, &places)).collect()
}

fn node(event: &PersistedEvent, places: &HashMap<&EventId, usize>) -> Node {
    let pdu = &event.pdu;
    let part = if event.flags & event_flags::REJECTED != 0 {
        Part::Rejected
    } else if pdu.kind() == "m.room.member" {
        Part::Membership
    } else {
        Part::Statement
    };
    let is_message_event = part == Part::Statement && pdu.state_key().is_none();
    let names = if is_message_event && witness::is_kept_whole(pdu.kind()) {
        pdu.content_as()
            .map(|content| witness::stands(pdu.kind(), &content))
            .unwrap_or_default()
    } else {
        Vec::new()
    };
    Node {
        id: pdu.event_id().to_owned(),
        after: pdu
            .prev_events()
            .iter()
            .filter_map(|id| places.get(&**id).copied())
            .collect(),
        server: pdu.sender().server_name().to_owned(),
        part,
        names,
        claim: claim_of(pdu, event.flags),
    }
}

/// The update that an event contributes, if it is admitted.
pub fn claim_of(pdu: &Pdu, flags: u8) -> Option<Claim> {
    let is_update = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none();
    (is_update && flags & event_flags::REJECTED == 0)
        .then(|| claim(pdu))
        .flatten()
}

/// The update of an event; `None` if it is invalid, or if the event declares other ranges than those of the update.
fn claim(pdu: &Pdu) -> Option<Claim> {
    let content: UpdateContent = pdu.content_as().ok()?;
    let (bytes, update) = read(&content).ok()?;
    Some(Claim::new(pdu.sender().to_owned(), bytes, update))
}

/// The canonical order of the events: each after its `prev_events`; of the ready ones the one with the lowest id. A new
/// event without descendants here is inserted and changes the order of no others. Cycles, which hashes make impossible,
/// are left out.
fn in_order(mut events: Vec<PersistedEvent>) -> Vec<PersistedEvent> {
    // By id, so that a lower index is a lower id.
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

/// The missing `prev_events` of accepted events and their ancestors. Events that only a refused event references have
/// no part in the text: it may not have been checked against the current state yet, and they are not fetched.
pub fn missing(events: &HashMap<OwnedEventId, PersistedEvent>) -> BTreeSet<OwnedEventId> {
    let counted = followed(events.values().cloned().collect());
    let cited = counted.iter().flat_map(|event| event.pdu.prev_events());
    cited.filter(|id| !events.contains_key(*id)).cloned().collect()
}

/// The accepted events and all their ancestors.
fn followed(events: Vec<PersistedEvent>) -> Vec<PersistedEvent> {
    let mut events: BTreeMap<OwnedEventId, PersistedEvent> = events
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
    use crate::{sequence::Decision, skeleton::Skeleton};

    const WRITERS: [&str; 3] = ["@alice:a.example", "@bob:b.example", "@carol:c.example"];

    /// The blocks `[from, to)` of a client that wrote only this letter.
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
    struct Sent {
        who: usize,
        client: u64,
        letter: char,
        from: u32,
        length: u32,
        after: Vec<Index>,
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let letters = prop::sample::select(vec!['a', 'b', 'c']);
        (
            0..3_usize,
            1..3_u64,
            letters,
            0..3_u32,
            1..3_u32,
            prop::collection::vec(any::<Index>(), 1..3),
        )
            .prop_map(|(who, client, letter, from, length, after)| Sent {
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

    /// A room with these events.
    fn history(all_sent: Vec<Sent>) -> Vec<PersistedEvent> {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
        let start = world.order.len() - 1;
        for sent in all_sent {
            let places = &world.order[start..];
            let prev = sent.after.iter().map(|index| places[index.index(places.len())].clone());
            let prev: BTreeSet<OwnedEventId> = prev.collect();
            let content = update(sent.client, sent.letter, sent.from, sent.from + sent.length);
            let prev: Vec<OwnedEventId> = prev.into_iter().collect();
            world.send_after(&prev, WRITERS[sent.who], "dev.weft.update", None, content);
        }
        persisted_events(&world)
    }

    fn persisted_events(world: &World) -> Vec<PersistedEvent> {
        let events = world.order.iter().map(|id| world.pdu(id));
        events.map(|pdu| PersistedEvent { pdu, flags: 0 }).collect()
    }

    fn standing(rebuilt: &Rebuilt) -> BTreeMap<OwnedEventId, Vec<u8>> {
        let updates = rebuilt.updates.iter();
        updates
            .map(|update| (update.event.clone(), update.update.encode()))
            .collect()
    }

    /// The text by [`Skeleton`] and [`Sequence`]; `None` if a clock is claimed twice.
    fn event_by_event(events: &[PersistedEvent]) -> Option<Rebuilt> {
        let mut graph = Skeleton::default();
        for event in events {
            graph.add(event.pdu.event_id().to_owned(), event.flags, event.pdu.prev_events());
        }
        let order = graph.in_order().unwrap();
        let (mut sequence, mut rebuilt) = (Sequence::default(), Rebuilt::default());
        for (place, id) in order.ids().iter().enumerate() {
            let event = events.iter().find(|event| event.pdu.event_id() == id).unwrap();
            let known = known_before(order.prev(place).iter().map(|prev| &rebuilt.vectors[*prev].1));
            let node = node(event, &HashMap::new());
            let admitted = match node.claim.as_ref().map(|claim| sequence.next(claim, &known)) {
                Some(Decision::Stands(admitted)) => Some(admitted),
                Some(Decision::ClaimedTwice(_)) => return None,
                Some(Decision::Falls) | None => None,
            };
            rebuilt.enter(&node, known, admitted);
        }
        let cited = |place: &usize| {
            (0..order.ids().len())
                .filter(|other| order.prev(*other).contains(place))
                .count()
        };
        assert!((0..order.ids().len()).all(|place| order.followers(place) == cited(&place)));
        Some(rebuilt)
    }

    #[test]
    fn a_text_with_a_gap_has_no_order() {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25)]);
        let lost = world.message(WRITERS[0], "lost").event_id().to_owned();
        let after = world.message(WRITERS[0], "after").event_id().to_owned();
        let graph = |without: &EventId, flags: u8| {
            let mut graph = Skeleton::default();
            for event in persisted_events(&world) {
                let flags = if *event.pdu.event_id() == *after { flags } else { 0 };
                graph.add(event.pdu.event_id().to_owned(), flags, event.pdu.prev_events());
            }
            graph.remove(without);
            graph.in_order().map(|order| order.ids().len())
        };
        assert_eq!(graph(&lost, 0), None);
        assert_eq!(graph(&after, 0), Some(world.order.len() - 1));
        // Only a refused event references it.
        assert_eq!(graph(&lost, event_flags::SOFT_FAILED), Some(world.order.len() - 2));
    }

    fn claims(event: &PersistedEvent) -> BTreeMap<u64, (u32, u32)> {
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

        /// Any number of false claims in any order give one text.
        #[test]
        fn the_order_of_arrival_makes_no_difference(all_sent in prop::collection::vec(sent(), 1..16), swaps in swaps()) {
            let mut events = history(all_sent);
            let one = rebuild(events.clone(), None);
            for (a, b) in swaps {
                let (a, b) = (a.index(events.len()), b.index(events.len()));
                events.swap(a, b);
            }
            let other = rebuild(events, None);
            prop_assert_eq!(standing(&one), standing(&other));
            let known = |rebuilt: &Rebuilt| -> BTreeMap<OwnedEventId, Vec<u8>> {
                rebuilt.vectors.iter().map(|(event, vector)| (event.clone(), vector.encode())).collect()
            };
            prop_assert_eq!(known(&one), known(&other));
            // No two updates that stand have different blocks at the same ids.
            for (n, first) in one.updates.iter().enumerate() {
                for second in one.updates.iter().skip(n + 1) {
                    for (client, range) in first.update.ranges() {
                        let Some(other) = second.update.ranges().get(&client).copied() else { continue };
                        prop_assert!(apart(range, other) || first.update.encode() == second.update.encode());
                    }
                }
            }
        }

        /// Event by event the text is the same as from all events at once, or a clock is claimed twice.
        #[test]
        fn event_by_event_gives_the_same_text(all_sent in prop::collection::vec(sent(), 1..16), distinct in any::<bool>(), swaps in swaps()) {
            let distinct_client = |(n, sent): (u64, Sent)| Sent { client: n + 1, from: 0, ..sent };
            let all_sent = match distinct {
                true => (0..).zip(all_sent).map(distinct_client).collect(),
                false => all_sent,
            };
            let mut events = history(all_sent);
            for (a, b) in swaps {
                let (a, b) = (a.index(events.len()), b.index(events.len()));
                events.swap(a, b);
            }
            let whole = rebuild(events.clone(), None);
            let nodes = nodes(&in_order(followed(events.clone())));
            match event_by_event(&events) {
                None => prop_assert!(!distinct && rivals::has_overlaps(&nodes)),
                Some(other) => {
                    prop_assert!(!rivals::has_overlaps(&nodes));
                    prop_assert_eq!(standing(&whole), standing(&other));
                    let vectors = |rebuilt: &Rebuilt| -> Vec<(OwnedEventId, Vec<u8>)> {
                        rebuilt.vectors.iter().map(|(event, vector)| (event.clone(), vector.encode())).collect()
                    };
                    prop_assert_eq!(vectors(&whole), vectors(&other), "the same order too");
                }
            }
        }

        /// If no update lost against a rival, a new event is merged alone, unless it has blocks at ids that are taken:
        /// updates that stood before still stand, and the new update stands if it is admissible after its past.
        #[test]
        fn a_new_event_without_conflicting_claims_changes_nothing_else(all_sent in prop::collection::vec(sent(), 1..16), swaps in swaps()) {
            let all = history(all_sent);
            let mut order: Vec<usize> = (0..all.len()).collect();
            for (a, b) in swaps {
                let (a, b) = (a.index(order.len()), b.index(order.len()));
                order.swap(a, b);
            }
            let mut here: Vec<PersistedEvent> = Vec::new();
            let mut before = rebuild(Vec::new(), None);
            while here.len() < all.len() {
                let is_here = |id: &EventId| here.iter().any(|event| event.pdu.event_id() == id);
                let next = order.iter().map(|at| &all[*at]).find(|event| {
                    !is_here(event.pdu.event_id()) && event.pdu.prev_events().iter().all(|id| is_here(id))
                });
                let next = next.unwrap().clone();
                here.push(next.clone());
                let after = rebuild(here.clone(), None);
                let own = claims(&next);
                let touches = before.updates.iter().flat_map(|update| update.update.ranges()).any(|(client, range)| {
                    own.get(&client.get()).is_some_and(|own| !apart(range, *own))
                });
                if !touches && !before.is_disputed {
                    let mut others = standing(&after);
                    others.remove(next.pdu.event_id());
                    prop_assert_eq!(others, standing(&before));
                }
                before = after;
            }
        }
    }

    #[test]
    fn updates_on_a_lost_claim_are_excluded_and_concurrent_ones_stand() {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
        let fork = world.head_list();
        let one = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'a', 0, 4));
        let two = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'b', 0, 4));
        let (winner, loser) = if one.event_id() < two.event_id() {
            (two, one)
        } else {
            (one, two)
        };
        // The claim with the higher id wins: an event follows it.
        let on_winner = [winner.event_id().to_owned()];
        world.send_after(
            &on_winner,
            WRITERS[2],
            "m.room.message",
            None,
            serde_json::json!({ "body": "seen" }),
        );
        let on_loser = [loser.event_id().to_owned()];
        let continues = world.send_after(&on_loser, WRITERS[1], "dev.weft.update", None, update(7, 'b', 4, 6));
        let beside = world.send_after(&on_loser, WRITERS[1], "dev.weft.update", None, update(8, 'x', 0, 2));
        let rebuilt = rebuild(persisted_events(&world), None);
        let standing = standing(&rebuilt);
        assert!(standing.contains_key(winner.event_id()) && standing.contains_key(beside.event_id()));
        assert!(!standing.contains_key(loser.event_id()) && !standing.contains_key(continues.event_id()));
        assert!(rebuilt.is_disputed);
    }

    /// An event of `spec/vectors/claims`.
    #[derive(serde::Deserialize)]
    struct Vector {
        event_id: OwnedEventId,
        prev_events: Vec<OwnedEventId>,
        sender: OwnedUserId,
        #[serde(rename = "type")]
        kind: Option<String>,
        state_key: Option<String>,
        #[serde(default)]
        update: String,
        #[serde(default)]
        clients: BTreeMap<u64, (u32, u32)>,
        stands: Option<Vec<String>>,
        #[serde(default)]
        rejected: bool,
        #[serde(default)]
        soft_failed: bool,
    }

    impl Vector {
        fn persisted_events(self) -> PersistedEvent {
            let bytes = (0..self.update.len()).step_by(2);
            let bytes: Vec<u8> = bytes
                .map(|at| u8::from_str_radix(&self.update[at..at + 2], 16).unwrap())
                .collect();
            let mut content = match &self.kind {
                None => serde_json::to_value(UpdateContent::new(&bytes, self.clients)).unwrap(),
                Some(_) => serde_json::json!({}),
            };
            if let Some(stands) = self.stands {
                content["dev.weft.stands"] = serde_json::json!(stands);
            }
            let kind = self.kind.as_deref().unwrap_or("dev.weft.update");
            let mut json = serde_json::json!({
                "type": kind, "room_id": "!room:alpha.example", "sender": self.sender, "auth_events": [],
                "content": content, "prev_events": self.prev_events, "depth": 1,
                "origin_server_ts": 1_800_000_000_000_u64, "hashes": { "sha256": "" }, "signatures": {},
            });
            if let Some(key) = self.state_key {
                json["state_key"] = serde_json::json!(key);
            }
            let version = weft_dag::RoomVersion::new(&RoomVersionId::V11).unwrap();
            let pdu = Pdu::from_trusted_json(&json.to_string(), self.event_id, &version, self.rejected).unwrap();
            let rejected = if self.rejected { event_flags::REJECTED } else { 0 };
            let held_back = if self.soft_failed { event_flags::SOFT_FAILED } else { 0 };
            PersistedEvent {
                pdu: Arc::new(pdu),
                flags: rejected | held_back,
            }
        }
    }

    #[test]
    fn the_claims_vectors_of_the_specification_hold() {
        #[derive(serde::Deserialize)]
        struct File {
            events: Vec<Vector>,
            stand: Vec<OwnedEventId>,
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/claims");
        let (mut count, mut wrong) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let file: File = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let mut events: Vec<PersistedEvent> = file.events.into_iter().map(Vector::persisted_events).collect();
            for _ in 0..events.len() {
                events.rotate_left(1);
                let stand: Vec<OwnedEventId> = standing(&rebuild(events.clone(), None)).into_keys().collect();
                if stand != file.stand {
                    wrong.push(format!("{}: {stand:?} and not {:?}", path.display(), file.stand));
                    break;
                }
            }
            count += 1;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(count >= 40, "{count} vectors");
    }

    /// An honest update that refers to a false claim is inadmissible once that claim lost. It must not exclude claims
    /// to the same clocks either: a server that received the false claim last has never admitted the update.
    #[test]
    fn an_update_that_can_not_stand_excludes_no_other() {
        (1..8).for_each(a_spoof_beside_an_update_on_a_false_claim_stands);
    }

    fn a_spoof_beside_an_update_on_a_false_claim_stands(length: u32) {
        let mut world = World::public(&RoomVersionId::V12, WRITERS[0], &[(WRITERS[1], 25), (WRITERS[2], 25)]);
        let fork = world.head_list();
        let one = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'a', 0, 4));
        let two = world.send_after(&fork, WRITERS[1], "dev.weft.update", None, update(7, 'b', 0, 4));
        let loser = one.event_id().max(two.event_id()).to_owned();
        let winner = [one.event_id().min(two.event_id()).to_owned()];
        world.send_after(
            &winner,
            WRITERS[2],
            "m.room.message",
            None,
            serde_json::json!({ "body": "seen" }),
        );
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
        let standing = standing(&rebuild(persisted_events(&world), None));
        assert!(!standing.contains_key(on_loser.event_id()));
        assert!(standing.contains_key(spoofs.event_id()));
    }
}
