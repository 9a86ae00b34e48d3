//! The procedure: an update is decided when all that it waits for is, the updates that it rests on and the rivals that go
//! before it. Where updates wait for one another in a circle, the one with the lowest event id stands.
//!
//! Lazy: two claims are compared only where nothing else decides. Must not decide which of two claims goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::ServerName;
use weft_crdt::{ClientId, StateVector, Update};
use weft_wire::limits::MAX_NAMED_EVENTS;

use super::{Claim, graph::Graph, precedence::Precedence};
use crate::{
    admission::{Judgement, Owners, Past, admit_at},
    conflicts::Claims,
};

/// What became of an update.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It is part of the text.
    Stands(Admitted),
    /// It is not, by its own past alone, or it brings nothing.
    Falls,
    /// It is admissible after its past, and a rival stands.
    Lost,
}

/// An update that is admissible after what stands of its past.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    /// The update, less what was known.
    pub(crate) update: Update,
    /// Of each client the new clocks.
    pub(crate) ranges: BTreeMap<ClientId, (u32, u32)>,
}

/// All updates, decided.
pub(crate) struct Settled {
    /// By the place in the graph; None for what is no update.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// How often two claims were compared by the graph.
    pub(crate) comparisons: usize,
    /// Updates that the named server has given no answer about, and is to name.
    pub(crate) to_name: Vec<usize>,
}

/// Decides about all updates. `ours`: the server for which it is looked up what it is to name.
pub(crate) fn settle(graph: &Graph, ours: Option<&ServerName>) -> Settled {
    let mut settling = Settling::new(graph);
    for (at, node) in graph.nodes().iter().enumerate() {
        if node.claim.is_some() {
            settling.decide(at);
        }
    }
    let to_name = ours.map(|ours| settling.to_name(ours)).unwrap_or_default();
    Settled {
        comparisons: settling.precedence.comparisons(),
        outcomes: settling.outcomes,
        to_name,
    }
}

struct Settling<'a> {
    graph: &'a Graph,
    precedence: Precedence<'a>,
    lines: HashMap<ClientId, Line>,
    owners: Owners,
    outcomes: Vec<Option<Outcome>>,
    /// Updates that are being decided, because one waits for the next.
    on_path: Vec<bool>,
}

/// The claims to the clocks of one client.
#[derive(Default)]
struct Line {
    /// Those that are not decided, as they stand in the events.
    open: Claims,
    /// Their places in the graph.
    open_places: BTreeSet<usize>,
    /// What stands, by its first new clock.
    tiles: Vec<Tile>,
    /// Some clock is in two tiles: of equal claims.
    overlap: bool,
}

/// New clocks of an update that stands.
#[derive(Debug, Clone, Copy)]
struct Tile {
    from: u32,
    to: u32,
    at: usize,
}

/// An update that is being decided.
struct Step {
    at: usize,
    /// Once all that it rests on is decided, and it is admissible.
    admitted: Option<Admitted>,
    /// The rivals that were not decided then.
    rivals: Vec<usize>,
    /// How many of them are known not to go before it.
    cleared: usize,
}

impl Step {
    fn new(at: usize) -> Self {
        Self {
            at,
            admitted: None,
            rivals: Vec::new(),
            cleared: 0,
        }
    }
}

/// What is to be done next about an update.
enum Next {
    Decided(Outcome),
    WaitsFor(usize),
}

impl<'a> Settling<'a> {
    fn new(graph: &'a Graph) -> Self {
        let count = graph.nodes().len();
        let mut lines: HashMap<ClientId, Line> = HashMap::new();
        for (at, node) in graph.nodes().iter().enumerate() {
            for (client, range) in node.claim.iter().flat_map(|claim| &claim.ranges) {
                let line = lines.entry(*client).or_default();
                line.open.add(*client, *range, at);
                line.open_places.insert(at);
            }
        }
        Self {
            graph,
            precedence: Precedence::new(graph),
            lines,
            owners: Owners::default(),
            outcomes: vec![None; count],
            on_path: vec![false; count],
        }
    }

    fn claim(&self, at: usize) -> Option<&'a Claim> {
        self.graph.node(at)?.claim.as_ref()
    }

    fn is_decided(&self, at: usize) -> bool {
        self.outcomes.get(at).is_some_and(Option::is_some)
    }

    // --- The way from one update to what it waits for ------------------------------------------------------------

    /// Decides about an update, and before that about whatever it waits for.
    fn decide(&mut self, root: usize) {
        let mut path = vec![Step::new(root)];
        while let Some(mut step) = path.pop() {
            self.mark(step.at, false);
            if self.is_decided(step.at) {
                continue;
            }
            match self.next(&mut step) {
                Next::Decided(outcome) => self.enter(step.at, outcome),
                Next::WaitsFor(other) if self.is_on_path(other) || other == step.at => {
                    self.break_circle(other);
                    // Where the others wait now is looked up anew.
                    path.iter().for_each(|step| self.mark(step.at, false));
                    path = vec![Step::new(root)];
                }
                Next::WaitsFor(other) => {
                    self.mark(step.at, true);
                    path.push(step);
                    path.push(Step::new(other));
                }
            }
        }
    }

    fn mark(&mut self, at: usize, on_path: bool) {
        if let Some(mark) = self.on_path.get_mut(at) {
            *mark = on_path;
        }
    }

    fn is_on_path(&self, at: usize) -> bool {
        self.on_path.get(at).copied().unwrap_or(false)
    }

    fn next(&self, step: &mut Step) -> Next {
        if step.admitted.is_none() {
            if let Some(other) = self.open_rests(step.at).next() {
                return Next::WaitsFor(other);
            }
            match self.admit(step.at) {
                Some(admitted) => step.admitted = Some(admitted),
                None => return Next::Decided(Outcome::Falls),
            }
            step.rivals = self.open_rivals(step.at);
        }
        let Some(admitted) = &step.admitted else {
            return Next::Decided(Outcome::Falls);
        };
        if self.is_taken(step.at, admitted) {
            return Next::Decided(Outcome::Lost);
        }
        while let Some(rival) = step.rivals.get(step.cleared) {
            if !self.is_decided(*rival) && self.precedence.beats(*rival, step.at) {
                return Next::WaitsFor(*rival);
            }
            step.cleared += 1;
        }
        Next::Decided(Outcome::Stands(admitted.clone()))
    }

    fn enter(&mut self, at: usize, outcome: Outcome) {
        let Some(claim) = self.claim(at) else { return };
        for (client, range) in &claim.ranges {
            if let Some(line) = self.lines.get_mut(client) {
                line.open.remove(*client, *range, at);
                line.open_places.remove(&at);
            }
        }
        if let Outcome::Stands(admitted) = &outcome {
            for (client, (from, to)) in &admitted.ranges {
                self.owners.claim(*client, &claim.sender);
                self.lines.entry(*client).or_default().stand(Tile {
                    from: *from,
                    to: *to,
                    at,
                });
            }
        }
        if let Some(entry) = self.outcomes.get_mut(at) {
            *entry = Some(outcome);
        }
    }

    // --- What an update waits for ---------------------------------------------------------------------------------

    /// The updates that it rests on and that are not decided, the last in the graph's order first.
    fn open_rests(&self, at: usize) -> impl Iterator<Item = usize> {
        let clients = self.claim(at).into_iter().flat_map(|claim| &claim.rests);
        clients.flat_map(move |(client, limit)| {
            let open = self.lines.get(client).into_iter();
            let before = open.flat_map(move |line| line.open_places.range(..at).rev().copied());
            before.filter(move |other| self.begins_below(*other, *client, *limit) && self.graph.precedes(*other, at))
        })
    }

    fn begins_below(&self, at: usize, client: ClientId, limit: u32) -> bool {
        let range = self.claim(at).and_then(|claim| claim.ranges.get(&client));
        range.is_some_and(|(from, _)| *from < limit)
    }

    /// The rivals that are not decided. Those that come after it are first: who was led here by one of them then meets
    /// it last, and does not compare all that were compared on the way.
    fn open_rivals(&self, at: usize) -> Vec<usize> {
        let Some(claim) = self.claim(at) else { return Vec::new() };
        let mut rivals = Vec::new();
        for (client, range) in &claim.ranges {
            let line = self.lines.get(client).into_iter();
            rivals.extend(line.flat_map(|line| line.open.overlapping(*client, *range)));
        }
        rivals.sort_unstable();
        rivals.dedup();
        rivals.retain(|other| self.are_rivals(at, *other));
        let later = rivals.partition_point(|other| *other < at);
        rivals.rotate_left(later);
        rivals
    }

    /// Of two events that claim the same clocks.
    fn are_rivals(&self, one: usize, other: usize) -> bool {
        let differ = self
            .claim(one)
            .zip(self.claim(other))
            .is_some_and(|(one, other)| !one.says_the_same(other));
        differ && self.graph.are_concurrent(one, other)
    }

    // --- What stands ----------------------------------------------------------------------------------------------

    /// The update, if it is admissible after what stands of its past and brings something. All that it rests on is decided.
    fn admit(&self, at: usize) -> Option<Admitted> {
        let claim = self.claim(at)?;
        let mut known = StateVector::new();
        for client in claim.rests.keys() {
            if let Some(line) = self.lines.get(client) {
                known.raise(*client, line.end_before(at, self.graph));
            }
        }
        let past = Past {
            vector: &known,
            owners: &self.owners,
        };
        match admit_at(&claim.update, &claim.sender, &past) {
            Judgement::Admitted { update, ranges } => Some(Admitted { update, ranges }),
            Judgement::NothingNew | Judgement::Inadmissible { .. } => None,
        }
    }

    /// Whether something that stands has other content under the new clocks of an update.
    fn is_taken(&self, at: usize, admitted: &Admitted) -> bool {
        admitted.ranges.iter().any(|(client, range)| {
            let line = self.lines.get(client).into_iter();
            let mut standing = line.flat_map(|line| line.standing_in(*range));
            standing.any(|other| {
                let claims = self.claim(at).zip(self.claim(other));
                claims.is_some_and(|(claim, other)| !claim.says_the_same(other))
            })
        })
    }

    // --- Circles --------------------------------------------------------------------------------------------------

    /// Decides one update where updates wait for one another and this is one of them.
    fn break_circle(&mut self, start: usize) {
        let mut waits: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut work = vec![start];
        while let Some(at) = work.pop() {
            if waits.contains_key(&at) {
                continue;
            }
            let mut step = Step::new(at);
            if let Next::Decided(outcome) = self.next(&mut step) {
                // Something was decided since it was met on the path.
                return self.enter(at, outcome);
            }
            let mut others: Vec<usize> = self.nearest_open_rests(at);
            let rivals = self.open_rivals(at);
            others.extend(rivals.into_iter().filter(|rival| self.precedence.beats(*rival, at)));
            work.extend(others.iter().copied());
            waits.insert(at, others);
        }
        let nodes = self.graph.nodes();
        let circle = closed_circle(&waits, start);
        let ready = circle.into_iter().filter(|at| self.open_rests(*at).next().is_none());
        let first = ready.min_by_key(|at| nodes.get(*at).map(|node| &node.id));
        // In a circle one has all decided that it rests on: the one that comes first in the graph.
        let first = first.unwrap_or(start);
        let outcome = self.admit(first).map_or(Outcome::Falls, Outcome::Stands);
        self.enter(first, outcome);
    }

    /// Of the undecided updates that an update rests on those from which the others are reached.
    fn nearest_open_rests(&self, at: usize) -> Vec<usize> {
        let mut nearest: Vec<usize> = Vec::new();
        for (client, limit) in self.claim(at).into_iter().flat_map(|claim| &claim.rests) {
            let Some(line) = self.lines.get(client) else { continue };
            let mut of_client: Vec<usize> = Vec::new();
            for other in line.open_places.range(..at).rev() {
                // One that brings blocks of the client rests on all before it that do.
                let is_reached = of_client.iter().any(|near| self.graph.precedes(*other, *near));
                if !is_reached && self.begins_below(*other, *client, *limit) && self.graph.precedes(*other, at) {
                    of_client.push(*other);
                }
            }
            nearest.extend(of_client);
        }
        nearest
    }

    // --- Names ----------------------------------------------------------------------------------------------------

    /// Updates that stand beside a rival which lost, where a server has given no answer about the two.
    fn to_name(&self, server: &ServerName) -> Vec<usize> {
        let nodes = self.graph.nodes();
        let number = nodes.iter().position(|node| node.server == server);
        let number = number.map_or(usize::MAX, |at| self.graph.server_of(at));
        let mut lost = Claims::default();
        for at in 0..nodes.len() {
            if let (Some(Some(Outcome::Lost)), Some(claim)) = (self.outcomes.get(at), self.claim(at)) {
                for (client, range) in &claim.ranges {
                    lost.add(*client, *range, at);
                }
            }
        }
        let mut to_name = Vec::new();
        for (at, outcome) in self.outcomes.iter().enumerate() {
            let Some(Outcome::Stands(admitted)) = outcome else {
                continue;
            };
            let mut rivals = admitted
                .ranges
                .iter()
                .flat_map(|(client, range)| lost.overlapping(*client, *range));
            let is_open = |rival: usize| self.are_rivals(at, rival) && !self.precedence.has_answered(number, at, rival);
            if rivals.any(is_open) {
                to_name.push(at);
                if to_name.len() == MAX_NAMED_EVENTS {
                    break;
                }
            }
        }
        to_name
    }
}

impl Line {
    fn stand(&mut self, tile: Tile) {
        let at = self.tiles.partition_point(|other| other.from <= tile.from);
        let before = at.checked_sub(1).and_then(|before| self.tiles.get(before));
        let after = self.tiles.get(at);
        self.overlap |= before.is_some_and(|before| before.to > tile.from);
        self.overlap |= after.is_some_and(|after| after.from < tile.to);
        self.tiles.insert(at, tile);
    }

    /// Where the client's blocks end in the past of an event, of those that stand.
    fn end_before(&self, event: usize, graph: &Graph) -> u32 {
        if self.overlap {
            let before = self.tiles.iter().filter(|tile| graph.precedes(tile.at, event));
            return before.map(|tile| tile.to).max().unwrap_or(0);
        }
        // Each follows the one before it, so that of two in a past the earlier one is in it too.
        let count = self.tiles.partition_point(|tile| graph.precedes(tile.at, event));
        count
            .checked_sub(1)
            .and_then(|last| self.tiles.get(last))
            .map_or(0, |tile| tile.to)
    }

    /// What stands and brings some of these clocks.
    fn standing_in(&self, (from, to): (u32, u32)) -> impl Iterator<Item = usize> {
        let first = if self.overlap {
            0
        } else {
            self.tiles.partition_point(|tile| tile.to <= from)
        };
        let tiles = self.tiles.iter().skip(first).take_while(move |tile| tile.from < to);
        tiles.filter(move |tile| tile.to > from).map(|tile| tile.at)
    }
}

/// Of the updates that `start` waits for, directly or not, some that wait for one another and for nothing else.
fn closed_circle(waits: &BTreeMap<usize, Vec<usize>>, start: usize) -> BTreeSet<usize> {
    let mut waited_by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, others) in waits {
        for other in others {
            waited_by.entry(*other).or_default().push(*at);
        }
    }
    let mut start = start;
    loop {
        let behind = reached(waits, start);
        let before = reached(&waited_by, start);
        // One that does not wait for `start` has fewer to wait for, so that this ends.
        match behind.difference(&before).next() {
            Some(other) => start = *other,
            None => return behind,
        }
    }
}

fn reached(edges: &BTreeMap<usize, Vec<usize>>, start: usize) -> BTreeSet<usize> {
    let (mut reached, mut work) = (BTreeSet::from([start]), vec![start]);
    while let Some(at) = work.pop() {
        for other in edges.get(&at).into_iter().flatten() {
            if reached.insert(*other) {
                work.push(*other);
            }
        }
    }
    reached
}
