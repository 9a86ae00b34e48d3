//! A user's memberships, each of which rests on the one before it: a name that was changed after a join rests on the join,
//! and that on the leave before it. So they tell what a user had heard of himself, in whatever order they come.
//!
//! Must not read anything: the caller has the events that a membership cites.

use std::sync::Arc;

use weft_dag::Pdu;

/// Memberships of one user that are looked at, from the last one back. Who changes his name more often between two events
/// is taken for one who has come anew, which costs an event, or waits for others' word of what he crossed.
pub(crate) const MAX_MEMBERSHIPS: usize = 20;

/// Of the events that a membership cites, the one that it replaces.
pub(crate) fn earlier<'a>(membership: &Pdu, cited: &'a [Arc<Pdu>]) -> Option<&'a Arc<Pdu>> {
    let key = membership.state_entry();
    cited.iter().find(|event| event.state_entry() == key)
}
