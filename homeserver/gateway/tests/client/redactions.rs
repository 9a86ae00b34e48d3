//! Redactions from other servers as clients see them.

use ruma::{EventId, RoomId, UserId, user_id};
use serde_json::{Value, json};

use super::{
    elsewhere::{EventDraft, join, send},
    world::{Person, World, ids},
};

async fn redact(world: &World, room: &RoomId, sender: &UserId, target: &str, content: Value) -> String {
    let mut content = content;
    // In the content since version 11, at the top level before.
    content["redacts"] = target.into();
    let draft = EventDraft {
        sender,
        kind: "m.room.redaction",
        key: None,
        content,
        redacts: Some(EventId::parse(target).unwrap()),
    };
    send(world, room, draft).await.to_string()
}

/// Every endpoint that lists events of a room: its name, and the ids that it returns.
async fn listed_events(world: &World, who: &Person, room: &str, near: &str) -> Vec<(String, Vec<String>)> {
    let base = format!("/_matrix/client/v3/rooms/{room}");
    let mut found = Vec::new();
    for path in ["messages?dir=b&limit=100", "messages?dir=f&limit=100"] {
        found.push((
            path.to_owned(),
            ids(&world.get(&format!("{base}/{path}"), who).await["chunk"]),
        ));
    }
    // One event per page: a page without events must not be the last.
    for direction in ["b", "f"] {
        found.push((format!("paging {direction}"), paged(world, who, room, direction).await));
    }
    let around = world.get(&format!("{base}/context/{near}?limit=100"), who).await;
    for field in ["events_before", "events_after"] {
        found.push((format!("context {field}"), ids(&around[field])));
    }
    let sync = world.sync(who, None, "").await;
    found.push((
        "sync".to_owned(),
        ids(&sync["rooms"]["join"][room]["timeline"]["events"]),
    ));
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{near}");
    found.push(("relations".to_owned(), ids(&world.get(&path, who).await["chunk"])));
    let shown = world.get(&format!("{base}/event/{near}"), who).await;
    let relations = &shown["unsigned"]["m.relations"];
    found.push(("m.reference".to_owned(), ids(&relations["m.reference"]["chunk"])));
    let latest = relations["m.thread"]["latest_event"]["event_id"].as_str();
    found.push(("m.thread".to_owned(), latest.map(str::to_owned).into_iter().collect()));
    found
}

async fn paged(world: &World, who: &Person, room: &str, direction: &str) -> Vec<String> {
    let (mut all, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir={direction}&limit=1{from}");
        let page = world.get(&path, who).await;
        all.extend(ids(&page["chunk"]));
        let Some(end) = page["end"].as_str() else { return all };
        from = format!("&from={end}");
    }
}

/// Requests for these events get the same response as one for an event that does not exist.
async fn assert_unknown(world: &World, who: &Person, room: &str, hidden: &[String]) {
    let base = format!("/_matrix/client/v3/rooms/{room}");
    let nowhere = format!("${}", "y".repeat(43));
    let absent = world
        .refused("GET", &format!("{base}/event/{nowhere}"), who, Value::Null)
        .await;
    for id in hidden {
        let paths = [
            format!("{base}/event/{id}"),
            format!("{base}/context/{id}"),
            format!("/_matrix/client/v1/rooms/{room}/relations/{id}"),
        ];
        for path in paths {
            let refused = world.refused("GET", &path, who, Value::Null).await;
            assert_eq!(refused, absent, "{path}");
        }
    }
}

/// W16: no endpoint shows a redaction of another room's event, and no number of them hides other events.
#[tokio::test]
async fn a_redaction_of_another_rooms_event_is_never_shown() {
    for version in ["10", "12"] {
        let world = World::new().await;
        let alice = world.person("alice").await;
        let options = json!({"preset": "public_chat", "room_version": version});
        let (room, other) = (
            world.room(&alice, options.clone()).await,
            world.room(&alice, options).await,
        );
        let room_id = RoomId::parse(room.as_str()).unwrap();
        let bob = user_id!("@bob:beta.example");
        join(&world, &room_id, bob).await;
        let secret = world.send_text(&other, &alice, "kept").await;
        let (near, own) = (
            world.send_text(&room, &alice, "near").await,
            world.send_text(&room, &alice, "own").await,
        );
        let since = world.sync(&alice, None, "").await["next_batch"]
            .as_str()
            .unwrap()
            .to_owned();

        let relates = |kind: &str| json!({"m.relates_to": {"rel_type": kind, "event_id": near}});
        let before = world.send_text(&room, &alice, "before").await;
        let mut hidden = Vec::new();
        for number in 0..12 {
            let kind = if number % 2 == 0 { "m.thread" } else { "m.reference" };
            hidden.push(redact(&world, &room_id, bob, &secret, relates(kind)).await);
        }
        // The first of these two has an effect. The second targets an event that this server does not have.
        let good = redact(&world, &room_id, bob, &own, json!({})).await;
        let nowhere = format!("${}", "x".repeat(43));
        let unknown = redact(&world, &room_id, bob, &nowhere, json!({})).await;

        for (endpoint, listed) in listed_events(&world, &alice, &room, &near).await {
            assert!(
                !hidden.iter().any(|id| listed.contains(id)),
                "version {version}, {endpoint}"
            );
            if endpoint.starts_with("paging") || endpoint.starts_with("messages") {
                for id in [&near, &before, &good, &unknown] {
                    assert!(listed.contains(id), "version {version}, {endpoint}: {listed:?}");
                }
            }
        }
        assert_unknown(&world, &alice, &room, &hidden).await;
        let base = format!("/_matrix/client/v3/rooms/{room}");
        world.get(&format!("{base}/event/{good}"), &alice).await;
        world.get(&format!("{base}/event/{unknown}"), &alice).await;

        // More of them than the timeline limit do not hide the messages before them.
        let filter = super::world::encoded(&json!({"room": {"timeline": {"limit": 3}}}));
        let next = world.sync(&alice, Some(&since), &format!("filter={filter}")).await;
        let timeline = &next["rooms"]["join"][&room]["timeline"];
        assert_eq!(
            ids(&timeline["events"]),
            [before.as_str(), &good, &unknown],
            "version {version}"
        );
        assert_eq!(timeline["limited"], false, "version {version}");
        let kept = world
            .get(&format!("/_matrix/client/v3/rooms/{other}/event/{secret}"), &alice)
            .await;
        assert_eq!(kept["content"]["body"], "kept");
    }
}
