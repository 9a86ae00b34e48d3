//! Ends of the graph that other servers may hold back (soft-failed), which had heard of the other branches before, and
//! those that their authors can't have sent to all. Source: "Rejected and soft-failed events" in `spec/docs/admission.md`.
//!
//! Which server does, nobody can know; which one could, follows from the graph. Must not decide what is done about it:
//! that is [`crate::reconcile`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, StateKey, StateMap, StateView};

use super::{
    decide::{Undecided, auth_keys, load},
    graph::{Graph, Known},
};
use crate::{Unavailable, membership_chain};

/// Ends beyond so many are held against today's state alone: of these, each is held against all others.
const MAX_EXTREMITIES: usize = 10;
/// Events that are looked at for one end, back from the ends. Behind that only the auth chains tell.
const MAX_LOOKED_AT: usize = 500;

/// What others may not have of the ends of the graph.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedExtremities {
    /// Ends that today's state would not let pass, or something on another branch would not have: what stands there now,
    /// or what was replaced on the way, as a ban that was lifted. A server had that when the event came to it, or it hadn't.
    pub(crate) held: BTreeSet<OwnedEventId>,
    /// Ends whose authors did not know that some server is in the room, and so did not send them there; or knew it by a stay
    /// that had ended.
    pub(crate) undelivered: BTreeSet<OwnedEventId>,
}

/// Looks at the ends of the graph. Where there is only one, whoever knows the room has followed it all.
pub(crate) async fn unconfirmed_extremities(graph: &impl Graph) -> Result<UnconfirmedExtremities, Unavailable> {
    let extremities = graph.extremities();
    let mut unconfirmed_extremities = UnconfirmedExtremities::default();
    if extremities.len() < 2 {
        return Ok(unconfirmed_extremities);
    }
    let mut branches = Vec::new();
    for id in extremities {
        let Some(Known { pdu, .. }) = graph.event(&id).await? else {
            continue;
        };
        if !allowed_by_current_state(graph.current(), &pdu) {
            unconfirmed_extremities.held.insert(id.clone());
        }
        if branches.len() < MAX_EXTREMITIES
            && let Some(state) = graph.state_after(&id).await?
        {
            branches.push((pdu, state));
        }
    }
    for (end, state) in &branches {
        if !knows_all_servers(graph, state).await? {
            unconfirmed_extremities.undelivered.insert(end.event_id().to_owned());
        }
        match is_unconfirmed(graph, end, &branches).await {
            Ok(false) => {}
            Ok(true) => {
                unconfirmed_extremities.held.insert(end.event_id().to_owned());
            }
            Err(Undecided::Unavailable(error)) => return Err(error),
            Err(problem) => tracing::debug!(room = %graph.room_id(), %problem, "an end can't be looked at"),
        }
    }
    Ok(unconfirmed_extremities)
}

/// Whether today's state would let an end of the graph pass. One's own membership that is today's, as a leave, needs not
/// be let pass: what was before it has.
fn allowed_by_current_state(now: &StateView, end: &Arc<Pdu>) -> bool {
    let of_oneself = end.kind() == "m.room.member" && end.state_key() == Some(end.sender().as_str());
    let today = now.get("m.room.member", end.sender().as_str());
    (of_oneself && today.is_some_and(|today| today.event_id() == end.event_id())) || now.allows(end)
}

/// Whether all servers that are in the room now were in it in this state, and have been since: by somebody who has.
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

/// Whether a user's membership rests on an earlier one by joins alone, as after a change of his name.
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
    end: &Arc<Pdu>,
    branches: &[(Arc<Pdu>, StateMap)],
) -> Result<bool, Undecided> {
    let keys: BTreeSet<StateKey> = auth_keys(graph, end).into_iter().collect();
    let create = graph.current().create().map(|create| create.event_id().to_owned());
    let cited = load(graph, &[end.auth_events(), create.as_slice()].concat()).await?;
    let view = StateView::from_events(graph.version().clone(), cited.0.values().cloned());
    let mut others = beside(graph, end, branches).await?;
    for (_, state) in branches.iter().filter(|(other, _)| !Arc::ptr_eq(other, end)) {
        others.extend(apart(graph, &keys, &view.map(), state).await?);
    }
    Ok(others.iter().any(|other| {
        let decides = other.state_entry().is_some_and(|key| keys.contains(&key));
        decides && !other.rejected() && !view.after(other).allows(end)
    }))
}

/// Events behind the other ends and not behind this one, as far as they are looked for: also such as a resolution has set
/// aside since, which no state tells of.
async fn beside(
    graph: &impl Graph,
    end: &Arc<Pdu>,
    branches: &[(Arc<Pdu>, StateMap)],
) -> Result<Vec<Arc<Pdu>>, Unavailable> {
    // All are walked back together, the deepest first: an event is reached from all that follow it before it is left.
    let place = |pdu: &Pdu| (pdu.depth(), pdu.event_id().to_owned());
    let mut reached: BTreeMap<_, _> = branches
        .iter()
        .map(|(pdu, _)| (place(pdu), (Arc::clone(pdu), Arc::ptr_eq(pdu, end))))
        .collect();
    let mut beside = Vec::new();
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
            beside.push(pdu);
        }
    }
    Ok(beside)
}

/// Events of another branch on which what decides there rests, and that the end itself doesn't rest on.
async fn apart(
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
