//! Which of two conflicting claims takes precedence: the one that more servers followed without the other.
//!
//! Must not decide whether a claim is admissible or part of the text.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use ruma::EventId;

use super::{Part, graph::Graph};

/// See the module.
pub(super) struct Precedence<'a> {
    graph: &'a Graph,
    /// The chains of statements of servers that count, with their servers.
    chains: Vec<(usize, usize)>,
    /// By event and counted chain, the last statement on the chain that names the event and is a descendant of it.
    named: HashMap<usize, BTreeMap<usize, usize>>,
    /// By claim, for each counted chain: how many of its events are neither the claim nor its descendants.
    firsts: RefCell<HashMap<usize, Rc<[usize]>>>,
    decided: RefCell<HashMap<(usize, usize), bool>>,
    comparisons: Cell<usize>,
}

/// Which of two claims a server supports. A server may support both and then counts for both.
#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    one: bool,
    other: bool,
}

impl<'a> Precedence<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let mut precedence = Self {
            graph,
            chains: graph.counted_chains(),
            named: HashMap::new(),
            firsts: RefCell::default(),
            decided: RefCell::default(),
            comparisons: Cell::new(0),
        };
        precedence.read_names();
        precedence
    }

    fn read_names(&mut self) {
        let nodes = self.graph.nodes();
        if nodes.iter().all(|node| node.names.is_empty()) {
            return;
        }
        let places: HashMap<&EventId, usize> = nodes.iter().map(|node| &*node.id).zip(0..).collect();
        // In the order of the graph, so that the last event of a chain remains in the map.
        for (at, node) in nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.part == Part::Statement)
        {
            let Some(chain) = self
                .graph
                .chain_of(at)
                .filter(|_| self.graph.counts(self.graph.server_of(at)))
            else {
                continue;
            };
            for named in node.names.iter().filter_map(|id| places.get(&**id)) {
                if self.graph.precedes(*named, at) {
                    self.named.entry(*named).or_default().insert(chain, at);
                }
            }
        }
    }

    /// The number of comparisons of two claims in the graph.
    pub(super) fn comparisons(&self) -> usize {
        self.comparisons.get()
    }

    /// Whether a claim takes precedence over a rival. For each pair exactly one of the two does.
    pub(super) fn beats(&self, one: usize, other: usize) -> bool {
        if let Some(decided) = self.decided.borrow().get(&(one, other)) {
            return *decided;
        }
        let decided = self.compare(one, other);
        self.comparisons.set(self.comparisons.get() + 1);
        let mut known = self.decided.borrow_mut();
        known.insert((one, other), decided);
        known.insert((other, one), !decided);
        decided
    }

    fn compare(&self, one: usize, other: usize) -> bool {
        let answers = self.answers(one, other);
        let count = |answers: &mut dyn Iterator<Item = (&usize, &Answer)>| {
            answers.fold((0_usize, 0_usize), |(first, second), (_, answer)| {
                (first + usize::from(answer.one), second + usize::from(answer.other))
            })
        };
        let (first, second) = count(&mut answers.iter().filter(|(server, answer)| {
            answer.one != answer.other && self.graph.has_common_event(**server, one, other)
        }));
        if first != second {
            return first > second;
        }
        let (first, second) = count(&mut answers.iter());
        if first != second {
            return first > second;
        }
        let id = |at: usize| self.graph.node(at).map(|node| &node.id);
        id(one) < id(other)
    }

    /// The answers of all servers that count and support at least one of the claims.
    fn answers(&self, one: usize, other: usize) -> BTreeMap<usize, Answer> {
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        let (first, second) = (self.firsts(one), self.firsts(other));
        for ((server, _), (first, second)) in self.chains.iter().zip(first.iter().zip(second.iter())) {
            if first != second {
                let answer = answers.entry(*server).or_default();
                answer.one |= first < second;
                answer.other |= second < first;
            }
        }
        for server in self.naming(one, other) {
            answers.entry(server).or_default().one = true;
        }
        for server in self.naming(other, one) {
            answers.entry(server).or_default().other = true;
        }
        answers
    }

    /// The servers of statements that are descendants of both claims and name one of them.
    fn naming(&self, named: usize, other: usize) -> impl Iterator<Item = usize> {
        let statements = self.named.get(&named).into_iter().flat_map(BTreeMap::values);
        statements
            .filter(move |statement| self.graph.precedes(other, **statement))
            .map(|statement| self.graph.server_of(*statement))
    }

    fn firsts(&self, claim: usize) -> Rc<[usize]> {
        if let Some(firsts) = self.firsts.borrow().get(&claim) {
            return Rc::clone(firsts);
        }
        let chains = self.chains.iter();
        let firsts: Rc<[usize]> = chains.map(|(_, chain)| self.graph.first_after(*chain, claim)).collect();
        self.firsts.borrow_mut().insert(claim, Rc::clone(&firsts));
        firsts
    }

    /// Whether a server supports one of two claims.
    pub(super) fn has_answered(&self, server: usize, one: usize, other: usize) -> bool {
        self.answers(one, other).contains_key(&server)
    }
}
