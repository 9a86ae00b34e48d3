//! Forward extremities that other servers may have soft-failed because they received another branch before, and those
//! that their senders' servers can't have sent to all servers. Source: "Rejected and soft-failed events" in
//! `spec/docs/admission.md`.
//!
//! Whether a server did is not known; whether one could have follows from the graph. Must not decide what is done about
//! it: that is `reconcile` in `weft-room`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, StateKey, StateMap, StateView, lock};
use weft_room_api::Unavailable;
use weft_room_read::membership_chain;
use weft_wire::event_types::{LOCK, UNLOCK};

use crate::{
    decide::{Undecided, load},
    graph::{Graph, Known},
};

/// Only this number of forward extremities, the newest, are examined: another server chooses how many there are. Our next
/// events merge the newest ones, so the others are examined when there are fewer.
pub const MAX_EXAMINED: usize = 100;
/// Forward extremities beyond this number are checked against the current state only: each of the others is checked
/// against all others.
const MAX_EXTREMITIES: usize = 10;
/// Events that are examined for one extremity, back from all extremities. Beyond that only the auth chains are
/// examined.
const MAX_LOOKED_AT: usize = 500;

/// The forward extremities that other servers may not have.
#[derive(Debug, Default)]
pub struct UnconfirmedExtremities {
    /// Extremities that the current state does not allow, or that an event of another branch would not have allowed:
    /// one that is current there, or one that was replaced since, for example a lifted ban. The other server may or may
    /// not have had that event when it received the extremity.
    pub soft_failed: BTreeSet<OwnedEventId>,
    /// Extremities in whose state some server is not in the room, or is in it through a joined period that ended, so
    /// that the sender's server did not send them there.
    pub undelivered: BTreeSet<OwnedEventId>,
}

/// Examines the forward extremities. If there is only one, it references everything that a server in the room has.
pub async fn unconfirmed_extremities(graph: &impl Graph) -> Result<UnconfirmedExtremities, Unavailable> {
    let mut extremities = graph.extremities();
    let mut unconfirmed_extremities = UnconfirmedExtremities::default();
    if extremities.len() < 2 {
        return Ok(unconfirmed_extremities);
    }
    let mut branches = Vec::new();
    let examined = extremities.split_off(extremities.len().saturating_sub(MAX_EXAMINED));
    graph.read_events(&examined).await?;
    for id in examined {
        let Some(Known { pdu, .. }) = graph.event(&id).await? else {
            continue;
        };
        if !allowed_by_current_state(graph.current(), &pdu) {
            unconfirmed_extremities.soft_failed.insert(id.clone());
        }
        if branches.len() < MAX_EXTREMITIES
            && let Some(state) = graph.state_after(&id).await?
        {
            branches.push((pdu, state));
        }
    }
    for (extremity, state) in &branches {
        if !knows_all_servers(graph, state).await? {
            unconfirmed_extremities
                .undelivered
                .insert(extremity.event_id().to_owned());
        }
        match is_unconfirmed(graph, (extremity, state), &branches).await {
            Ok(false) => {}
            Ok(true) => {
                unconfirmed_extremities
                    .soft_failed
                    .insert(extremity.event_id().to_owned());
            }
            Err(Undecided::Unavailable(error)) => return Err(error),
            Err(problem) => {
                tracing::debug!(room = %graph.room_id(), %problem, "a forward extremity could not be checked")
            }
        }
    }
    Ok(unconfirmed_extremities)
}

/// Whether the current state allows a forward extremity. A user's own current membership event, for example a leave,
/// needs no check: the state before it allowed it.
fn allowed_by_current_state(now: &StateView, extremity: &Arc<Pdu>) -> bool {
    let is_own = extremity.kind() == "m.room.member" && extremity.state_key() == Some(extremity.sender().as_str());
    let current = now.get("m.room.member", extremity.sender().as_str());
    (is_own && current.is_some_and(|current| current.event_id() == extremity.event_id())) || now.allows(extremity)
}

/// Whether all servers that are in the room now were in the room in this state, through a user who has been joined
/// since.
async fn knows_all_servers(graph: &impl Graph, state: &StateMap) -> Result<bool, Unavailable> {
    let now = graph.current();
    let (mut unknown, mut changed) = (now.joined_servers(), Vec::new());
    for user in now.joined_members() {
        let last = now.get("m.room.member", user.as_str());
        let Some((last, then)) = last.zip(state.get("m.room.member", user.as_str())) else {
            continue;
        };
        if then == last.event_id() {
            unknown.remove(user.server_name());
        } else {
            changed.push((user, Arc::clone(last), then.clone()));
        }
    }
    for (user, last, then) in changed {
        if unknown.contains(user.server_name())
            && let Some(then) = graph.event(&then).await?
            && (is_one_stay(graph, &user, &last, &then.pdu).await?
                || is_one_stay(graph, &user, &then.pdu, &last).await?)
        {
            unknown.remove(user.server_name());
        }
    }
    Ok(unknown.is_empty())
}

/// Whether a user's membership depends on an earlier one through joins alone, for example after a change of the display
/// name.
async fn is_one_stay(graph: &impl Graph, user: &UserId, last: &Arc<Pdu>, first: &Pdu) -> Result<bool, Unavailable> {
    let mut at = Arc::clone(last);
    for _ in 0..membership_chain::MAX_MEMBERSHIPS {
        let view = StateView::from_events(graph.version().clone(), [Arc::clone(&at)]);
        if view.membership(user) != MembershipState::Join {
            return Ok(false);
        }
        if at.event_id() == first.event_id() {
            return Ok(true);
        }
        let mut cited = Vec::new();
        for id in at.auth_events() {
            cited.extend(graph.event(id).await?.map(|known| known.pdu));
        }
        let Some(earlier) = membership_chain::earlier(&at, &cited) else {
            return Ok(false);
        };
        at = Arc::clone(earlier);
    }
    Ok(false)
}

async fn is_unconfirmed(
    graph: &impl Graph,
    (extremity, after): (&Arc<Pdu>, &StateMap),
    branches: &[(Arc<Pdu>, StateMap)],
) -> Result<bool, Undecided> {
    let keys: BTreeSet<StateKey> = lock::deciding_keys(extremity, graph.version(), lock::entry(after))
        .into_iter()
        .collect();
    let create = graph.current().create().map(|create| create.event_id().to_owned());
    // An update depends on a lock, which it does not cite.
    let locks = keys.iter().filter(|(kind, _)| [LOCK, UNLOCK].contains(&kind.as_str()));
    let locks: Vec<OwnedEventId> = locks.filter_map(|(kind, key)| after.get(kind, key).cloned()).collect();
    let cited = load(graph, &[extremity.auth_events(), create.as_slice(), &locks].concat()).await?;
    let view = StateView::from_events(graph.version().clone(), cited.0.values().cloned());
    let mut others = concurrent(graph, extremity, branches).await?;
    for (_, state) in branches.iter().filter(|(other, _)| !Arc::ptr_eq(other, extremity)) {
        others.extend(auth_difference(graph, &keys, &view.map(), state).await?);
    }
    Ok(others.iter().any(|other| {
        let decides = other.state_entry().is_some_and(|key| keys.contains(&key));
        decides
            && !other.rejected()
            && !lock::is_lifted(after, other.event_id())
            && !view.after(other).allows(extremity)
    }))
}

/// Events that are ancestors of the other extremities and not of this one, within the limit. They include events that
/// state resolution has set aside since, which are in no state.
async fn concurrent(
    graph: &impl Graph,
    extremity: &Arc<Pdu>,
    branches: &[(Arc<Pdu>, StateMap)],
) -> Result<Vec<Arc<Pdu>>, Unavailable> {
    // All branches are walked back together, the deepest event first: an event is reached from all its descendants
    // before it is left.
    let place = |pdu: &Pdu| (pdu.depth(), pdu.event_id().to_owned());
    let mut reached: BTreeMap<_, _> = branches
        .iter()
        .map(|(pdu, _)| (place(pdu), (Arc::clone(pdu), Arc::ptr_eq(pdu, extremity))))
        .collect();
    let mut concurrent = Vec::new();
    for _ in 0..MAX_LOOKED_AT {
        if reached.values().all(|(_, is_behind)| *is_behind) {
            break;
        }
        let Some((_, (pdu, is_behind))) = reached.pop_last() else {
            break;
        };
        for id in pdu.prev_events() {
            if let Some(known) = graph.event(id).await?.filter(|known| !known.outlier) {
                let before = reached.entry(place(&known.pdu)).or_insert((known.pdu, false));
                before.1 |= is_behind;
            }
        }
        if !is_behind {
            concurrent.push(pdu);
        }
    }
    Ok(concurrent)
}

/// Events in the auth chains of the deciding entries of another branch that are not in the auth chain of the extremity.
async fn auth_difference(
    graph: &impl Graph,
    keys: &BTreeSet<StateKey>,
    ours: &StateMap,
    state: &StateMap,
) -> Result<Vec<Arc<Pdu>>, Undecided> {
    let entry = |key: &StateKey| Some((key.clone(), state.0.get(key)?.clone()));
    let theirs: StateMap = keys.iter().filter_map(entry).collect();
    let rests_on = |id: &OwnedEventId| ours.0.values().any(|own| graph.cover().reachable(own, id));
    if theirs.0.values().all(&rests_on) {
        return Ok(Vec::new());
    }
    let difference = graph.cover().difference(&[ours, &theirs]);
    let mut ids: Vec<OwnedEventId> = difference
        .map_err(|missing| Undecided::Auth(missing.0))?
        .into_iter()
        .collect();
    ids.retain(|id| !rests_on(id));
    Ok(load(graph, &ids).await?.0.into_values().collect())
}

#[cfg(test)]
mod tests;
