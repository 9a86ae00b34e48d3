//! Reachability between events in constant time: the events of each server are on chains, and each event has a vector
//! that says how much of every chain is in its past.
//!
//! A server whose events each follow the one before has one chain. Membership events are on separate chains, because
//! the server that answers a join chooses their `prev_events`. Must not decide about claims.

use std::collections::{BTreeMap, HashMap};

use ruma::OwnedServerName;
use weft_wire::limits::MAX_SERVER_BRANCHES;

use super::{Node, Part, positions::Positions};

/// See the module.
pub struct Graph {
    nodes: Vec<Node>,
    /// The past of each event, including the event.
    past: Vec<Positions>,
    /// The chain of each event and its number there, from 1. `None` for rejected events.
    places: Vec<Option<(usize, u32)>>,
    /// The events of each chain.
    chains: Vec<Vec<usize>>,
    servers: Vec<Server>,
    /// For each event, the index of its server in `servers`.
    server_of: Vec<usize>,
}

/// A server that sent at least one event.
#[derive(Debug, Default)]
struct Server {
    statements: Vec<usize>,
    memberships: Vec<usize>,
    /// See [`Graph::counts`].
    branches: usize,
    /// For each statement of this server, the number of statements that continue it.
    continued: HashMap<usize, usize>,
}

impl Graph {
    /// Builds the graph from the events of a room, each after all of its `prev_events`.
    pub fn new(nodes: Vec<Node>) -> Self {
        let mut numbers: BTreeMap<OwnedServerName, usize> = BTreeMap::new();
        let mut graph = Self {
            past: Vec::with_capacity(nodes.len()),
            places: Vec::with_capacity(nodes.len()),
            chains: Vec::new(),
            servers: Vec::new(),
            server_of: Vec::with_capacity(nodes.len()),
            nodes,
        };
        for at in 0..graph.nodes.len() {
            graph.place(at, &mut numbers);
        }
        graph
    }

    fn place(&mut self, at: usize, numbers: &mut BTreeMap<OwnedServerName, usize>) {
        let Some(node) = self.nodes.get(at) else { return };
        let mut past = Positions::default();
        for before in node.after.iter().filter_map(|before| self.past.get(*before)) {
            past.merge(before);
        }
        let server = match numbers.get(&node.server) {
            Some(number) => *number,
            None => {
                let number = self.servers.len();
                numbers.insert(node.server.clone(), number);
                self.servers.push(Server::default());
                number
            }
        };
        self.server_of.push(server);
        let place = match node.part {
            Part::Rejected => None,
            Part::Membership => Some(self.extend(at, server, false, &past)),
            Part::Statement => {
                self.count_branches(server, &past);
                Some(self.extend(at, server, true, &past))
            }
        };
        if let Some((chain, number)) = place {
            past.raise(chain, number);
        }
        self.places.push(place);
        self.past.push(past);
    }

    /// Appends an event to a chain of its server whose last event is in its past, or to a new chain.
    fn extend(&mut self, at: usize, server: usize, is_word: bool, past: &Positions) -> (usize, u32) {
        let ends_in = |chain: &&usize| {
            let length = self.chains.get(**chain).map_or(0, Vec::len);
            usize::try_from(past.get(**chain)) == Ok(length)
        };
        let own = self
            .servers
            .get(server)
            .map_or(&[][..], |server| server.chains(is_word));
        // A server that counts has no more chains than this. For other servers any chain is correct, including a new
        // one.
        let chain = own.iter().rev().take(MAX_SERVER_BRANCHES).find(ends_in).copied();
        let chain = chain.unwrap_or_else(|| {
            self.chains.push(Vec::new());
            let chain = self.chains.len() - 1;
            if let Some(server) = self.servers.get_mut(server) {
                server.chains_mut(is_word).push(chain);
            }
            chain
        });
        let Some(events) = self.chains.get_mut(chain) else {
            return (chain, 0);
        };
        events.push(at);
        (chain, u32::try_from(events.len()).unwrap_or(u32::MAX))
    }

    /// Counts the statements of its own server that a new statement continues.
    fn count_branches(&mut self, server: usize, past: &Positions) {
        let Some(own) = self
            .servers
            .get(server)
            .filter(|own| own.branches <= MAX_SERVER_BRANCHES)
        else {
            return;
        };
        let newest: Vec<usize> = own
            .statements
            .iter()
            .filter_map(|chain| self.newest(*chain, past))
            .collect();
        let is_between = |statement: usize| newest.iter().any(|other| self.precedes(statement, *other));
        let continued: Vec<usize> = newest
            .iter()
            .copied()
            .filter(|statement| !is_between(*statement))
            .collect();
        let Some(own) = self.servers.get_mut(server) else {
            return;
        };
        own.branches += usize::from(continued.is_empty());
        for statement in continued {
            let times = own.continued.entry(statement).or_insert(0);
            own.branches += usize::from(*times > 0);
            *times += 1;
        }
    }

    /// The last event of a chain in this past.
    fn newest(&self, chain: usize, past: &Positions) -> Option<usize> {
        let at = usize::try_from(past.get(chain)).ok()?.checked_sub(1)?;
        self.chains.get(chain)?.get(at).copied()
    }

    /// The events, in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at)
    }

    /// The server of an event.
    pub(super) fn server_of(&self, at: usize) -> usize {
        self.server_of.get(at).copied().unwrap_or(usize::MAX)
    }

    /// Whether an event is an ancestor of another. A rejected event is never found as an ancestor.
    pub(super) fn precedes(&self, before: usize, after: usize) -> bool {
        before != after && self.is_in_past_of(before, after)
    }

    /// Whether an event is another one or an ancestor of it.
    pub(super) fn is_in_past_of(&self, before: usize, after: usize) -> bool {
        let place = self.places.get(before).copied().flatten();
        place
            .zip(self.past.get(after))
            .is_some_and(|((chain, number), past)| past.get(chain) >= number)
    }

    /// Whether neither of two events is an ancestor of the other.
    pub(super) fn are_concurrent(&self, one: usize, other: usize) -> bool {
        !self.is_in_past_of(one, other) && !self.is_in_past_of(other, one)
    }

    /// Whether a server's events count between claims: those of a server with too many branches do not.
    pub(super) fn counts(&self, server: usize) -> bool {
        self.servers
            .get(server)
            .is_some_and(|server| server.branches <= MAX_SERVER_BRANCHES)
    }

    /// The chains of statements of all servers that count, with their servers.
    pub(super) fn counted_chains(&self) -> Vec<(usize, usize)> {
        let servers = self
            .servers
            .iter()
            .enumerate()
            .filter(|(number, _)| self.counts(*number));
        servers
            .flat_map(|(number, server)| server.statements.iter().map(move |chain| (number, *chain)))
            .collect()
    }

    /// How many events of a chain are neither an event nor its descendants: the number of the first one that is.
    pub(super) fn first_after(&self, chain: usize, event: usize) -> usize {
        let events = self.chains.get(chain).map_or(&[][..], Vec::as_slice);
        events.partition_point(|other| !self.is_in_past_of(event, *other))
    }

    /// The chain of an event.
    pub(super) fn chain_of(&self, at: usize) -> Option<usize> {
        self.places.get(at).copied().flatten().map(|(chain, _)| chain)
    }

    /// Whether some event of a server is in the past of both events.
    pub(super) fn has_common_event(&self, server: usize, one: usize, other: usize) -> bool {
        let (Some(server), Some(one), Some(other)) =
            (self.servers.get(server), self.past.get(one), self.past.get(other))
        else {
            return false;
        };
        // The first event of a chain is in every past that contains an event of the chain.
        let mut chains = server.statements.iter().chain(&server.memberships);
        chains.any(|chain| one.get(*chain) > 0 && other.get(*chain) > 0)
    }
}

impl Server {
    fn chains(&self, of_statements: bool) -> &[usize] {
        if of_statements {
            &self.statements
        } else {
            &self.memberships
        }
    }

    fn chains_mut(&mut self, of_statements: bool) -> &mut Vec<usize> {
        if of_statements {
            &mut self.statements
        } else {
            &mut self.memberships
        }
    }
}
