//! Read receipts: threads, and markers that only move forward.

use serde_json::{Value, json};

use super::world::World;

/// All receipts in a sync: event, type, user and thread.
fn receipts(synced: &Value, room: &str) -> Vec<(String, String, String, Option<String>)> {
    let mut found = Vec::new();
    let events = synced["rooms"]["join"][room]["ephemeral"]["events"].as_array();
    let events = events
        .into_iter()
        .flatten()
        .filter(|event| event["type"] == "m.receipt");
    for (event, kinds) in events.flat_map(|event| event["content"].as_object().unwrap()) {
        for (kind, users) in kinds.as_object().unwrap() {
            for (user, data) in users.as_object().unwrap() {
                let thread = data["thread_id"].as_str().map(str::to_owned);
                found.push((event.clone(), kind.clone(), user.clone(), thread));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn threaded_and_unthreaded_receipts_for_one_event_are_both_sent() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let root = world.send_text(&room, &alice, "root").await;
    let base = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{root}");
    let since = world.sync(&alice, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    for thread in [None, Some("main"), Some(root.as_str())] {
        let body = thread.map_or(json!({}), |thread| json!({"thread_id": thread}));
        world.ok("POST", &base, &bob, body).await;
    }
    let synced = world.sync(&alice, Some(&since), "").await;
    let receipt = |thread: Option<&str>| {
        let thread = thread.map(str::to_owned);
        (root.clone(), "m.read".to_owned(), bob.user.to_string(), thread)
    };
    let mut expected = vec![receipt(None), receipt(Some("main")), receipt(Some(&root))];
    expected.sort();
    assert_eq!(receipts(&synced, &room), expected, "{synced}");
}

#[tokio::test]
async fn an_older_receipt_does_not_move_the_marker_back() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let mut message_id = Vec::new();
    for n in 0..3 {
        message_id.push(world.send_text(&room, &alice, &n.to_string()).await);
    }
    let read = async |kind: &str, event: &str, body: Value| {
        let path = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event}");
        world.ok("POST", &path, &bob, body).await;
    };
    for kind in ["m.read", "m.read.private"] {
        for body in [json!({}), json!({"thread_id": "main"})] {
            read(kind, &message_id[1], body.clone()).await;
            let since = world.sync(&bob, None, "").await["next_batch"]
                .as_str()
                .unwrap()
                .to_owned();
            read(kind, &message_id[0], body.clone()).await;
            let synced = world.sync(&bob, Some(&since), "").await;
            assert_eq!(receipts(&synced, &room), [], "{kind} {body}");
            read(kind, &message_id[2], body.clone()).await;
            let synced = world.sync(&bob, Some(&since), "").await;
            let synced: Vec<String> = receipts(&synced, &room).into_iter().map(|(event, ..)| event).collect();
            assert_eq!(synced, [message_id[2].clone()], "{kind} {body}");
        }
    }
}

#[tokio::test]
async fn a_receipt_for_an_unknown_thread_is_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (room, other) = (world.room(&alice, json!({})).await, world.room(&alice, json!({})).await);
    let message_id = world.send_text(&room, &alice, "here").await;
    let elsewhere = world.send_text(&other, &alice, "elsewhere").await;
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{message_id}");
    for thread in ["", "x", "MAIN", "$unknown", &elsewhere, &"a".repeat(1_000_000)] {
        let (status, code) = world.refused("POST", &path, &alice, json!({"thread_id": thread})).await;
        assert!(status == 400, "{status} {code} {}", thread.len());
    }
    for thread in [json!(7), json!({})] {
        assert_eq!(
            world
                .refused("POST", &path, &alice, json!({"thread_id": thread}))
                .await
                .0,
            400
        );
    }
    let marker = format!("/_matrix/client/v3/rooms/{room}/receipt/m.fully_read/{message_id}");
    assert_eq!(
        world
            .refused("POST", &marker, &alice, json!({"thread_id": "main"}))
            .await
            .0,
        400
    );
    world.ok("POST", &marker, &alice, json!({})).await;
    world.ok("POST", &path, &alice, json!({"thread_id": message_id})).await;
}
