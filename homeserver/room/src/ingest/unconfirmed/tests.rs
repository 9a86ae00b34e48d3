//! Which ends of small graphs are in doubt, and which are not: each branch made by a server that had not heard of the other.

use std::collections::BTreeSet;

use ruma::OwnedEventId;
use serde_json::json;
use weft_dag::{Pdu, testing::World};

use super::{UnconfirmedExtremities, unconfirmed_extremities};
use crate::ingest::whole::{ANNA, BELA, CARA, VERSIONS, Whole, membership, room};

/// Says what is in doubt, with the names that the test has for the events.
async fn unconfirmed(world: World, names: &[(&str, &Pdu)]) -> (BTreeSet<String>, BTreeSet<String>) {
    let UnconfirmedExtremities { held, undelivered } = unconfirmed_extremities(&Whole::new(world)).await.unwrap();
    let named = |ids: BTreeSet<OwnedEventId>| {
        let name = |id: OwnedEventId| names.iter().find(|(_, pdu)| pdu.event_id() == id);
        ids.into_iter()
            .map(|id| name(id).map_or("another", |(name, _)| name).to_owned())
            .collect()
    };
    (named(held), named(undelivered))
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

fn word(world: &mut World, after: &[OwnedEventId], sender: &str) -> std::sync::Arc<Pdu> {
    let content = json!({ "msgtype": "m.text", "body": "a word" });
    world.send_after(after, sender, "m.room.message", None, content)
}

#[tokio::test]
async fn one_extremity_is_always_confirmed() {
    for version in VERSIONS {
        let mut world = room(&version);
        world.message(BELA, "a word");
        world.member(ANNA, BELA, "ban");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn words_side_by_side_are_in_no_doubt() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        word(&mut world, &start, BELA);
        word(&mut world, &start, CARA);
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_word_beside_a_ban_of_its_author_is_held() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let said = word(&mut world, &start, BELA);
        membership(&mut world, &start, ANNA, BELA, "ban");
        assert_eq!(
            unconfirmed(world, &[("word", &said)]).await,
            (only("word"), none()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_word_beside_a_ban_that_was_lifted_is_held() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let said = word(&mut world, &start, BELA);
        let banned = membership(&mut world, &start, ANNA, BELA, "ban");
        let lifted = membership(&mut world, &banned, ANNA, BELA, "leave");
        membership(&mut world, &lifted, BELA, BELA, "join");
        let (held, _) = unconfirmed(world, &[("word", &said)]).await;
        assert_eq!(held, only("word"), "{version}");
    }
}

#[tokio::test]
async fn a_word_that_needs_a_power_which_was_taken_is_held() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let said = world.send_after(&start, BELA, "dev.weft.update", None, json!({ "update": "AAA" }));
        let mut levels = world
            .current()
            .get("m.room.power_levels", "")
            .unwrap()
            .content_as::<serde_json::Value>()
            .unwrap();
        levels["users"][BELA] = json!(0);
        world.send_after(&start, ANNA, "m.room.power_levels", Some(""), levels);
        assert_eq!(
            unconfirmed(world, &[("word", &said)]).await,
            (only("word"), none()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn ones_own_leave_that_stands_is_not_held() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        word(&mut world, &start, CARA);
        membership(&mut world, &start, BELA, BELA, "leave");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_word_beside_the_join_of_another_server_is_untold() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let said = word(&mut world, &start, BELA);
        membership(&mut world, &start, "@dora:d.example", "@dora:d.example", "join");
        assert_eq!(
            unconfirmed(world, &[("word", &said)]).await,
            (none(), only("word")),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_word_beside_the_join_of_a_server_that_is_there_is_told() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        word(&mut world, &start, BELA);
        membership(&mut world, &start, "@carl:c.example", "@carl:c.example", "join");
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}

#[tokio::test]
async fn a_word_beside_a_stay_that_began_anew_is_untold() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        let said = word(&mut world, &start, BELA);
        let left = membership(&mut world, &start, CARA, CARA, "leave");
        membership(&mut world, &left, CARA, CARA, "join");
        assert_eq!(
            unconfirmed(world, &[("word", &said)]).await,
            (none(), only("word")),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_word_beside_a_change_of_name_is_told() {
    for version in VERSIONS {
        let mut world = room(&version);
        let start = world.head_list();
        word(&mut world, &start, BELA);
        let name = json!({ "membership": "join", "displayname": "Cara" });
        world.send_after(&start, CARA, "m.room.member", Some(CARA), name);
        assert_eq!(unconfirmed(world, &[]).await, (none(), none()), "{version}");
    }
}
