//! Which updates are part of the text when two events claim the same clocks of a Yjs client id.
//!
//! A pure function of the events of a room: no store, no clock, no order of arrival. The rule is specified in "Two
//! claims to the same clocks" in `spec/docs/admission.md`; change both or neither. [`graph`] holds the event graph and
//! its queries, [`precedence`] compares two claims, and [`mod@settle`] is the procedure.

pub mod graph;
mod positions;
mod precedence;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId};
use weft_crdt::{ClientId, Update};

pub use self::settle::{Admitted, Outcome, settle};

/// The role of an event in the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rejected: it has a position in the graph and no other effect.
    Rejected,
    /// A membership event: the sender's server did not choose its `prev_events`.
    Membership,
    /// Every other event (a *statement* in `spec/docs/admission.md`).
    Statement,
}

/// An event of the room. Events are in an order in which each comes after its `prev_events`.
#[derive(Debug, Clone)]
pub struct Node {
    /// The event id.
    pub id: OwnedEventId,
    /// The indices of its `prev_events` in this order.
    pub after: Vec<usize>,
    /// The sender's server.
    pub server: OwnedServerName,
    /// Its role.
    pub part: Part,
    /// Updates that it names in `dev.weft.stands`.
    pub names: Vec<OwnedEventId>,
    /// The update that it carries, if it is valid. `None` for a rejected event.
    pub claim: Option<Claim>,
}

/// An update before the admission rules are applied.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The sender of the event.
    pub sender: OwnedUserId,
    /// The update as it is in the event.
    pub bytes: Bytes,
    /// The update, parsed.
    pub update: Update,
    /// For each client, the clocks that it contains.
    pub ranges: BTreeMap<ClientId, (u32, u32)>,
    /// The clients on which its admission depends, each with the clock below which. That is every clock if the update
    /// contains blocks of the client.
    pub rests: BTreeMap<ClientId, u32>,
}

impl Claim {
    /// The claim of an update of `sender`.
    #[must_use]
    pub fn new(sender: OwnedUserId, bytes: Bytes, update: Update) -> Self {
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

    /// Whether two updates with the same clocks may both be part of the text: a server that was restored from a backup
    /// may send the same blocks of its user again. The senders must be the same, or a client id would have two owners.
    fn has_same_content(&self, other: &Self) -> bool {
        self.sender == other.sender && self.bytes == other.bytes
    }
}

/// Whether some clock is claimed by two different updates, including updates of which one follows the other.
pub fn has_overlaps(nodes: &[Node]) -> bool {
    let mut ranges: Vec<(ClientId, u32, u32)> = nodes
        .iter()
        .filter_map(|node| node.claim.as_ref())
        .flat_map(|claim| claim.ranges.iter().map(|(client, (from, to))| (*client, *from, *to)))
        .collect();
    ranges.sort_unstable();
    // Sorted by first clock: if no range reaches beyond the start of the next one, no two ranges overlap.
    ranges
        .iter()
        .zip(ranges.iter().skip(1))
        .any(|((client, _, to), (next, from, _))| client == next && from < to)
}
