//! State resets of memberships: state resolution removed a user from the room although one branch has them joined after
//! the event that removes them. Example: a lifted ban, on a branch whose other extremity does not have the lifting, or
//! lifted by a user who has lost the power to do so. The user's server may have only that branch, and events are not
//! sent to servers outside of the room.
//!
//! Must not decide what is done about it: that is `resend` in `weft-room`.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedUserId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, StateView};
use weft_room_api::Unavailable;

use crate::graph::Graph;

/// Forward extremities that are examined.
const MAX_EXTREMITIES: usize = 10;
/// Ancestors of one extremity that are examined, in search of the event that removed a user.
const MAX_LOOKED_AT: usize = 500;

/// The current membership events of users whose membership may have been reset. `users`: each with joins that are not
/// part of the resolved state.
pub async fn resets(
    graph: &impl Graph,
    users: &BTreeMap<OwnedUserId, Vec<OwnedEventId>>,
) -> Result<Vec<Arc<Pdu>>, Unavailable> {
    let mut found = Vec::new();
    for (user, joins) in users {
        let now = graph.current();
        if let Some(stands) = now.get("m.room.member", user.as_str())
            && !now.joined_servers().contains(user.server_name())
            && is_reset(graph, user, joins, stands).await?
        {
            found.push(Arc::clone(stands));
        }
    }
    Ok(found)
}

/// Whether a user is joined after a forward extremity that follows the user's current membership event, or after one of
/// these joins, which may be soft-failed.
async fn is_reset(
    graph: &impl Graph,
    user: &UserId,
    joins: &[OwnedEventId],
    stands: &Pdu,
) -> Result<bool, Unavailable> {
    let extremities = graph.extremities().into_iter().take(MAX_EXTREMITIES);
    for extremity in extremities.chain(joins.iter().cloned()) {
        let state = graph.state_after(&extremity).await?;
        let member = state.and_then(|state| state.get("m.room.member", user.as_str()).cloned());
        let Some(member) = member.filter(|member| *member != *stands.event_id()) else {
            continue;
        };
        let Some(member) = graph.event(&member).await? else {
            continue;
        };
        let there = StateView::from_events(graph.version().clone(), [member.pdu]);
        if there.membership(user) == MembershipState::Join && follows(graph, &extremity, stands.event_id()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an event is a descendant of another, within the limit.
async fn follows(graph: &impl Graph, extremity: &EventId, before: &EventId) -> Result<bool, Unavailable> {
    let (mut seen, mut work) = (HashSet::new(), vec![extremity.to_owned()]);
    while let Some(id) = work.pop() {
        if id == *before {
            return Ok(true);
        }
        if seen.len() >= MAX_LOOKED_AT {
            return Ok(false);
        }
        if let Some(known) = graph.event(&id).await?.filter(|known| !known.outlier)
            && seen.insert(id)
        {
            let prev: &[OwnedEventId] = known.pdu.prev_events();
            work.extend(prev.iter().filter(|id| !seen.contains(*id)).cloned());
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_dag::testing::World;

    use super::*;
    use crate::whole::{ANNA, BELA, CARA, VERSIONS, Whole, membership, room};

    async fn found(world: World) -> Vec<String> {
        let users = [BELA, CARA].map(|user| (UserId::parse(user).unwrap(), Vec::new()));
        let found = resets(&Whole::new(world), &users.into_iter().collect()).await.unwrap();
        let keys = found.iter().map(|pdu| pdu.state_key().unwrap().to_owned());
        keys.collect()
    }

    fn message(world: &mut World, after: &[OwnedEventId], sender: &str) -> Vec<OwnedEventId> {
        let content = json!({ "msgtype": "m.text", "body": "a message" });
        let event = world.send_after(after, sender, "m.room.message", None, content);
        vec![event.event_id().to_owned()]
    }

    /// Bela is banned and the ban is lifted. Concurrently Bela changes the display name, and Cara, whose server has
    /// received the ban, sends a message. In the resolved state Bela is banned: the lifting is not in the conflicted
    /// set of the two branches.
    #[tokio::test]
    async fn a_lifted_ban_that_resolution_restores_is_found() {
        for version in VERSIONS {
            let mut world = room(&version);
            let start = world.head_list();
            let renamed = json!({ "membership": "join", "displayname": "B." });
            let renamed = world.send_after(&start, BELA, "m.room.member", Some(BELA), renamed);
            let banned = membership(&mut world, &start, ANNA, BELA, "ban");
            message(&mut world, &banned, CARA);
            let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
            message(
                &mut world,
                &[lifted, vec![renamed.event_id().to_owned()]].concat(),
                ANNA,
            );
            let now = world.current().membership(&UserId::parse(BELA).unwrap());
            assert_eq!(
                now,
                MembershipState::Ban,
                "{version}: state resolution restores the ban"
            );
            assert_eq!(found(world).await, [BELA], "{version}");
        }
    }

    #[tokio::test]
    async fn a_ban_concurrent_with_a_message_is_not_a_state_reset() {
        for version in VERSIONS {
            let mut world = room(&version);
            let start = world.head_list();
            message(&mut world, &start, BELA);
            membership(&mut world, &start, ANNA, BELA, "ban");
            assert!(found(world).await.is_empty(), "{version}");
        }
    }

    #[tokio::test]
    async fn a_server_with_another_joined_user_is_not_reported() {
        for version in VERSIONS {
            let mut world = room(&version);
            world.member("@bert:b.example", "@bert:b.example", "join");
            let start = world.head_list();
            let banned = membership(&mut world, &start, ANNA, BELA, "ban");
            message(&mut world, &banned, CARA);
            let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
            let renamed = json!({ "membership": "join", "displayname": "B." });
            let renamed = world.send_after(&start, BELA, "m.room.member", Some(BELA), renamed);
            message(
                &mut world,
                &[lifted, vec![renamed.event_id().to_owned()]].concat(),
                ANNA,
            );
            assert!(found(world).await.is_empty(), "{version}");
        }
    }
}
