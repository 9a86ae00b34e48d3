//! Access to a room for servers in it, servers outside, and servers that its ACL denies (T12, T55, T60, T61).

use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};
use weft_room_api::CreateRoom;
use weft_wire::document::DocumentKind;

use crate::world::{World, beta, gamma, ids, path};

/// Every request about a room's history.
fn requests(room: &RoomId, event: &OwnedEventId) -> Vec<(&'static str, String, Value)> {
    let (room, event_path) = (path(room.as_str()), path(event.as_str()));
    let v1 = "/_matrix/federation/v1";
    vec![
        ("GET", format!("{v1}/event/{event_path}"), Value::Null),
        ("GET", format!("{v1}/state/{room}?event_id={event_path}"), Value::Null),
        (
            "GET",
            format!("{v1}/state_ids/{room}?event_id={event_path}"),
            Value::Null,
        ),
        ("GET", format!("{v1}/event_auth/{room}/{event_path}"), Value::Null),
        (
            "GET",
            format!("{v1}/backfill/{room}?v={event_path}&limit=10"),
            Value::Null,
        ),
        (
            "POST",
            format!("{v1}/get_missing_events/{room}"),
            json!({ "earliest_events": [], "latest_events": [event] }),
        ),
    ]
}

#[tokio::test]
async fn servers_in_a_room_can_read_it() {
    let world = World::new().await;
    let room = world.public_room().await;
    let event = world.send_text(&room, "hello").await;
    world.join("@bob:beta.test", &room).await;
    for (method, path, body) in requests(&room, &event) {
        let (status, answer) = world.ask(beta(), method, &path, body.clone()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let (status, answer) = world.ask(gamma(), method, &path, body.clone()).await;
        assert!(status == 403 || status == 404, "{path}: {answer}");
        assert!(!answer.to_string().contains("hello"));
        // For servers outside a room that doesn't exist looks the same.
        let elsewhere = path.replace(&crate::world::path(room.as_str()), &crate::world::path("!none:x.test"));
        if elsewhere != path {
            assert_eq!(
                world.ask(gamma(), method, &elsewhere, body).await,
                (status, answer),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_left_cannot_read_later_events() {
    let world = World::new().await;
    let room = world.public_room().await;
    world.join("@bob:beta.test", &room).await;
    let bob = ruma::UserId::parse("@bob:beta.test").unwrap();
    let (leave, event) = world.membership(&bob, &room, "leave").await;
    let send = format!(
        "/_matrix/federation/v2/send_leave/{}/{}",
        path(room.as_str()),
        path(leave.as_str())
    );
    world.ask(beta(), "PUT", &send, event).await;
    let after = world.send_text(&room, "among ourselves").await;
    for (method, path, body) in requests(&room, &after) {
        let (status, answer) = world.ask(beta(), method, &path, body).await;
        assert!(status == 403 || status == 404, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_kicked_server_can_read_up_to_the_kick() {
    let world = World::new().await;
    let room = world.public_room().await;
    world.join("@bob:beta.test", &room).await;
    world.send_text(&room, "while bob was in").await;
    let kick = remove_bob(&world, &room, "leave").await;
    let after = world.send_text(&room, "among ourselves").await;
    for (method, path, body) in requests(&room, &kick) {
        let (status, answer) = world.ask(beta(), method, &path, body.clone()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(!answer.to_string().contains("among ourselves"), "{path}");
        if path.contains("backfill") || path.contains("get_missing_events") {
            assert!(answer.to_string().contains("while bob was in"), "{path}: {answer}");
        }
        let (status, answer) = world.ask(gamma(), method, &path, body).await;
        assert!(status == 403 || status == 404, "{path}: {answer}");
    }
    for (method, path, body) in requests(&room, &after) {
        let (status, answer) = world.ask(beta(), method, &path, body).await;
        assert!(status == 403 || status == 404, "{path}: {answer}");
    }
}

/// A join through a server that had not received the ban yet: the joining server considers itself in the room.
#[tokio::test]
async fn a_server_whose_join_crossed_a_ban_can_read_up_to_the_ban() {
    let world = World::new().await;
    let room = world.public_room().await;
    let (first_join, _) = world.join("@bob:beta.test", &room).await;
    remove_bob(&world, &room, "leave").await;
    let bob = ruma::UserId::parse("@bob:beta.test").unwrap();
    let (join, event) = world.membership(&bob, &room, "join").await;
    world.send_text(&room, "between the two").await;
    let ban = remove_bob(&world, &room, "ban").await;
    let missing = format!("/_matrix/federation/v1/get_missing_events/{}", path(room.as_str()));
    let request = |end: &OwnedEventId| json!({ "earliest_events": [end], "latest_events": [ban] });
    // A server that was joined after none of the forward extremities that it sends was not in the room by a join that crossed the ban.
    for end in [&join, &first_join, &ban] {
        let (status, answer) = world.ask(beta(), "POST", &missing, request(end)).await;
        assert_eq!(status, 403, "{answer}");
    }
    let transaction = json!({ "origin": "beta.test", "origin_server_ts": 1, "pdus": [event] });
    let send = format!("/_matrix/federation/v1/send/{}", rand_id());
    assert_eq!(world.ask(beta(), "PUT", &send, transaction).await.0, 200);
    world.until_in_place(&room, &join).await;
    let (status, answer) = world.ask(beta(), "POST", &missing, request(&join)).await;
    assert_eq!(status, 200, "{answer}");
    // It was banned when the message was sent: the event has no content, so that the graph is complete.
    let last = answer["events"].as_array().unwrap().last().unwrap();
    assert_eq!(last["type"], "m.room.message", "{answer}");
    assert_eq!(last["content"], json!({}), "{answer}");
    for end in [&first_join, &ban] {
        let (status, answer) = world.ask(beta(), "POST", &missing, request(end)).await;
        assert_eq!(status, 403, "{answer}");
    }
    let (status, answer) = world.ask(gamma(), "POST", &missing, request(&join)).await;
    assert_eq!(status, 403, "{answer}");
}

async fn remove_bob(world: &World, room: &RoomId, membership: &str) -> OwnedEventId {
    let content = json!({ "membership": membership });
    world.send(room, "m.room.member", Some("@bob:beta.test"), content).await
}

/// T55: the endpoints that the specification lists, and this project's own.
#[tokio::test]
async fn the_acl_is_checked_on_every_endpoint() {
    let world = World::new().await;
    let room = world.public_room().await;
    let event = world.send_text(&room, "hello").await;
    world.join("@bob:beta.test", &room).await;
    let bob = ruma::UserId::parse("@bob:beta.test").unwrap();
    let (leave, leave_event) = world.membership(&bob, &room, "leave").await;
    for list in [
        json!({ "allow": ["*"], "deny": ["beta.test"] }),
        json!({ "allow": "malformed" }),
    ] {
        world.send(&room, "m.room.server_acl", Some(""), list).await;
        let (room_path, user, id) = (path(room.as_str()), path("@bob:beta.test"), path(leave.as_str()));
        let mut all = requests(&room, &event);
        for what in ["join", "leave", "knock"] {
            all.push((
                "GET",
                format!("/_matrix/federation/v1/make_{what}/{room_path}/{user}?ver=12"),
                Value::Null,
            ));
        }
        for what in ["v2/send_join", "v2/send_leave", "v1/send_knock"] {
            all.push((
                "PUT",
                format!("/_matrix/federation/{what}/{room_path}/{id}"),
                leave_event.clone(),
            ));
        }
        let invite = json!({ "room_version": "12", "event": leave_event, "invite_room_state": [] });
        all.push(("PUT", format!("/_matrix/federation/v2/invite/{room_path}/{id}"), invite));
        all.push(("GET", format!("/_weft/federation/v1/document/{room_path}"), Value::Null));
        for (method, path, body) in all {
            let (status, answer) = world.ask(beta(), method, &path, body).await;
            assert_eq!(
                (status, answer["errcode"].as_str()),
                (403, Some("M_FORBIDDEN")),
                "{path}: {answer}"
            );
        }
        let transaction = json!({ "origin": "beta.test", "origin_server_ts": 1, "pdus": [leave_event] });
        let send = format!("/_matrix/federation/v1/send/{}", rand_id());
        let (status, answer) = world.ask(beta(), "PUT", &send, transaction).await;
        assert_eq!(status, 200);
        assert!(answer["pdus"][leave.as_str()]["error"].is_string(), "{answer}");
    }
}

fn rand_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test]
async fn graph_walks_are_bounded() {
    let world = World::new().await;
    let room = world.public_room().await;
    for number in 0..130 {
        world.send_text(&room, &number.to_string()).await;
    }
    let last = world.send_text(&room, "last").await;
    world.join("@bob:beta.test", &room).await;
    let (room_path, last_path) = (path(room.as_str()), path(last.as_str()));
    let backfill = |limit: &str| format!("/_matrix/federation/v1/backfill/{room_path}?v={last_path}&limit={limit}");
    let (_, answer) = world.get(beta(), &backfill("1000000000")).await;
    assert_eq!(answer["pdus"].as_array().unwrap().len(), 100);
    assert_eq!(world.get(beta(), &backfill("-1")).await.0, 400);
    let missing = format!("/_matrix/federation/v1/get_missing_events/{room_path}");
    let ask =
        |limit: u64, latest: Vec<String>| json!({ "limit": limit, "earliest_events": [], "latest_events": latest });
    let (_, answer) = world
        .ask(beta(), "POST", &missing, ask(1_000_000_000, vec![last.to_string()]))
        .await;
    assert_eq!(answer["events"].as_array().unwrap().len(), 100);
    let many: Vec<String> = (0..101).map(|number| format!("${number:0>43}")).collect();
    assert_eq!(world.ask(beta(), "POST", &missing, ask(10, many.clone())).await.0, 400);
    let query: String = many.iter().map(|id| format!("v={}&", path(id))).collect();
    let many = format!("/_matrix/federation/v1/backfill/{room_path}?{query}limit=5");
    assert_eq!(world.get(beta(), &many).await.0, 400);
    let (status, answer) = world
        .ask(beta(), "POST", &missing, ask(10, vec!["$unknown".to_owned()]))
        .await;
    assert_eq!((status, answer), (200, json!({ "events": [] })));
}

/// T61: history from before a server joined, if not visible to it, is sent without content; the graph stays complete.
#[tokio::test]
async fn history_visibility_applies_to_other_servers() {
    for (visibility, seen) in [
        ("joined", false),
        ("invited", false),
        ("shared", true),
        ("world_readable", true),
    ] {
        let world = World::new().await;
        let room = world.public_room().await;
        world
            .send(
                &room,
                "m.room.history_visibility",
                Some(""),
                json!({ "history_visibility": visibility }),
            )
            .await;
        let before = world.send_text(&room, "before they came").await;
        world.join("@bob:beta.test", &room).await;
        let after = world.send_text(&room, "after they came").await;

        let (status, answer) = world
            .get(
                beta(),
                &format!("/_matrix/federation/v1/event/{}", path(before.as_str())),
            )
            .await;
        assert_eq!(status, if seen { 200 } else { 404 }, "{visibility} {answer}");
        let (status, _) = world
            .get(
                beta(),
                &format!("/_matrix/federation/v1/event/{}", path(after.as_str())),
            )
            .await;
        assert_eq!(status, 200);

        let room_path = path(room.as_str());
        let backfill = format!(
            "/_matrix/federation/v1/backfill/{room_path}?v={}&limit=50",
            path(after.as_str())
        );
        let (_, answer) = world.get(beta(), &backfill).await;
        let version = world.rooms.reader().version(&room).await.unwrap().unwrap();
        let found = ids(&answer["pdus"], &version);
        assert!(
            found.contains(&before) && found.contains(&after),
            "{visibility}: redacted events keep their ids"
        );
        let text = answer.to_string();
        assert!(text.contains("after they came"));
        assert_eq!(text.contains("before they came"), seen, "{visibility}");
    }
}

#[tokio::test]
async fn a_document_is_served_to_servers_in_the_room() {
    let world = World::new().await;
    let request = CreateRoom {
        document: Some(DocumentKind::Text),
        ..CreateRoom::default()
    };
    let room = world.room(request).await;
    let document = format!("/_weft/federation/v1/document/{}", path(room.as_str()));
    let (status, outside) = world.get(beta(), &document).await;
    assert_eq!(status, 403);
    let (status, nowhere) = world
        .get(beta(), "/_weft/federation/v1/document/%21none%3Ax.test")
        .await;
    assert_eq!((status, nowhere), (403, outside));

    world
        .send(&room, "m.room.join_rules", Some(""), json!({ "join_rule": "public" }))
        .await;
    let event = world.send_text(&room, "hello").await;
    world.join("@bob:beta.test", &room).await;
    let (status, answer) = world.get(beta(), &document).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["room_id"], room.as_str());
    assert_eq!(answer["at"].as_array().unwrap().len(), 1);
    // An empty Yjs update: no structs, no deletions.
    assert_eq!(answer["update"], "AAA");
    let at = |query: &str| format!("{document}?{query}");
    let (status, answer) = world.get(beta(), &at(&format!("at={}", path(event.as_str())))).await;
    assert_eq!((status, &answer["at"]), (200, &json!([event])));
    assert_eq!(
        world.get(beta(), &at(&format!("at=%24{}", "a".repeat(43)))).await.0,
        404
    );
    assert_eq!(world.get(beta(), &at("at=x")).await.0, 400);
    let many: String = (0..101).map(|number| format!("at=%24{number:0>43}&")).collect();
    assert_eq!(world.get(beta(), &at(&many)).await.0, 400);

    let chat = world.public_room().await;
    world.join("@bob:beta.test", &chat).await;
    let (status, _) = world
        .get(
            beta(),
            &format!("/_weft/federation/v1/document/{}", path(chat.as_str())),
        )
        .await;
    assert_eq!(status, 404);
}

/// W16: a rejected event has no state before it that could be served.
#[tokio::test]
async fn the_state_at_a_rejected_event_is_not_served() {
    let world = World::new().await;
    let room = world.public_room().await;
    let (join, answer) = world.join("@bob:beta.test", &room).await;
    let bob = ruma::UserId::parse("@bob:beta.test").unwrap();
    let version = world.rooms.reader().version(&room).await.unwrap().unwrap();
    let state = answer["state"].as_array().unwrap();
    let levels = state
        .iter()
        .find(|event| event["type"] == "m.room.power_levels")
        .unwrap();
    let levels = ids(&json!([levels]), &version).into_iter().next().unwrap();
    let content = json!({ "users": { "@bob:beta.test": 100 } });
    let place = (vec![join.clone()], vec![levels, join.clone()], 50);
    let (rejected, event) = world
        .event(&room, &bob, "m.room.power_levels", Some(""), content, place)
        .await;
    let transaction = json!({ "origin": "beta.test", "origin_server_ts": 1, "pdus": [event] });
    let send = format!("/_matrix/federation/v1/send/{}", rand_id());
    assert_eq!(world.ask(beta(), "PUT", &send, transaction).await.0, 200);
    world.until_committed(&rejected).await;
    let stored = world
        .rooms
        .reader()
        .stored_event(&room, &rejected)
        .await
        .unwrap()
        .unwrap();
    assert!(stored.pdu.rejected());
    for (event, expected) in [(&rejected, 404), (&join, 200)] {
        for what in ["state", "state_ids"] {
            let query = format!("event_id={}", path(event.as_str()));
            let question = format!("/_matrix/federation/v1/{what}/{}?{query}", path(room.as_str()));
            let (status, answer) = world.get(beta(), &question).await;
            assert_eq!(status, expected, "{what} {event}: {answer}");
        }
    }
}
