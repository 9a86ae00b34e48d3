//! The numbers of unread events in a sync (client-server API, "Receiving notifications").

use serde_json::{Value, json};

use super::world::{Person, World};

const THREADS: &str = r#"{"room":{"timeline":{"unread_thread_notifications":true}}}"#;

/// Notifications and highlights of a room, as the user's next sync has them.
async fn unread(world: &World, user: &Person, room: &str) -> (u64, u64) {
    let synced = world.sync(user, None, "").await;
    numbers(&synced["rooms"]["join"][room]["unread_notifications"])
}

fn numbers(unread: &Value) -> (u64, u64) {
    let number = |name: &str| unread[name].as_u64().unwrap_or_else(|| panic!("no {name} in {unread}"));
    (number("notification_count"), number("highlight_count"))
}

async fn send(world: &World, room: &str, user: &Person, content: Value) -> String {
    let path = format!(
        "/_matrix/client/v3/rooms/{room}/send/m.room.message/{}",
        rand::random::<u64>()
    );
    let sent = world.ok("PUT", &path, user, content).await;
    sent["event_id"].as_str().unwrap().to_owned()
}

async fn read(world: &World, room: &str, user: &Person, event: &str, body: Value) {
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}");
    world.ok("POST", &path, user, body).await;
}

/// A room of two, in which the second user has read nothing since the join.
async fn two() -> (World, Person, Person, String) {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.send_text(&room, &alice, "before the invitation").await;
    world.invite_and_join(&room, &alice, &bob).await;
    (world, alice, bob, room)
}

#[tokio::test]
async fn messages_of_others_count_from_the_join_to_the_receipt() {
    let (world, alice, bob, room) = two().await;
    assert_eq!(unread(&world, &bob, &room).await, (0, 0), "messages before the join");
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(world.send_text(&room, &alice, &n.to_string()).await);
        assert_eq!(unread(&world, &bob, &room).await.0, n + 1);
    }
    assert_eq!(unread(&world, &alice, &room).await, (0, 0), "own messages");
    read(&world, &room, &bob, &sent[2], json!({})).await;
    assert_eq!(unread(&world, &bob, &room).await.0, 2);
    // A receipt never moves back.
    read(&world, &room, &bob, &sent[0], json!({})).await;
    assert_eq!(unread(&world, &bob, &room).await.0, 2);
    world.send_text(&room, &bob, "an answer").await;
    assert_eq!(
        unread(&world, &bob, &room).await.0,
        0,
        "a user who writes has read the room"
    );
}

#[tokio::test]
async fn a_waiting_client_gets_the_number_with_the_message() {
    let (world, alice, bob, room) = two().await;
    let since = world.sync(&bob, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    world.send_text(&room, &alice, "one").await;
    let synced = world.sync(&bob, Some(&since), "").await;
    assert_eq!(numbers(&synced["rooms"]["join"][&room]["unread_notifications"]).0, 1);
    let since = synced["next_batch"].as_str().unwrap().to_owned();
    let sent = world.send_text(&room, &alice, "two").await;
    read(&world, &room, &bob, &sent, json!({})).await;
    let synced = world.sync(&bob, Some(&since), "").await;
    assert_eq!(numbers(&synced["rooms"]["join"][&room]["unread_notifications"]).0, 0);
}

#[tokio::test]
async fn mentions_are_highlighted_and_reactions_edits_and_notices_do_not_count() {
    let (world, alice, bob, room) = two().await;
    let text = |body: &str| json!({"msgtype": "m.text", "body": body});
    let mut mention = text("look at this");
    mention["m.mentions"] = json!({"user_ids": [bob.user]});
    let first = send(&world, &room, &alice, mention).await;
    assert_eq!(unread(&world, &bob, &room).await, (1, 1));
    // Alice is the room's creator and may mention everyone, Bob may not.
    let mut everyone = text("all of you");
    everyone["m.mentions"] = json!({"room": true});
    send(&world, &room, &alice, everyone.clone()).await;
    assert_eq!(unread(&world, &bob, &room).await, (2, 2));
    send(
        &world,
        &room,
        &alice,
        json!({"msgtype": "m.notice", "body": "from a program"}),
    )
    .await;
    let mut edit = text("* changed");
    edit["m.new_content"] = text("changed");
    edit["m.relates_to"] = json!({"rel_type": "m.replace", "event_id": first});
    send(&world, &room, &alice, edit).await;
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "+1"}});
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.reaction/r");
    world.ok("PUT", &path, &alice, reaction).await;
    assert_eq!(unread(&world, &bob, &room).await, (2, 2));
    send(&world, &room, &bob, everyone).await;
    assert_eq!(
        unread(&world, &alice, &room).await,
        (1, 0),
        "Bob may not mention the room"
    );
}

#[tokio::test]
async fn threads_are_counted_apart_if_the_client_asks_for_it() {
    let (world, alice, bob, room) = two().await;
    let root = world.send_text(&room, &alice, "root").await;
    let reply = json!({
        "msgtype": "m.text", "body": "reply", "m.relates_to": {"rel_type": "m.thread", "event_id": root},
    });
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(send(&world, &room, &alice, reply.clone()).await);
    }
    assert_eq!(unread(&world, &bob, &room).await.0, 4, "with threads");
    let apart = async || {
        let filter = format!("&filter={}", urlencoded(THREADS));
        let synced = world.sync(&bob, None, &filter).await;
        let room = &synced["rooms"]["join"][&room];
        let thread = &room["unread_thread_notifications"][&root]["notification_count"];
        (numbers(&room["unread_notifications"]).0, thread.as_u64().unwrap_or(0))
    };
    assert_eq!(apart().await, (1, 3));
    read(&world, &room, &bob, &replies[1], json!({"thread_id": root})).await;
    assert_eq!(apart().await, (1, 1));
    read(&world, &room, &bob, &root, json!({"thread_id": "main"})).await;
    assert_eq!(apart().await, (0, 1));
    send(&world, &room, &bob, reply.clone()).await;
    assert_eq!(apart().await, (0, 0), "a user who writes in a thread has read it");
    send(&world, &room, &alice, reply).await;
    let last = world.send_text(&room, &alice, "outside").await;
    assert_eq!(apart().await, (1, 1));
    read(&world, &room, &bob, &last, json!({})).await;
    assert_eq!(apart().await, (0, 0), "an unthreaded receipt is for all threads");
}

#[tokio::test]
async fn redacted_and_ignored_messages_do_not_count() {
    let (world, alice, bob, room) = two().await;
    let redacted = world.send_text(&room, &alice, "redacted").await;
    world.send_text(&room, &alice, "kept").await;
    assert_eq!(unread(&world, &bob, &room).await.0, 2);
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{redacted}/r");
    world.ok("PUT", &path, &alice, json!({})).await;
    assert_eq!(unread(&world, &bob, &room).await.0, 1);
    let carol = world.person("carol").await;
    world.invite_and_join(&room, &alice, &carol).await;
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        carol.user
    );
    let ignored = json!({"ignored_users": {alice.user.as_str(): {}}});
    world.ok("PUT", &path, &carol, ignored).await;
    world.send_text(&room, &alice, "not for Carol").await;
    assert_eq!(unread(&world, &carol, &room).await.0, 0);
    assert_eq!(unread(&world, &bob, &room).await.0, 2);
}

#[tokio::test]
async fn the_number_is_bounded() {
    let (world, alice, bob, room) = two().await;
    for n in 0..230 {
        world.send_text(&room, &alice, &n.to_string()).await;
        if n == 100 {
            assert_eq!(unread(&world, &bob, &room).await.0, 101);
        }
    }
    assert_eq!(unread(&world, &bob, &room).await.0, 200);
}

async fn notifications(world: &World, user: &Person, query: &str) -> (Vec<Value>, Option<String>) {
    let body = world
        .ok(
            "GET",
            &format!("/_matrix/client/v3/notifications{query}"),
            user,
            Value::Null,
        )
        .await;
    let list = body["notifications"].as_array().unwrap().clone();
    (list, body["next_token"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn notifications_are_listed_until_they_are_read() {
    let (world, alice, bob, room) = two().await;
    let said = json!({"msgtype": "m.text", "body": "one"});
    let first = send(&world, &room, &alice, said).await;
    let mention = json!({"msgtype": "m.text", "body": "two", "m.mentions": {"user_ids": [bob.user]}});
    let second = send(&world, &room, &alice, mention).await;
    let in_thread = json!({
        "msgtype": "m.text", "body": "three", "m.mentions": {"user_ids": [bob.user]},
        "m.relates_to": {"rel_type": "m.thread", "event_id": first}
    });
    let third = send(&world, &room, &alice, in_thread).await;
    let ids = |list: &[Value]| -> std::collections::BTreeSet<String> {
        list.iter()
            .map(|one| one["event"]["event_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (all, next) = notifications(&world, &bob, "").await;
    assert_eq!(
        (ids(&all), next),
        ([&first, &second, &third].map(Clone::clone).into(), None)
    );
    assert!(
        all.iter()
            .all(|one| one["room_id"] == json!(room) && one["read"] == json!(false))
    );
    let (mentions, _) = notifications(&world, &bob, "?only=highlight").await;
    assert_eq!(ids(&mentions), [&second, &third].map(Clone::clone).into());
    assert_eq!(mentions[0]["actions"], json!(["notify", {"set_tweak": "highlight"}]));
    let (mut paged, mut from) = (Vec::new(), String::new());
    loop {
        let (page, next) = notifications(&world, &bob, &format!("?limit=1{from}")).await;
        assert_eq!(page.len(), 1);
        paged.extend(page);
        let Some(next) = next else { break };
        from = format!("&from={}", urlencoded(&next));
    }
    assert_eq!((paged.len(), ids(&paged)), (3, ids(&all)));
    read(&world, &room, &bob, &third, json!({})).await;
    assert_eq!(notifications(&world, &bob, "").await.0, Vec::<Value>::new());
    assert_eq!(notifications(&world, &alice, "").await.0, Vec::<Value>::new());
}

fn urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
