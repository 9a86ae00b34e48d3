//! Compares the efficient procedure with one that follows the specification sentence by sentence, over all small graphs
//! and many larger ones, and limits the number of comparisons that false claims cause.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};
use ruma::{EventId, OwnedEventId, ServerName, UserId};
use weft_crdt::{ClientId, StateVector, Update};

use super::{Claim, Node, Outcome, Part, graph::Graph, has_overlaps, settle};
use crate::admission::{Judgement, Owners, Past, admit_at};

// --- Graphs ---------------------------------------------------------------------------------------------------------

/// The content of a test event.
#[derive(Clone, Debug, PartialEq)]
enum Brings {
    Nothing,
    /// Clocks of a client, one letter each, the first one right of the block at `origin`.
    Blocks {
        client: u64,
        from: u32,
        to: u32,
        letter: u8,
        origin: Option<(u64, u32)>,
    },
}

/// An event of a test.
#[derive(Clone, Debug)]
struct Event {
    id: String,
    server: usize,
    part: Part,
    after: Vec<usize>,
    names: Vec<usize>,
    brings: Brings,
}

fn event(id: &str, server: usize, after: &[usize]) -> Event {
    Event {
        id: id.to_owned(),
        server,
        part: Part::Statement,
        after: after.to_vec(),
        names: Vec::new(),
        brings: Brings::Nothing,
    }
}

impl Event {
    fn blocks(mut self, client: u64, (from, to): (u32, u32), letter: u8) -> Self {
        let origin = from.checked_sub(1).map(|clock| (client, clock));
        self.brings = Brings::Blocks {
            client,
            from,
            to,
            letter,
            origin,
        };
        self
    }

    fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    fn names(mut self, names: &[usize]) -> Self {
        self.names = names.to_vec();
        self
    }
}

/// An update with one block of letters of one client.
fn bytes_of(client: u64, from: u32, to: u32, letter: u8, origin: Option<(u64, u32)>) -> Vec<u8> {
    let small = |number: u64| u8::try_from(number).ok().filter(|byte| *byte < 128).unwrap();
    let mut bytes = vec![1, 1, small(client), small(from.into())];
    match origin {
        Some((client, clock)) => bytes.extend([0x84, small(client), small(clock.into())]),
        None => bytes.extend([0x04, 1, 4, b'b', b'o', b'd', b'y']),
    }
    bytes.push(small((to - from).into()));
    bytes.extend(std::iter::repeat_n(letter, usize::try_from(to - from).unwrap()));
    bytes.push(0);
    bytes
}

fn id(event: &Event) -> OwnedEventId {
    EventId::parse(format!("${}", event.id)).unwrap()
}

fn node(event: &Event, events: &[Event]) -> Node {
    let server = ServerName::parse(format!("s{}.example", event.server)).unwrap();
    let claim = match &event.brings {
        Brings::Blocks {
            client,
            from,
            to,
            letter,
            origin,
        } if event.part == Part::Statement => {
            let bytes = Bytes::from(bytes_of(*client, *from, *to, *letter, *origin));
            let update = Update::parse(bytes.clone()).unwrap();
            let sender = UserId::parse(format!("@u:{server}")).unwrap();
            Some(Claim::new(sender, bytes, update))
        }
        _ => None,
    };
    Node {
        id: id(event),
        after: event.after.clone(),
        server,
        part: event.part,
        names: event.names.iter().map(|at| id(&events[*at])).collect(),
        claim,
    }
}

/// The events in another order in which each comes after its `prev_events`: of the ready ones, the one that is first in
/// `rank`.
fn reordered(events: &[Event], rank: &[usize]) -> Vec<Node> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < events.len() {
        let ready = (0..events.len())
            .filter(|at| !order.contains(at) && events[*at].after.iter().all(|before| order.contains(before)));
        order.push(ready.min_by_key(|at| rank[*at]).unwrap());
    }
    let place = |at: &usize| order.iter().position(|other| other == at).unwrap();
    let moved = |at: &usize| {
        let mut node = node(&events[*at], events);
        node.after = events[*at].after.iter().map(place).collect();
        node
    };
    order.iter().map(moved).collect()
}

fn standing(nodes: Vec<Node>) -> BTreeSet<OwnedEventId> {
    let graph = Graph::new(nodes);
    let settled = settle(&graph, None);
    let outcomes = graph.nodes().iter().zip(&settled.outcomes);
    outcomes
        .filter(|(_, outcome)| matches!(outcome, Some(Outcome::Stands(_))))
        .map(|(node, _)| node.id.clone())
        .collect()
}

fn stand(events: &[Event]) -> Vec<String> {
    let rank: Vec<usize> = (0..events.len()).collect();
    let found = standing(reordered(events, &rank));
    found.into_iter().map(|id| id.as_str()[1..].to_owned()).collect()
}

// --- The rule, sentence by sentence ---------------------------------------------------------------------------------

/// The rule as it is written in the specification, with sets of ancestors.
struct Literal<'a> {
    nodes: &'a [Node],
    past: Vec<BTreeSet<usize>>,
    /// How many cycles were broken.
    cycles: Cell<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Disposition {
    Stands,
    Falls,
}

impl<'a> Literal<'a> {
    fn new(nodes: &'a [Node]) -> Self {
        let mut past: Vec<BTreeSet<usize>> = Vec::new();
        for node in nodes {
            let mut all: BTreeSet<usize> = node.after.iter().copied().collect();
            for before in &node.after {
                all.extend(&past[*before]);
            }
            past.push(all);
        }
        Self {
            nodes,
            past,
            cycles: Cell::new(0),
        }
    }

    fn claim(&self, at: usize) -> &Claim {
        self.nodes[at].claim.as_ref().unwrap()
    }

    fn precedes(&self, one: usize, other: usize) -> bool {
        self.past[other].contains(&one)
    }

    fn is_or_follows(&self, at: usize, one: usize) -> bool {
        at == one || self.precedes(one, at)
    }

    fn statements(&self) -> impl Iterator<Item = usize> {
        let counts =
            |at: &usize| self.nodes[*at].part == Part::Statement && self.branches(&self.nodes[*at].server) <= 8;
        (0..self.nodes.len()).filter(counts)
    }

    fn branches(&self, server: &ServerName) -> usize {
        let statements: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].server == server && self.nodes[*at].part == Part::Statement)
            .collect();
        let continues = |statement: usize, other: usize| {
            self.precedes(other, statement)
                && !statements
                    .iter()
                    .any(|between| self.precedes(other, *between) && self.precedes(*between, statement))
        };
        let firsts = statements
            .iter()
            .filter(|statement| !statements.iter().any(|other| continues(**statement, *other)))
            .count();
        let more = statements.iter().map(|statement| {
            let times = statements.iter().filter(|other| continues(**other, *statement)).count();
            times.saturating_sub(1)
        });
        firsts + more.sum::<usize>()
    }

    /// S(x, y).
    fn side(&self, one: usize, other: usize) -> BTreeSet<&ServerName> {
        let alone = |statement: &usize| self.is_or_follows(*statement, one) && !self.is_or_follows(*statement, other);
        let by_name = |statement: &usize| {
            let names = self.nodes[*statement].names.contains(&self.nodes[one].id);
            names && self.precedes(one, *statement) && self.precedes(other, *statement)
        };
        let statements = self
            .statements()
            .filter(|statement| alone(statement) || by_name(statement));
        statements.map(|statement| &*self.nodes[statement].server).collect()
    }

    fn beats(&self, one: usize, other: usize) -> bool {
        let common: BTreeSet<&ServerName> = self.past[one]
            .intersection(&self.past[other])
            .filter(|at| self.nodes[**at].part != Part::Rejected)
            .map(|at| &*self.nodes[*at].server)
            .collect();
        let (mine, theirs) = (self.side(one, other), self.side(other, one));
        let of_common = |side: &BTreeSet<&ServerName>| side.intersection(&common).count();
        let first = of_common(&mine).cmp(&of_common(&theirs));
        let second = mine.len().cmp(&theirs.len());
        let by_id = self.nodes[other].id.cmp(&self.nodes[one].id);
        first.then(second).then(by_id).is_gt()
    }

    fn shares_a_clock(one: &BTreeMap<ClientId, (u32, u32)>, other: &BTreeMap<ClientId, (u32, u32)>) -> bool {
        one.iter()
            .any(|(client, (from, to))| other.get(client).is_some_and(|(start, end)| from < end && start < to))
    }

    fn are_rivals(&self, one: usize, other: usize) -> bool {
        let (x, y) = (self.claim(one), self.claim(other));
        one != other
            && !self.precedes(one, other)
            && !self.precedes(other, one)
            && Self::shares_a_clock(&x.ranges, &y.ranges)
            && (x.sender != y.sender || x.bytes != y.bytes)
    }

    fn rests(&self, at: usize, updates: &[usize]) -> Vec<usize> {
        let needed = &self.claim(at).rests;
        let brings = |other: usize| {
            self.claim(other)
                .ranges
                .iter()
                .any(|(client, (from, _))| needed.get(client).is_some_and(|end| from < end))
        };
        updates
            .iter()
            .copied()
            .filter(|other| self.precedes(*other, at) && brings(*other))
            .collect()
    }

    /// The new part of an update after the updates of its past that stand; `None` if it is inadmissible, or if a
    /// concurrent event that stands has other content at its new clocks.
    fn admitted(
        &self,
        at: usize,
        fates: &BTreeMap<usize, Disposition>,
        new: &BTreeMap<usize, BTreeMap<ClientId, (u32, u32)>>,
    ) -> Option<BTreeMap<ClientId, (u32, u32)>> {
        let (mut known, mut owners) = (StateVector::new(), Owners::default());
        for (other, fate) in fates {
            if *fate == Disposition::Stands && self.precedes(*other, at) {
                for (client, (_, to)) in &new[other] {
                    known.raise(*client, *to);
                    owners.claim(*client, &self.claim(*other).sender);
                }
            }
        }
        let past = Past {
            vector: &known,
            owners: &owners,
        };
        let claim = self.claim(at);
        let Judgement::Admitted { ranges, .. } = admit_at(&claim.update, &claim.sender, &past) else {
            return None;
        };
        let is_taken = fates.iter().any(|(other, fate)| {
            *fate == Disposition::Stands && Self::shares_a_clock(&ranges, &new[other]) && self.are_rivals(at, *other)
        });
        (!is_taken).then_some(ranges)
    }

    fn standing(&self) -> BTreeSet<OwnedEventId> {
        let updates: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].claim.is_some())
            .collect();
        let rests: BTreeMap<usize, Vec<usize>> = updates.iter().map(|at| (*at, self.rests(*at, &updates))).collect();
        let waits: BTreeMap<usize, Vec<usize>> = updates
            .iter()
            .map(|at| {
                let rivals = updates
                    .iter()
                    .copied()
                    .filter(|other| self.are_rivals(*at, *other) && self.beats(*other, *at));
                (*at, rests[at].iter().copied().chain(rivals).collect())
            })
            .collect();
        let (mut fates, mut new): (BTreeMap<usize, Disposition>, BTreeMap<usize, _>) =
            (BTreeMap::new(), BTreeMap::new());
        while fates.len() < updates.len() {
            let before = fates.len();
            for at in &updates {
                let is_settled = |others: &[usize]| others.iter().all(|other| fates.contains_key(other));
                if fates.contains_key(at) || !is_settled(&rests[at]) {
                    continue;
                }
                match self.admitted(*at, &fates, &new) {
                    None => {
                        fates.insert(*at, Disposition::Falls);
                    }
                    Some(ranges) if is_settled(&waits[at]) => {
                        fates.insert(*at, Disposition::Stands);
                        new.insert(*at, ranges);
                    }
                    Some(_) => {}
                }
            }
            if fates.len() == before {
                self.cycles.set(self.cycles.get() + 1);
                let first = self.first_of_cycle(&updates, &fates, &rests, &waits);
                let ranges = self.admitted(first, &fates, &new);
                fates.insert(
                    first,
                    if ranges.is_some() {
                        Disposition::Stands
                    } else {
                        Disposition::Falls
                    },
                );
                new.extend(ranges.map(|ranges| (first, ranges)));
            }
        }
        let stands = fates.into_iter().filter(|(_, fate)| *fate == Disposition::Stands);
        stands.map(|(at, _)| self.nodes[at].id.clone()).collect()
    }

    fn first_of_cycle(
        &self,
        updates: &[usize],
        fates: &BTreeMap<usize, Disposition>,
        rests: &BTreeMap<usize, Vec<usize>>,
        waits: &BTreeMap<usize, Vec<usize>>,
    ) -> usize {
        let reach = |start: usize| {
            let (mut found, mut work) = (BTreeSet::new(), vec![start]);
            while let Some(at) = work.pop() {
                for other in waits[&at].iter().filter(|other| !fates.contains_key(other)) {
                    if found.insert(*other) {
                        work.push(*other);
                    }
                }
            }
            found
        };
        let open: Vec<usize> = updates.iter().copied().filter(|at| !fates.contains_key(at)).collect();
        let in_cycle = |at: &usize| reach(*at).iter().all(|other| reach(*other).contains(at));
        let is_ready = |at: &usize| rests[at].iter().all(|other| fates.contains_key(other));
        let candidates = open.into_iter().filter(in_cycle).filter(is_ready);
        candidates.min_by_key(|at| &self.nodes[*at].id).unwrap()
    }
}

/// Runs both procedures with the events in these orders. Returns the updates that stand and the number of cycles that
/// were broken.
fn agree(events: &[Event], ranks: &[Vec<usize>]) -> (BTreeSet<OwnedEventId>, usize) {
    let nodes = reordered(events, &ranks[0]);
    let literal = Literal::new(&nodes);
    let expected = literal.standing();
    for rank in ranks {
        let found = standing(reordered(events, rank));
        assert_eq!(found, expected, "{events:#?} in the order {rank:?}");
    }
    (expected, literal.cycles.get())
}

// --- All small graphs -----------------------------------------------------------------------------------------------

fn subsets(count: usize) -> Vec<Vec<usize>> {
    let singles = (0..count).map(|one| vec![one]);
    let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |other| vec![one, other]));
    singles.chain(pairs).collect()
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for at in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |place| {
                    let mut longer = order.clone();
                    longer.insert(place, at);
                    longer
                })
            })
            .collect();
    }
    orders
}

/// Every `step`-th of the graphs of `count` events after the room's first one, in all orders.
fn all_graphs(count: usize, step: usize) -> usize {
    let kinds = |number: usize, id: &str, server: usize, after: &[usize]| {
        let event = event(id, server, after);
        match number {
            0 => event,
            1 => event.blocks(7, (0, 2), b'a' + u8::try_from(server).unwrap()),
            2 => event.blocks(7, (2, 3), b'x'),
            _ => event.blocks(8, (0, 2), b'p' + u8::try_from(server).unwrap()),
        }
    };
    let ids = ["c", "a", "d", "b", "e"];
    let (orders, mut tried) = (orders(count + 1), 0);
    let choices: Vec<usize> = (1..=count).map(|at| subsets(at).len() * 3 * 4).collect();
    let all: usize = choices.iter().product();
    for graph in (0..all).step_by(step) {
        let mut rest = graph;
        let mut events = vec![event("r", 0, &[])];
        for (at, choices) in choices.iter().enumerate() {
            let choice = rest % choices;
            rest /= choices;
            let after = &subsets(at + 1)[choice / 12];
            events.push(kinds(choice % 4, ids[(at + graph) % ids.len()], choice / 4 % 3, after));
        }
        agree(&events, &orders);
        tried += 1;
    }
    tried
}

#[test]
fn all_small_graphs_have_one_result() {
    assert_eq!(all_graphs(2, 1), 12 * 36);
    assert!(all_graphs(3, 61) > 500);
    assert!(all_graphs(4, 39_989) > 90);
}

// --- Larger graphs --------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Drawn {
    server: usize,
    kind: u8,
    client: u64,
    from: u32,
    length: u32,
    after: Vec<prop::sample::Index>,
    names: prop::sample::Index,
    id: u16,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let from = prop_oneof![2 => Just(0_u32), 1 => 1..4_u32];
    let numbers = (0..4_usize, 0..16_u8, 1..3_u64, from, 1..4_u32, any::<u16>());
    let after = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    (numbers, after, any::<prop::sample::Index>()).prop_map(
        |((server, kind, client, from, length, id), after, names)| Drawn {
            server,
            kind,
            client,
            from,
            length,
            after,
            names,
            id,
        },
    )
}

fn built(drawn: &[Drawn], near: usize) -> Vec<Event> {
    let mut events = vec![event("root", 0, &[])];
    for (at, drawn) in drawn.iter().enumerate() {
        // Mostly recent events are followed, as in a room; sometimes an old one.
        let lately = events.len().saturating_sub(near);
        let place = |index: &prop::sample::Index| {
            let place = index.index(events.len());
            if drawn.kind % 3 == 0 { place } else { place.max(lately) }
        };
        let after: BTreeSet<usize> = drawn.after.iter().map(place).collect();
        let after: Vec<usize> = after.into_iter().collect();
        let base = event(&format!("{:05}-{at}", drawn.id), drawn.server, &after);
        let range = (drawn.from, drawn.from + drawn.length);
        let letter = b'a' + u8::try_from(drawn.server).unwrap();
        events.push(match drawn.kind {
            0 | 1 => base.part(Part::Membership),
            2 => base.part(Part::Rejected),
            3..=5 => base,
            6 | 7 => {
                let named = drawn.names.index(events.len());
                base.names(&[named])
            }
            8 => {
                let mut event = base.blocks(drawn.client, range, letter);
                if let Brings::Blocks { origin, .. } = &mut event.brings {
                    *origin = Some((3 - drawn.client, drawn.length));
                }
                event
            }
            _ => base.blocks(drawn.client, range, letter),
        });
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_procedure_agrees_with_the_specification(
        drawn in prop::collection::vec(drawn(), 1..22),
        near in 1..6_usize,
        keys in prop::collection::vec(any::<u32>(), 23),
    ) {
        let events = built(&drawn, near);
        let first: Vec<usize> = (0..events.len()).collect();
        let mut second = first.clone();
        second.sort_by_key(|at| keys[*at]);
        let rank = |order: &[usize]| -> Vec<usize> {
            (0..events.len()).map(|at| order.iter().position(|other| *other == at).unwrap()).collect()
        };
        let (forwards, backwards): (Vec<usize>, Vec<usize>) = (first.clone(), first.iter().rev().copied().collect());
        agree(&events, &[rank(&forwards), rank(&second), rank(&backwards)]);
    }

    /// One more event that names nothing, claims no clock and follows every event changes nothing.
    #[test]
    fn an_event_that_follows_all_changes_nothing(drawn in prop::collection::vec(drawn(), 1..16), near in 1..6_usize) {
        let mut events = built(&drawn, near);
        let before = stand(&events);
        let all: Vec<usize> = (0..events.len()).collect();
        events.push(event("later", 3, &all));
        prop_assert_eq!(stand(&events), before);
    }
}

/// Conflicting claims, followed by events of many servers that receive them in different orders: cycles are common.
fn rivals_and_followers(dice: &mut StdRng) -> Vec<Event> {
    let mut events = vec![event("root", 0, &[])];
    let claims = dice.random_range(3..6);
    for n in 0..claims {
        let to = dice.random_range(1..4);
        let from = dice.random_range(0..to).min(1);
        let id = format!("{}{n}", dice.random_range(0..100));
        events.push(event(&id, 1 + n, &[0]).blocks(7, (from, to), b'a' + u8::try_from(n).unwrap()));
    }
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    for server in 6..dice.random_range(8..11) {
        let received = [dice.random_range(1..=claims), dice.random_range(1..=claims)];
        events.push(event(&format!("first-{server}"), server, &received[..1]));
        events.push(event(
            &format!("second-{server}"),
            server,
            &[events.len() - 1, received[1]],
        ));
        last.insert(server, events.len() - 1);
    }
    for n in 0..dice.random_range(0..10) {
        let server = dice.random_range(6..11);
        let mut after = BTreeSet::from([dice.random_range(1..events.len())]);
        after.extend(last.get(&server));
        let after: Vec<usize> = after.into_iter().collect();
        let id = format!("{}-{n}", dice.random_range(0..100));
        let base = event(&id, server, &after);
        last.insert(server, events.len());
        events.push(match dice.random_range(0..6) {
            0 => base.blocks(7, (1, 2), b'x'),
            1 => {
                let mut event = base.blocks(8, (0, 1), b'y');
                if let Brings::Blocks { origin, .. } = &mut event.brings {
                    *origin = Some((7, 0));
                }
                event
            }
            2 => {
                let named = dice.random_range(1..=claims);
                base.names(&[named])
            }
            _ => base,
        });
    }
    events
}

#[test]
fn graphs_with_cycles_have_one_result() {
    let mut dice = StdRng::seed_from_u64(7);
    let mut cycles = 0;
    for _ in 0..500 {
        let events = rivals_and_followers(&mut dice);
        let forwards: Vec<usize> = (0..events.len()).collect();
        let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
        let shuffled: Vec<usize> = forwards.iter().map(|at| at * 7_919 % 101).collect();
        cycles += agree(&events, &[forwards, backwards, shuffled]).1;
    }
    assert!(cycles > 5, "{cycles}");
}

// --- Cases ----------------------------------------------------------------------------------------------------------

#[test]
fn a_backdated_claim_loses_to_a_claim_that_others_followed() {
    // The id of the false claim is the lowest, and it follows the room's first event.
    let events = [
        event("root", 0, &[]),
        event("victim", 1, &[0]).blocks(7, (0, 2), b'v'),
        event("word", 0, &[1]),
        event("false", 2, &[0]).blocks(7, (0, 2), b'f'),
    ];
    assert_eq!(stand(&events), ["victim"]);
}

#[test]
fn a_claim_of_the_same_server_does_not_win_by_its_id() {
    let events = [
        event("root", 0, &[]),
        event("z-old", 1, &[0]).blocks(7, (0, 2), b'v'),
        event("word", 0, &[1]),
        event("built-on", 2, &[2]).blocks(8, (0, 1), b'w'),
        event("a-new", 1, &[0]).blocks(7, (0, 2), b'f'),
    ];
    assert_eq!(stand(&events), ["built-on", "z-old"]);
}

#[test]
fn three_claims_received_in_three_orders_make_a_cycle() {
    let events = [
        event("root", 0, &[]),
        event("b", 1, &[0]).blocks(7, (0, 1), b'a'),
        event("a", 2, &[0]).blocks(7, (0, 1), b'b'),
        event("c", 3, &[0]).blocks(7, (0, 1), b'c'),
        // The first server receives b before a, the second a before c, the third c before b.
        event("1b", 4, &[1]),
        event("1a", 4, &[4, 2]),
        event("2a", 5, &[2]),
        event("2c", 5, &[6, 3]),
        event("3c", 6, &[3]),
        event("3b", 6, &[8, 1]),
    ];
    assert_eq!(
        agree(&events, &[(0..events.len()).collect()]),
        (BTreeSet::from([id(&events[2])]), 1)
    );
    assert_eq!(stand(&events), ["a"]);
}

#[test]
fn a_server_with_more_than_eight_branches_does_not_count() {
    let with_branches = |count: usize| {
        let mut events = vec![
            event("root", 0, &[]),
            event("b", 1, &[0]).blocks(7, (0, 1), b'a'),
            event("a", 2, &[0]).blocks(7, (0, 1), b'b'),
        ];
        events.extend((0..count).map(|n| event(&format!("w{n}"), 3, &[1])));
        agree(&events, &[(0..events.len()).collect()]);
        stand(&events)
    };
    assert_eq!(with_branches(8), ["b"]);
    assert_eq!(with_branches(9), ["a"]);
}

// --- Cost -----------------------------------------------------------------------------------------------------------

fn comparisons(events: &[Event]) -> usize {
    let rank: Vec<usize> = (0..events.len()).collect();
    settle(&Graph::new(reordered(events, &rank)), None).comparisons
}

#[test]
fn each_false_claim_against_one_update_costs_at_most_two_comparisons() {
    for count in [10_usize, 40, 160] {
        for ascending in [true, false] {
            let mut events = vec![
                event("root", 0, &[]),
                event("v", 1, &[0]).blocks(7, (0, 100), b'v'),
                event("word", 0, &[1]),
            ];
            events.extend((0..count).map(|n| {
                let id = if ascending { n } else { count - n };
                event(&format!("{id:04}"), 2 + n % 3, &[0]).blocks(7, (0, 100), b'f')
            }));
            assert_eq!(stand(&events), ["v"]);
            let cost = comparisons(&events);
            assert!(cost <= 2 * count, "{cost} comparisons for {count} false claims");
        }
    }
}

#[test]
fn false_claims_against_many_updates_cost_in_proportion_to_their_overlap() {
    let count = 50;
    let mut events = vec![event("root", 0, &[])];
    for n in 0..count {
        events.push(event(&format!("v{n:02}"), 1, &[events.len() - 1]).blocks(7, (n, n + 1), b'v'));
    }
    let last = events.len() - 1;
    events.push(event("word", 0, &[last]));
    // Each false claim follows the event that the true claim follows.
    for n in 0..count {
        let before = usize::try_from(n).unwrap();
        events.push(event(&format!("f{n:02}"), 2, &[before]).blocks(7, (n, n + 1), b'f'));
    }
    let cost = comparisons(&events);
    assert!(cost <= 2 * usize::try_from(count).unwrap(), "{cost}");
    assert_eq!(stand(&events).len(), usize::try_from(count).unwrap());
}

#[test]
fn without_conflicting_claims_nothing_is_compared() {
    let mut events = vec![event("root", 0, &[])];
    for n in 0..30 {
        events.push(event(&format!("v{n}"), 1, &[events.len() - 1]).blocks(7, (n, n + 1), b'v'));
    }
    let rank: Vec<usize> = (0..events.len()).collect();
    assert!(!has_overlaps(&reordered(&events, &rank)));
    assert_eq!(comparisons(&events), 0);
}
