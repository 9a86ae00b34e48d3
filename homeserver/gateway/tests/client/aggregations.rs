//! Bundled aggregations and other `unsigned` data: edits, threads, references, and the user's membership.

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

/// The event from every endpoint that shows it with aggregations.
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

/// A room with an event that is edited, referenced and the root of a thread.
struct Related {
    world: World,
    alice: Person,
    bob: Person,
    room: String,
    root: String,
    newest_edit: String,
    reference: String,
    /// The thread: alice's reply, and bob's reply with its edit.
    answer: String,
    last: String,
    edited: String,
}

impl Related {
    async fn new() -> Self {
        let world = World::new().await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let room = world.room(&alice, json!({"preset": "public_chat"})).await;
        let join = format!("/_matrix/client/v3/join/{room}");
        world.ok("POST", &join, &bob, json!({})).await;
        let root = world.send_text(&room, &alice, "root").await;
        let send = async |who: &Person, kind: &str, content: Value| relate(&world, &room, who, kind, content).await;
        let text = "m.room.message";
        send(&alice, text, edit(&root, "first")).await;
        // The newest edit is the one with the latest time, in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let newest_edit = send(&alice, text, edit(&root, "second")).await;
        // None of these is a valid edit: by another user, of another type, without new content.
        send(&bob, text, edit(&root, "not mine")).await;
        send(&alice, "m.other", edit(&root, "another type")).await;
        send(&alice, text, to(&root, "m.replace")).await;
        let reference = send(&bob, text, to(&root, "m.reference")).await;
        let gone = send(&bob, text, to(&root, "m.thread")).await;
        let answer = send(&alice, text, to(&root, "m.thread")).await;
        let last = send(&bob, text, to(&root, "m.thread")).await;
        let edited = send(&bob, text, edit(&last, "edited answer")).await;
        let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{gone}/1");
        world.ok("PUT", &redact, &bob, json!({})).await;
        Self {
            world,
            alice,
            bob,
            room,
            root,
            newest_edit,
            reference,
            answer,
            last,
            edited,
        }
    }
}

#[tokio::test]
async fn edits_threads_and_references_are_bundled_with_their_event() {
    let related = Related::new().await;
    let (world, room) = (&related.world, &related.room);
    for (where_, event) in everywhere(world, room, &related.bob, &related.root).await {
        let relations = &event["unsigned"]["m.relations"];
        assert_eq!(
            relations["m.replace"]["event_id"],
            related.newest_edit.as_str(),
            "{where_}: {event}"
        );
        assert_eq!(
            relations["m.replace"]["content"]["m.new_content"]["body"], "second",
            "{where_}"
        );
        let chunk = json!([{"event_id": related.reference}]);
        assert_eq!(relations["m.reference"]["chunk"], chunk, "{where_}");
        let thread = &relations["m.thread"];
        let counted = (&thread["count"], &thread["current_user_participated"]);
        assert_eq!(
            counted,
            (&json!(2), &json!(true)),
            "{where_}: the redacted reply is gone"
        );
        assert_eq!(thread["latest_event"]["event_id"], related.last.as_str(), "{where_}");
        let inner = &thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"];
        assert_eq!(inner, related.edited.as_str(), "{where_}");
        assert_eq!(event["content"]["body"], "root", "the event itself is unchanged");
    }
    let plain = world.send_text(room, &related.alice, "plain").await;
    for (where_, event) in everywhere(world, room, &related.alice, &plain).await {
        assert!(event["unsigned"].get("m.relations").is_none(), "{where_}: {event}");
    }
    let threads = format!("/_matrix/client/v1/rooms/{room}/threads");
    let threads = world.get(&threads, &related.alice).await;
    assert_eq!(threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 2);
    let path = format!("/_matrix/client/v1/rooms/{room}/relations/{}/m.thread", related.root);
    let answers = world.get(&path, &related.alice).await;
    let shown = find(&answers["chunk"], &related.last);
    assert_eq!(
        shown["unsigned"]["m.relations"]["m.replace"]["event_id"],
        related.edited.as_str()
    );
}

#[tokio::test]
async fn redacted_events_have_no_edits_and_departed_users_see_no_later_relations() {
    let related = Related::new().await;
    let (world, room, root) = (&related.world, &related.room, &related.root);
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{root}/2");
    world.ok("PUT", &redact, &related.alice, json!({})).await;
    for (where_, event) in everywhere(world, room, &related.alice, root).await {
        let relations = &event["unsigned"]["m.relations"];
        assert!(relations.get("m.replace").is_none(), "{where_}: {event}");
        assert_eq!(relations["m.thread"]["count"], 2, "{where_}");
    }
    let leave = format!("/_matrix/client/v3/rooms/{room}/leave");
    world.ok("POST", &leave, &related.bob, json!({})).await;
    let late = edit(&related.answer, "after bob left");
    relate(world, room, &related.alice, "m.room.message", late).await;
    relate(world, room, &related.alice, "m.room.message", to(root, "m.thread")).await;
    let shown = async |id: &str, who: &Person| {
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{id}");
        world.get(&path, who).await["unsigned"].clone()
    };
    let seen = shown(&related.answer, &related.bob).await;
    assert!(seen.get("m.relations").is_none(), "{seen}");
    for (who, count) in [(&related.bob, 2), (&related.alice, 3)] {
        assert_eq!(shown(root, who).await["m.relations"]["m.thread"]["count"], count);
    }
}

#[tokio::test]
async fn the_users_membership_is_in_the_unsigned_data_of_each_event() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({"preset": "private_chat"})).await;
    let before = world.send_text(&room, &alice, "before").await;
    let base = format!("/_matrix/client/v3/rooms/{room}");
    world
        .ok("POST", &format!("{base}/invite"), &alice, json!({"user_id": bob.user}))
        .await;
    let invited = world.send_text(&room, &alice, "invited").await;
    world.ok("POST", &format!("{base}/join"), &bob, json!({})).await;
    let join = world
        .get(&format!("{base}/state/m.room.member/{}?format=event", bob.user), &bob)
        .await;
    let join = join["event_id"].as_str().unwrap();
    let joined = world.send_text(&room, &alice, "joined").await;
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
