//! Users whom the resolution of branches has put out of the room, though a branch has them in it that had heard of what
//! put them out: a ban that was lifted, say, on a branch whose other end has not heard of the lifting, or by somebody who
//! may not do so any more. Their servers may know that branch alone, and nobody sends to a server that isn't in the room.
//! (Matrix calls such a thing a state reset.)
//!
//! Must not decide what is done about it: that is [`crate::repeat`].

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, OwnedUserId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, StateView};

use super::graph::Graph;
use crate::Unavailable;

/// Ends of the graph that are looked at.
const MAX_EXTREMITIES: usize = 10;
/// Events that are looked at behind one end, in search of what put a user out.
const MAX_LOOKED_AT: usize = 500;

/// Of users who may have been put out so, each with joins that don't stand, the memberships that do.
pub(crate) async fn resets(
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

/// Whether a user is in the room at an end of the graph that follows the membership which stands, or after one of these
/// joins, which may be held back.
async fn is_reset(
    graph: &impl Graph,
    user: &UserId,
    joins: &[OwnedEventId],
    stands: &Pdu,
) -> Result<bool, Unavailable> {
    let extremities = graph.extremities().into_iter().take(MAX_EXTREMITIES);
    for end in extremities.chain(joins.iter().cloned()) {
        let state = graph.state_after(&end).await?;
        let member = state.and_then(|state| state.get("m.room.member", user.as_str()).cloned());
        let Some(member) = member.filter(|member| *member != *stands.event_id()) else {
            continue;
        };
        let Some(member) = graph.event(&member).await? else {
            continue;
        };
        let there = StateView::from_events(graph.version().clone(), [member.pdu]);
        if there.membership(user) == MembershipState::Join && follows(graph, &end, stands.event_id()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an event follows another, as far as that is looked for.
async fn follows(graph: &impl Graph, end: &EventId, before: &EventId) -> Result<bool, Unavailable> {
    let (mut seen, mut work) = (HashSet::new(), vec![end.to_owned()]);
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
    use crate::ingest::whole::{ANNA, BELA, CARA, VERSIONS, Whole, membership, room};

    async fn found(world: World) -> Vec<String> {
        let users = [BELA, CARA].map(|user| (UserId::parse(user).unwrap(), Vec::new()));
        let found = resets(&Whole::new(world), &users.into_iter().collect()).await.unwrap();
        let keys = found.iter().map(|pdu| pdu.state_key().unwrap().to_owned());
        keys.collect()
    }

    fn word(world: &mut World, after: &[OwnedEventId], sender: &str) -> Vec<OwnedEventId> {
        let content = json!({ "msgtype": "m.text", "body": "a word" });
        let event = world.send_after(after, sender, "m.room.message", None, content);
        vec![event.event_id().to_owned()]
    }

    /// Bela is banned and the ban lifted, while he changes his name and Cara, who had heard of the ban, says a word. In the
    /// end the ban is back: the lifting is not among what the two branches are resolved from.
    #[tokio::test]
    async fn a_ban_that_was_lifted_and_came_back_is_found() {
        for version in VERSIONS {
            let mut world = room(&version);
            let start = world.head_list();
            let renamed = json!({ "membership": "join", "displayname": "B." });
            let renamed = world.send_after(&start, BELA, "m.room.member", Some(BELA), renamed);
            let banned = membership(&mut world, &start, ANNA, BELA, "ban");
            word(&mut world, &banned, CARA);
            let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
            word(
                &mut world,
                &[lifted, vec![renamed.event_id().to_owned()]].concat(),
                ANNA,
            );
            let now = world.current().membership(&UserId::parse(BELA).unwrap());
            assert_eq!(now, MembershipState::Ban, "{version}: the case that is looked for");
            assert_eq!(found(world).await, [BELA], "{version}");
        }
    }

    #[tokio::test]
    async fn a_ban_that_crossed_a_word_is_none() {
        for version in VERSIONS {
            let mut world = room(&version);
            let start = world.head_list();
            word(&mut world, &start, BELA);
            membership(&mut world, &start, ANNA, BELA, "ban");
            assert!(found(world).await.is_empty(), "{version}");
        }
    }

    #[tokio::test]
    async fn who_has_another_on_his_server_is_told_without_us() {
        for version in VERSIONS {
            let mut world = room(&version);
            world.member("@bert:b.example", "@bert:b.example", "join");
            let start = world.head_list();
            let banned = membership(&mut world, &start, ANNA, BELA, "ban");
            word(&mut world, &banned, CARA);
            let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
            let renamed = json!({ "membership": "join", "displayname": "B." });
            let renamed = world.send_after(&start, BELA, "m.room.member", Some(BELA), renamed);
            word(
                &mut world,
                &[lifted, vec![renamed.event_id().to_owned()]].concat(),
                ANNA,
            );
            assert!(found(world).await.is_empty(), "{version}");
        }
    }
}
