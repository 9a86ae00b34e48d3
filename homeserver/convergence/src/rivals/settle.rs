//! The procedure: an update is decided once everything that it waits for is decided, which is the updates that it
//! depends on and the rivals that take precedence over it. If updates wait for one another in a cycle, the one with the
//! lowest event id stands.
//!
//! Lazy: two claims are compared only if nothing else decides. Must not decide which of two claims takes precedence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::ServerName;
use weft_crdt::{ClientId, StateVector, Update};
use weft_wire::limits::MAX_NAMED_EVENTS;

use super::{Claim, graph::Graph, precedence::Precedence};
use crate::{
    admission::{Judgement, Owners, Past, admit_at},
    conflicts::Claims,
};

/// The result for an update.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is part of the text.
    Stands(Admitted),
    /// It is not part of the text: inadmissible after its past, or it contains nothing new.
    Falls,
    /// It is admissible after its past, and a rival stands.
    Lost,
}

/// An update that is admissible after the updates in its past that stand.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The update without what was known before.
    pub update: Update,
    /// For each client the new clocks.
    pub ranges: BTreeMap<ClientId, (u32, u32)>,
}

/// The results for all updates.
pub struct Settled {
    /// By index in the graph; `None` for events without an update.
    pub outcomes: Vec<Option<Outcome>>,
    /// The number of comparisons of two claims in the graph.
    pub comparisons: usize,
    /// Updates between which the server `ours` has not chosen, and which it should name in `dev.weft.stands`.
    pub to_name: Vec<usize>,
}

/// Decides about all updates. `ours`: the server for which `to_name` is computed.
pub fn settle(graph: &Graph, ours: Option<&ServerName>) -> Settled {
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
    /// Updates that are being decided: each one waits for the next.
    on_path: Vec<bool>,
}

/// The claims to the clocks of one client.
#[derive(Default)]
struct Line {
    /// The undecided claims, as in the events.
    open: Claims,
    /// Their indices in the graph.
    open_places: BTreeSet<usize>,
    /// The updates that stand, by their first new clock.
    tiles: Vec<Tile>,
    /// Some clock is in two tiles, from updates with the same content.
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
    /// Set once all that it depends on is decided and it is admissible.
    admitted: Option<Admitted>,
    /// The rivals that were undecided at that time.
    rivals: Vec<usize>,
    /// How many of them are known not to take precedence.
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

/// The next step for an update.
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

    // --- From an update to what it waits for --------------------------------------------------------------------

    /// Decides about an update, and before it about all updates that it waits for.
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
                    self.break_cycle(other);
                    // What the others wait for now is computed again.
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

    /// The undecided updates that it depends on, the last in the graph's order first.
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

    /// The undecided rivals. Those that come after it are first: if the procedure came here from one of them, it meets
    /// that one last, and does not repeat the comparisons that were made on the way.
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

    /// Whether two events with overlapping claims are rivals.
    fn are_rivals(&self, one: usize, other: usize) -> bool {
        let differ = self
            .claim(one)
            .zip(self.claim(other))
            .is_some_and(|(one, other)| !one.has_same_content(other));
        differ && self.graph.are_concurrent(one, other)
    }

    // --- Updates that stand -----------------------------------------------------------------------------------------

    /// The update, if it is admissible after the part of its past that stands and contains something new. All updates
    /// that it depends on are decided.
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

    /// Whether an update that stands has other content at the new clocks of this update.
    fn is_taken(&self, at: usize, admitted: &Admitted) -> bool {
        admitted.ranges.iter().any(|(client, range)| {
            let line = self.lines.get(client).into_iter();
            let mut standing = line.flat_map(|line| line.standing_in(*range));
            standing.any(|other| {
                let claims = self.claim(at).zip(self.claim(other));
                claims.is_some_and(|(claim, other)| !claim.has_same_content(other))
            })
        })
    }

    // --- Cycles -----------------------------------------------------------------------------------------------------

    /// Decides one update of a cycle that contains, or is reached from, this update.
    fn break_cycle(&mut self, start: usize) {
        let mut waits: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut work = vec![start];
        while let Some(at) = work.pop() {
            if waits.contains_key(&at) {
                continue;
            }
            let mut step = Step::new(at);
            if let Next::Decided(outcome) = self.next(&mut step) {
                // An update was decided since this one was put on the path.
                return self.enter(at, outcome);
            }
            let mut others: Vec<usize> = self.nearest_open_rests(at);
            let rivals = self.open_rivals(at);
            others.extend(rivals.into_iter().filter(|rival| self.precedence.beats(*rival, at)));
            work.extend(others.iter().copied());
            waits.insert(at, others);
        }
        let nodes = self.graph.nodes();
        let cycle = closed_cycle(&waits, start);
        let ready = cycle.into_iter().filter(|at| self.open_rests(*at).next().is_none());
        let first = ready.min_by_key(|at| nodes.get(*at).map(|node| &node.id));
        // In a cycle one update has no undecided dependency: the one that comes first in the graph.
        let first = first.unwrap_or(start);
        let outcome = self.admit(first).map_or(Outcome::Falls, Outcome::Stands);
        self.enter(first, outcome);
    }

    /// Of the undecided updates that an update depends on, those from which the others are reached.
    fn nearest_open_rests(&self, at: usize) -> Vec<usize> {
        let mut nearest: Vec<usize> = Vec::new();
        for (client, limit) in self.claim(at).into_iter().flat_map(|claim| &claim.rests) {
            let Some(line) = self.lines.get(client) else { continue };
            let mut of_client: Vec<usize> = Vec::new();
            for other in line.open_places.range(..at).rev() {
                // An update with blocks of the client depends on all updates before it with blocks of the client.
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

    /// Updates that stand and have a rival that lost, if a server supports neither of the two.
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

    /// Where the client's blocks in the past of an event end, counting updates that stand.
    fn end_before(&self, event: usize, graph: &Graph) -> u32 {
        if self.overlap {
            let before = self.tiles.iter().filter(|tile| graph.precedes(tile.at, event));
            return before.map(|tile| tile.to).max().unwrap_or(0);
        }
        // Each follows the one before it: if the later of two is in a past, the earlier one is too.
        let count = self.tiles.partition_point(|tile| graph.precedes(tile.at, event));
        count
            .checked_sub(1)
            .and_then(|last| self.tiles.get(last))
            .map_or(0, |tile| tile.to)
    }

    /// The updates that stand and contain some of these clocks.
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

/// Of the updates that `start` waits for, directly or indirectly, a set whose members wait only for one another.
fn closed_cycle(waits: &BTreeMap<usize, Vec<usize>>, start: usize) -> BTreeSet<usize> {
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
        // An update that does not wait for `start` has fewer updates to wait for, so the loop terminates.
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
