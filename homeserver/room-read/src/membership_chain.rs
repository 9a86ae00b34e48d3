//! The chain of a user's membership events, each of which cites the one before it: a change of the display name cites
//! the join, and the join cites the leave before it. The chain shows which of them the user's server had, in any order
//! of arrival.
//!
//! Must not read anything: the caller has the events that a membership event cites.

use std::sync::Arc;

use weft_dag::Pdu;

/// Membership events of one user that are examined, newest first. A user with more changes of the display name between
/// two events counts as having joined anew. That costs an event, or a wait for other servers' events.
pub const MAX_MEMBERSHIPS: usize = 20;

/// The membership event that a membership event replaces, among its auth events.
pub fn earlier<'a>(membership: &Pdu, cited: &'a [Arc<Pdu>]) -> Option<&'a Arc<Pdu>> {
    let key = membership.state_entry();
    cited.iter().find(|event| event.state_entry() == key)
}
