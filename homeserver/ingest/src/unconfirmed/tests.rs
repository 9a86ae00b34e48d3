//! Which forward extremities of small graphs are unconfirmed. Each branch is made by a server without the other branch.

use std::collections::BTreeSet;

use ruma::OwnedEventId;
use serde_json::json;
use weft_dag::{Pdu, testing::World};

use super::{UnconfirmedExtremities, unconfirmed_extremities};
use crate::whole::{ANNA, BELA, CARA, VERSIONS, Whole, membership, room};

/// The unconfirmed extremities, with the test's names for the events.
async fn unconfirmed(world: World, names: &[(&str, &Pdu)]) -> (BTreeSet<String>, BTreeSet<String>) {
    let UnconfirmedExtremities {
        soft_failed,
        undelivered,
    } = unconfirmed_extremities(&Whole::new(world)).await.unwrap();
    let named = |ids: BTreeSet<OwnedEventId>| {
        let name = |id: OwnedEventId| names.iter().find(|(_, pdu)| pdu.event_id() == id);
        ids.into_iter()
            .map(|id| name(id).map_or("another", |(name, _)| name).to_owned())
            .collect()
    };
    (named(soft_failed), named(undelivered))
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

fn message(world: &mut World, after: &[OwnedEventId], sender: &str) -> std::sync::Arc<Pdu> {
    let content = json!({ "msgtype": "m.text", "body": "a message" });
    world.send_after(after, sender, "m.room.message", None, content)
}

#[tokio::test]
async fn one_extremity_is_always_confirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        world.message(BELA, "a message");
        world.member(ANNA, BELA, "ban");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn concurrent_messages_are_confirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        message(&mut world, &start, BELA);
        message(&mut world, &start, CARA);
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_message_concurrent_with_a_ban_of_its_sender_is_unconfirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = message(&mut world, &start, BELA);
        membership(&mut world, &start, ANNA, BELA, "ban");
        assert_eq!(
            unconfirmed(world, &[("message", &sent)]).await,
            (only("message"), none()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_message_concurrent_with_a_lifted_ban_is_unconfirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = message(&mut world, &start, BELA);
        let banned = membership(&mut world, &start, ANNA, BELA, "ban");
        let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
        membership(&mut world, &lifted, BELA, BELA, "join");
        let (soft_failed, _) = unconfirmed(world, &[("message", &sent)]).await;
        assert_eq!(soft_failed, only("message"), "{version}");
    }
}

#[tokio::test]
async fn an_update_concurrent_with_a_demotion_of_its_sender_is_unconfirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = world.send_after(&start, BELA, "dev.weft.update", None, json!({ "update": "AAA" }));
        let mut levels = world
            .current()
            .get("m.room.power_levels", "")
            .unwrap()
            .content_as::<serde_json::Value>()
            .unwrap();
        levels["users"][BELA] = json!(0);
        world.send_after(&start, ANNA, "m.room.power_levels", Some(""), levels);
        assert_eq!(
            unconfirmed(world, &[("message", &sent)]).await,
            (only("message"), none()),
            "{version}"
        );
    }
}

fn update(world: &mut World, after: &[OwnedEventId]) -> std::sync::Arc<Pdu> {
    world.send_after(after, BELA, "dev.weft.update", None, json!({ "update": "AAA" }))
}

#[tokio::test]
async fn an_update_concurrent_with_a_lock_is_unconfirmed_also_if_the_lock_was_lifted() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = update(&mut world, &start);
        let lock = world.send_after(&start, ANNA, "dev.weft.lock", Some(""), json!({}));
        let locked = unconfirmed(world.clone(), &[("update", &sent)]).await;
        assert_eq!(locked, (only("update"), none()), "{version}");
        let (after, key) = ([lock.event_id().to_owned()], lock.event_id().to_string());
        world.send_after(&after, ANNA, "dev.weft.unlock", Some(&key), json!({}));
        let lifted = unconfirmed(world, &[("update", &sent)]).await;
        assert_eq!(lifted, (only("update"), none()), "{version}");
    }
}

/// Otherwise an old branch would make servers follow every later update.
#[tokio::test]
async fn an_update_after_a_lifted_lock_is_confirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let mut locked = Vec::new();
        for _ in 0..2 {
            let lock = world.state(ANNA, "dev.weft.lock", "", json!({}));
            locked.push(world.head_list());
            world.state(ANNA, "dev.weft.unlock", lock.event_id().as_str(), json!({}));
        }
        let end = world.head_list();
        let sent = update(&mut world, &end);
        for branch in locked {
            message(&mut world, &branch, CARA);
        }
        assert_eq!(
            unconfirmed(world, &[("update", &sent)]).await,
            (none(), none()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_users_own_current_leave_is_confirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        message(&mut world, &start, CARA);
        membership(&mut world, &start, BELA, BELA, "leave");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_message_concurrent_with_the_join_of_a_new_server_is_undelivered() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = message(&mut world, &start, BELA);
        membership(&mut world, &start, "@dora:d.example", "@dora:d.example", "join");
        assert_eq!(
            unconfirmed(world, &[("message", &sent)]).await,
            (none(), only("message")),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_message_concurrent_with_a_second_join_of_a_server_is_delivered() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        message(&mut world, &start, BELA);
        membership(&mut world, &start, "@carl:c.example", "@carl:c.example", "join");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_message_concurrent_with_a_rejoin_is_undelivered() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let sent = message(&mut world, &start, BELA);
        let left = membership(&mut world, &start, CARA, CARA, "leave");
        membership(&mut world, &left, CARA, CARA, "join");
        assert_eq!(
            unconfirmed(world, &[("message", &sent)]).await,
            (none(), only("message")),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_message_concurrent_with_a_change_of_name_is_delivered() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        message(&mut world, &start, BELA);
        let name = json!({ "membership": "join", "displayname": "Cara" });
        world.send_after(&start, CARA, "m.room.member", Some(CARA), name);
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}
