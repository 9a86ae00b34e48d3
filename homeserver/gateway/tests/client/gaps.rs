//! W14, W16: a room with missing events, permanently or temporarily, as clients see it.

use std::{sync::Arc, time::Duration};

use ruma::RoomVersionId;
use serde_json::{Value, json};
use weft_dag::{Verified, testing};
use weft_testkit::WorldPeers;

use super::{
    elsewhere::receive,
    peer::{BOB, Peer},
    world::{Person, World, ids},
};

/// The message texts in a list of events.
fn texts(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    events.filter_map(|event| event["content"]["body"].as_str()).collect()
}

async fn server_with_peer() -> (Peer, World, Person) {
    let peer = Peer::new();
    let world = World::with_peer(peer.0.clone()).await;
    let alice = world.person("alice").await;
    (peer, world, alice)
}

/// W14: at a gap that can't be filled the timeline of a sync is limited.
#[tokio::test]
async fn a_sync_is_limited_at_a_gap() {
    let (peer, world, alice) = server_with_peer().await;
    peer.serve_backfill();
    peer.send_text("long ago");
    peer.admit(&world, &alice.user).await;
    let room = peer.id();
    let first = peer.send_text("first");
    receive(&world, first).await;
    let since = world.sync(&alice, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = peer.send_text("second");
    let second = receive(&world, second).await;
    let whole = world.sync(&alice, Some(&since), "").await;
    let timeline = &whole["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(
        (texts(&timeline["events"]), &timeline["limited"]),
        (vec!["second"], &false.into())
    );

    let lost = peer.send_text("lost");
    peer.withhold(lost.pdu().event_id());
    let (behind, last) = (peer.send_text("behind the gap"), peer.send_text("last"));
    let behind = receive(&world, behind).await;
    receive(&world, last).await;
    let next = world.sync(&alice, Some(&since), "").await;
    let timeline = &next["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(texts(&timeline["events"]), ["behind the gap", "last"]);
    assert_eq!(timeline["limited"], true, "{timeline}");
    assert!(!ids(&timeline["events"]).contains(&second.to_string()));
    // Events before the gap are found by paging back from there.
    let from = timeline["prev_batch"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100&from={from}");
    let page = world.get(&path, &alice).await;
    assert!(
        texts(&page["chunk"]).starts_with(&["second", "first"]),
        "{timeline} {page}"
    );
    // After the gap the timeline is complete.
    let since = whole["next_batch"].as_str().unwrap();
    let later = peer.send_text("later");
    receive(&world, later).await;
    let next = world.sync(&alice, Some(next["next_batch"].as_str().unwrap()), "").await;
    let timeline = &next["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(
        (texts(&timeline["events"]), &timeline["limited"]),
        (vec!["later"], &false.into())
    );
    let next = world.sync(&alice, Some(since), "").await;
    let timeline = &next["rooms"]["join"][room.as_str()]["timeline"];
    assert_eq!(ids(&timeline["events"])[0], behind.to_string());
    assert_eq!(timeline["limited"], true);
}

/// W16: the first page backward waits for a backfill in progress.
#[tokio::test]
async fn the_first_page_of_messages_waits_for_a_backfill() {
    // A page waits for some seconds only. On a machine that stops for longer the page is short and has a next token:
    // the test then tries again.
    for _ in 0..5 {
        let (peer, world, alice) = server_with_peer().await;
        for number in 0..5 {
            peer.send_text(&format!("old {number}"));
        }
        peer.admit(&world, &alice.user).await;
        peer.until_requested().await;
        let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", peer.id());
        let request = world.get(&path, &alice);
        let others = async {
            // Requests that take the same time as the page does, so that the page waits by now.
            for _ in 0..10 {
                world.get("/_matrix/client/v3/joined_rooms", &alice).await;
            }
            peer.serve_backfill();
        };
        let (page, ()) = tokio::join!(request, others);
        if texts(&page["chunk"]).is_empty() {
            assert!(page["end"].is_string(), "{page}");
            continue;
        }
        assert_eq!(texts(&page["chunk"]), ["old 4", "old 3", "old 2", "old 1", "old 0"]);
        assert!(page["end"].is_null(), "{page}");
        return;
    }
    panic!("no page waited");
}

/// W16: if the backfill takes too long, the first page has the events from after the join, and the next one the
/// history.
#[tokio::test]
async fn a_page_of_messages_can_be_continued_after_a_slow_backfill() {
    let (peer, world, alice) = server_with_peer().await;
    peer.send_text("old");
    peer.admit(&world, &alice.user).await;
    let new = peer.send_text("new");
    receive(&world, new).await;
    peer.until_requested().await;
    // The wait of a page ends as soon as no other task can run.
    tokio::time::pause();
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100", peer.id());
    let page = world.get(&path, &alice).await;
    assert_eq!(texts(&page["chunk"]), ["new"]);
    let end = page["end"].as_str().unwrap().to_owned();
    tokio::time::resume();
    peer.serve_backfill();
    for _ in 0..1_000 {
        let page = world.get(&format!("{path}&from={end}"), &alice).await;
        if texts(&page["chunk"]) == ["old"] {
            return;
        }
        assert!(page["end"].is_string(), "{page}");
    }
    panic!("the history is missing");
}

/// A document of another server may hide what was before a join. The content at an earlier event contains text that was deleted
/// since, so it is not shown either. This server has no render workers: a request that is allowed is answered with 503.
#[tokio::test]
async fn the_content_at_an_event_is_for_users_who_may_see_the_event() {
    let create = json!({ "type": "dev.weft.document" });
    let mut room = testing::World::with_create(&RoomVersionId::V11, BOB, create);
    let levels = json!({ "users": { BOB: 100 }, "events_default": 0 });
    room.state(BOB, "m.room.power_levels", "", levels);
    room.state(BOB, "m.room.join_rules", "", json!({ "join_rule": "public" }));
    room.state(
        BOB,
        "m.room.history_visibility",
        "",
        json!({ "history_visibility": "joined" }),
    );
    room.state(BOB, "dev.weft.document", "", json!({ "kind": "text" }));
    let peer = Peer(Arc::new(WorldPeers::new(room)));
    let world = World::with_peer(peer.0.clone()).await;
    let alice = world.person("alice").await;
    let before = peer.send_text("before the join").pdu().event_id().to_owned();
    peer.admit(&world, &alice.user).await;
    let after = receive(&world, peer.send_text("after the join")).await;
    let (room, reader) = (peer.id(), world.server.rooms.reader());
    while reader.stored_event(&room, &before).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (event, status) in [(before.as_str(), 404), (after.as_str(), 503)] {
        let path = format!("/_weft/client/v1/documents/{room}?format=text&at={event}");
        let (got, answer) = world.ask("GET", &path, Some(&alice.token), Value::Null).await;
        assert_eq!(got, status, "at {event}: {answer}");
    }
}

/// Bob writes a text under a client id of its own.
fn write(peer: &Peer, client: u64, text: &str) -> Verified {
    let mut room = peer.0.world();
    let content = weft_testkit::update_content(client, text);
    let id = room.send(BOB, "dev.weft.update", None, content).event_id().to_owned();
    room.verified(&id)
}

/// The same for versions of this server, blame, differences, restoring and the list.
#[tokio::test]
async fn the_history_before_a_join_is_for_users_who_may_see_it() {
    let create = json!({ "type": "dev.weft.document" });
    let mut room = testing::World::with_create(&RoomVersionId::V11, BOB, create);
    let levels = json!({ "users": { BOB: 100 }, "events_default": 0 });
    room.state(BOB, "m.room.power_levels", "", levels);
    room.state(BOB, "m.room.join_rules", "", json!({ "join_rule": "public" }));
    let visibility = json!({ "history_visibility": "joined" });
    room.state(BOB, "m.room.history_visibility", "", visibility);
    room.state(BOB, "dev.weft.document", "", json!({ "kind": "text" }));
    let peer = Peer(Arc::new(WorldPeers::new(room)));
    let world = World::with_peer(peer.0.clone()).await;
    let (alice, carol) = (world.person("alice").await, world.person("carol").await);
    peer.admit(&world, &alice.user).await;
    let (room, reader) = (peer.id(), world.server.rooms.reader());
    let hidden = receive(&world, write(&peer, 5, "hidden")).await;
    let version = reader.document_version(&room).await.unwrap();
    let path = format!("/_matrix/client/v3/join/{room}");
    let (joined, answer) = world.ask("POST", &path, Some(&carol.token), json!({})).await;
    assert_eq!(joined, 200, "{answer}");
    receive(&world, write(&peer, 6, "shown")).await;

    let documents = format!("/_weft/client/v1/documents/{room}");
    for point in [version.to_string(), hidden.to_string()] {
        for query in ["?format=text&at=", "/blame?at=", "/diff?from="] {
            let path = format!("{documents}{query}{point}");
            let (got, answer) = world.ask("GET", &path, Some(&carol.token), Value::Null).await;
            assert_eq!(got, 404, "{path}: {answer}");
            let (got, answer) = world.ask("GET", &path, Some(&alice.token), Value::Null).await;
            assert_eq!(got, 503, "{path}: {answer}");
        }
        let body = json!({ "at": point });
        let path = format!("{documents}/restore");
        let (got, answer) = world.ask("POST", &path, Some(&carol.token), body).await;
        assert_eq!(got, 404, "{answer}");
    }
    let body = json!({ "user": BOB, "from": version });
    let (got, answer) = world
        .ask("POST", &format!("{documents}/rollback"), Some(&carol.token), body)
        .await;
    assert_eq!(got, 404, "{answer}");
    let path = format!("{documents}/history?detail=edits");
    for (person, sees) in [(&alice, true), (&carol, false)] {
        let (got, answer) = world.ask("GET", &path, Some(&person.token), Value::Null).await;
        assert_eq!(got, 200, "{answer}");
        assert_eq!(answer.to_string().contains(hidden.as_str()), sees, "{answer}");
    }
}
