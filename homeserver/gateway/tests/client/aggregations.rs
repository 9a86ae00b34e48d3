//! What is told beside an event: edits, threads, references, and the user's membership.

use serde_json::{Value, json};

use super::world::{Person, World};

async fn relate(world: &World, room: &str, who: &Person, kind: &str, content: Value) -> String {
    let txn: u64 = rand::random();
    let path = format!("/_matrix/client/v3/rooms/{room}/send/{kind}/{txn}");
    world.ok("PUT", &path, who, content).await["event_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn to(target: &str, rel_type: &str) -> Value {
    json!({"msgtype": "m.text", "body": "b", "m.relates_to": {"rel_type": rel_type, "event_id": target}})
}

fn edit(target: &str, text: &str) -> Value {
    let mut content = to(target, "m.replace");
    content["m.new_content"] = json!({"msgtype": "m.text", "body": text});
    content
}

fn find<'a>(events: &'a Value, id: &str) -> &'a Value {
    let events = events.as_array().unwrap();
    events.iter().find(|event| event["event_id"] == id).unwrap()
}

/// The event as every endpoint shows it that shows it in full.
async fn everywhere(world: &World, room: &str, who: &Person, id: &str) -> Vec<(String, Value)> {
    let base = format!("/_matrix/client/v3/rooms/{room}");
    let mut shown = vec![("event".to_owned(), world.get(&format!("{base}/event/{id}"), who).await)];
    for path in ["messages?dir=b&limit=100", "messages?dir=f&limit=100"] {
        let page = world.get(&format!("{base}/{path}"), who).await;
        shown.push((path.to_owned(), find(&page["chunk"], id).clone()));
    }
    let context = world.get(&format!("{base}/context/{id}"), who).await;
    shown.push(("context".to_owned(), context["event"].clone()));
    let sync = world.sync(who, None, "").await;
    let timeline = &sync["rooms"]["join"][room]["timeline"]["events"];
    shown.push(("sync".to_owned(), find(timeline, id).clone()));
    shown
}

#[tokio::test]
async fn edits_threads_and_references_are_told_beside_their_event() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    world
        .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
        .await;
    let root = world.say(&room, &alice, "root").await;
    let plain = world.say(&room, &alice, "plain").await;
    relate(&world, &room, &alice, "m.room.message", edit(&root, "first")).await;
    let newest = relate(&world, &room, &alice, "m.room.message", edit(&root, "second")).await;
    // None of these is an edit: by another user, of another type, without new content.
    relate(&world, &room, &bob, "m.room.message", edit(&root, "not mine")).await;
    relate(&world, &room, &alice, "m.other", edit(&root, "another type")).await;
    relate(&world, &room, &alice, "m.room.message", to(&root, "m.replace")).await;
    let reference = relate(&world, &room, &bob, "m.room.message", to(&root, "m.reference")).await;
    let gone = relate(&world, &room, &bob, "m.room.message", to(&root, "m.thread")).await;
    let answer = relate(&world, &room, &alice, "m.room.message", to(&root, "m.thread")).await;
    let last = relate(&world, &room, &bob, "m.room.message", to(&root, "m.thread")).await;
    let edited = relate(&world, &room, &bob, "m.room.message", edit(&last, "edited answer")).await;
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{gone}/1");
    world.ok("PUT", &redact, &bob, json!({})).await;
    for (where_, event) in everywhere(&world, &room, &bob, &root).await {
        let relations = &event["unsigned"]["m.relations"];
        assert_eq!(relations["m.replace"]["event_id"], newest.as_str(), "{where_}: {event}");
        assert_eq!(
            relations["m.replace"]["content"]["m.new_content"]["body"], "second",
            "{where_}"
        );
        assert_eq!(
            relations["m.reference"]["chunk"],
            json!([{"event_id": reference}]),
            "{where_}"
        );
        let thread = &relations["m.thread"];
        assert_eq!(
            (&thread["count"], &thread["current_user_participated"]),
            (&json!(2), &json!(true)),
            "{where_}"
        );
        assert_eq!(thread["latest_event"]["event_id"], last.as_str(), "{where_}");
        let inner = &thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"];
        assert_eq!(inner, edited.as_str(), "{where_}");
        assert_eq!(
            event["content"]["body"], "root",
            "the event itself stays as it was sent"
        );
    }
    for (where_, event) in everywhere(&world, &room, &alice, &plain).await {
        assert!(event["unsigned"].get("m.relations").is_none(), "{where_}: {event}");
    }
    let threads = world
        .get(&format!("/_matrix/client/v1/rooms/{room}/threads"), &alice)
        .await;
    assert_eq!(threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 2);
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{root}/m.thread");
    let answers = world.get(&path, &alice).await;
    let shown = find(&answers["chunk"], &last);
    assert_eq!(
        shown["unsigned"]["m.relations"]["m.replace"]["event_id"],
        edited.as_str()
    );
    // An edit can't be edited, and a redacted event shows no edit.
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{root}/2");
    world.ok("PUT", &redact, &alice, json!({})).await;
    for (where_, event) in everywhere(&world, &room, &alice, &root).await {
        let relations = &event["unsigned"]["m.relations"];
        assert!(relations.get("m.replace").is_none(), "{where_}: {event}");
        assert_eq!(relations["m.thread"]["count"], 2, "{where_}");
    }
    // Whoever left sees no later relations.
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &bob,
            json!({}),
        )
        .await;
    relate(&world, &room, &alice, "m.room.message", edit(&answer, "after bob left")).await;
    relate(&world, &room, &alice, "m.room.message", to(&root, "m.thread")).await;
    let event = |id: &str| format!("/_matrix/client/v3/rooms/{room}/event/{id}");
    let seen = world.get(&event(&answer), &bob).await;
    assert!(seen["unsigned"].get("m.relations").is_none(), "{seen}");
    assert_eq!(
        world.get(&event(&root), &bob).await["unsigned"]["m.relations"]["m.thread"]["count"],
        2
    );
    assert_eq!(
        world.get(&event(&root), &alice).await["unsigned"]["m.relations"]["m.thread"]["count"],
        3
    );
}

#[tokio::test]
async fn the_users_membership_is_told_beside_each_event() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({"preset": "private_chat"})).await;
    let before = world.say(&room, &alice, "before").await;
    let base = format!("/_matrix/client/v3/rooms/{room}");
    world
        .ok("POST", &format!("{base}/invite"), &alice, json!({"user_id": bob.user}))
        .await;
    let invited = world.say(&room, &alice, "invited").await;
    world.ok("POST", &format!("{base}/join"), &bob, json!({})).await;
    let join = world
        .get(&format!("{base}/state/m.room.member/{}?format=event", bob.user), &bob)
        .await;
    let join = join["event_id"].as_str().unwrap();
    let joined = world.say(&room, &alice, "joined").await;
    for (id, membership) in [
        (&*before, "leave"),
        (&*invited, "invite"),
        (join, "join"),
        (&*joined, "join"),
    ] {
        for (where_, event) in everywhere(&world, &room, &bob, id).await {
            assert_eq!(event["unsigned"]["membership"], membership, "{where_}: {event}");
        }
    }
    let own = world.get(&format!("{base}/event/{before}"), &alice).await;
    assert_eq!(own["unsigned"]["membership"], "join");
}
