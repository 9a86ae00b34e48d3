//! Which updates stand where two events claim the same clocks of a Yjs client id.
//!
//! A pure function of the events of a room: no store, no clock, no order of arrival. The rule in words is "Two claims to
//! the same clocks" in `spec/docs/admission.md`; change both or neither. The graph and what is asked of it is in
//! [`graph`], which of two claims goes first in [`precedence`], and the procedure in [`settle`].

pub(crate) mod graph;
mod positions;
mod precedence;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId};
use weft_crdt::{ClientId, Update};

pub(crate) use self::settle::{Admitted, Outcome, settle};

/// What an event counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It was rejected: it has a place in the graph and nothing else.
    Rejected,
    /// A membership event: its server did not choose what it follows.
    Membership,
    /// Every other event.
    Word,
}

/// An event of the room, in an order in which each comes after those that it follows.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: OwnedEventId,
    /// The events that it follows, by their places in the order.
    pub(crate) after: Vec<usize>,
    /// The sender's server.
    pub(crate) server: OwnedServerName,
    pub(crate) part: Part,
    /// Events that it names as standing.
    pub(crate) names: Vec<OwnedEventId>,
    /// The update that it carries, if that can be read. None for a rejected event.
    pub(crate) claim: Option<Claim>,
}

/// An update, before it is held against what is known.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) sender: OwnedUserId,
    /// The update as it stands in the event.
    pub(crate) bytes: Bytes,
    pub(crate) update: Update,
    /// Of each client the clocks that it brings.
    pub(crate) ranges: BTreeMap<ClientId, (u32, u32)>,
    /// The clients on which its admission depends, with the clock below which. That is every clock where it brings
    /// blocks of the client itself.
    pub(crate) rests: BTreeMap<ClientId, u32>,
}

impl Claim {
    pub(crate) fn new(sender: OwnedUserId, bytes: Bytes, update: Update) -> Self {
        let ranges = update.ranges();
        let mut rests: BTreeMap<ClientId, u32> = update.needs().iter().collect();
        rests.extend(ranges.keys().map(|client| (*client, u32::MAX)));
        Self {
            sender,
            bytes,
            update,
            ranges,
            rests,
        }
    }

    /// Whether two updates that bring the same clocks may both stand: a server that was restored from a backup may send
    /// the same blocks of its user again. The sender belongs to it, or a client id would have two owners.
    fn says_the_same(&self, other: &Self) -> bool {
        self.sender == other.sender && self.bytes == other.bytes
    }
}

/// Whether some clock is claimed by two different updates, also where one of them follows the other.
pub(crate) fn has_overlaps(nodes: &[Node]) -> bool {
    let mut ranges: Vec<(ClientId, u32, u32)> = nodes
        .iter()
        .filter_map(|node| node.claim.as_ref())
        .flat_map(|claim| claim.ranges.iter().map(|(client, (from, to))| (*client, *from, *to)))
        .collect();
    ranges.sort_unstable();
    // Sorted by their first clock: where none reaches beyond the next one's beginning, no two overlap.
    ranges
        .iter()
        .zip(ranges.iter().skip(1))
        .any(|((client, _, to), (next, from, _))| client == next && from < to)
}
