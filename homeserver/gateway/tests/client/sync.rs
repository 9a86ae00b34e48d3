//! The sections of a sync answer.

use std::time::Duration;

use serde_json::{Value, json};
use weft_room::OutOfBandMembership;

use super::world::{Person, World, encoded, ids, kinds};

async fn token(world: &World, who: &Person) -> String {
    world.sync(who, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_initial_sync_has_state_and_timeline_and_the_next_one_the_changes() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({"name": "N"})).await;
    for n in 0..30 {
        world.send_text(&room, &alice, &n.to_string()).await;
    }
    let limit = encoded(&json!({"room": {"timeline": {"limit": 4}}}));
    let first = world.sync(&alice, None, &format!("filter={limit}")).await;
    let synced = &first["rooms"]["join"][&room];
    assert_eq!(synced["timeline"]["events"].as_array().unwrap().len(), 4);
    assert_eq!(synced["timeline"]["limited"], json!(true));
    assert!(kinds(&synced["state"]["events"]).contains(&"m.room.create"));
    assert_eq!(synced["summary"]["m.joined_member_count"], 1);
    let back = format!(
        "/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1&from={}",
        synced["timeline"]["prev_batch"].as_str().unwrap()
    );
    assert_eq!(world.get(&back, &alice).await["chunk"][0]["content"]["body"], "25");

    let since = first["next_batch"].as_str().unwrap();
    let nothing = world.sync(&alice, Some(since), "").await;
    assert!(
        nothing.get("rooms").is_none() && nothing["next_batch"].as_str() == Some(since),
        "{nothing}"
    );
    let message_id = world.send_text(&room, &alice, "new").await;
    let next = world.sync(&alice, Some(since), "").await;
    let synced = &next["rooms"]["join"][&room];
    assert_eq!(
        (ids(&synced["timeline"]["events"]), &synced["timeline"]["limited"]),
        (vec![message_id], &json!(false))
    );
    assert_eq!(synced["state"]["events"], json!([]));
    assert!(synced["timeline"]["events"][0].get("room_id").is_none());
    let full = world.sync(&alice, Some(since), "full_state=true").await;
    assert!(kinds(&full["rooms"]["join"][&room]["state"]["events"]).contains(&"m.room.name"));
}

/// Activity in other rooms decides how changed rooms are found, and must not change the answer.
#[tokio::test]
async fn a_sync_of_many_rooms_contains_only_those_that_changed() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push(world.room(&alice, json!({})).await);
    }
    let elsewhere = world.room(&bob, json!({})).await;
    for noise in [0, 1, 7, 8, 40] {
        let since = token(&world, &alice).await;
        for n in 0..noise {
            world.send_text(&elsewhere, &bob, &n.to_string()).await;
        }
        let nothing = world.sync(&alice, Some(&since), "").await;
        assert!(nothing.get("rooms").is_none(), "{noise}: {nothing}");
        let message_id = world.send_text(&rooms[1], &alice, "new").await;
        let topic = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", rooms[2]);
        world
            .ok("PUT", &topic, &alice, json!({"topic": noise.to_string()}))
            .await;
        let next = world.sync(&alice, Some(&since), "").await;
        let synced = next["rooms"]["join"].as_object().unwrap();
        let mut named: Vec<&String> = synced.keys().collect();
        let mut moved = vec![&rooms[1], &rooms[2]];
        named.sort();
        moved.sort();
        assert_eq!(named, moved, "{noise}");
        assert_eq!(
            ids(&synced[&rooms[1]]["timeline"]["events"]),
            vec![message_id],
            "{noise}"
        );
        assert_eq!(
            kinds(&synced[&rooms[2]]["timeline"]["events"]),
            ["m.room.topic"],
            "{noise}"
        );
        let full = world.sync(&alice, Some(&since), "full_state=true").await;
        assert_eq!(full["rooms"]["join"].as_object().unwrap().len(), 4, "{noise}");
    }
}

#[tokio::test]
async fn a_limited_sync_contains_the_state_changed_in_the_gap() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({"name": "old"})).await;
    let since = token(&world, &alice).await;
    let renamed = world
        .set_state(&room, &alice, "m.room.name", "", json!({"name": "new"}))
        .await;
    for n in 0..5 {
        world.send_text(&room, &alice, &n.to_string()).await;
    }
    let topic = world
        .set_state(&room, &alice, "m.room.topic", "", json!({"topic": "t"}))
        .await;
    let filter = encoded(&json!({"room": {"timeline": {"limit": 2}}}));
    let gap = world.sync(&alice, Some(&since), &format!("filter={filter}")).await;
    let synced = &gap["rooms"]["join"][&room];
    assert_eq!(synced["timeline"]["limited"], json!(true));
    assert_eq!(
        ids(&synced["state"]["events"]),
        std::slice::from_ref(&renamed),
        "the topic is in the timeline"
    );
    assert_eq!(ids(&synced["timeline"]["events"])[1], topic);
    let after = world
        .sync(&alice, Some(&since), &format!("filter={filter}&use_state_after=true"))
        .await;
    let mut changed = ids(&after["rooms"]["join"][&room]["state_after"]["events"]);
    changed.sort();
    let mut expected = vec![renamed, topic];
    expected.sort();
    assert_eq!(changed, expected);
}

#[tokio::test]
async fn invitations_joins_and_leaves_move_a_room_between_the_sections() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({"name": "N"})).await;
    let message_id = world.send_text(&room, &alice, "before bob").await;
    let t0 = token(&world, &bob).await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/invite"),
            &alice,
            json!({"user_id": bob.user}),
        )
        .await;
    let invited = world.sync(&bob, Some(&t0), "").await;
    let stripped = &invited["rooms"]["invite"][&room]["invite_state"]["events"];
    assert!(
        kinds(stripped).contains(&"m.room.name") && kinds(stripped).contains(&"m.room.member"),
        "{invited}"
    );
    assert!(stripped[0].get("event_id").is_none(), "stripped state has no event ids");
    let t1 = invited["next_batch"].as_str().unwrap();
    let again = world.sync(&bob, Some(t1), "").await;
    assert!(again.get("rooms").is_none(), "an invitation is sent once: {again}");

    world
        .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
        .await;
    let joined = world.sync(&bob, Some(t1), "").await;
    let synced = &joined["rooms"]["join"][&room];
    assert!(
        ids(&synced["timeline"]["events"]).contains(&message_id),
        "history is shared: {joined}"
    );
    assert!(kinds(&synced["state"]["events"]).is_empty() || synced["timeline"]["limited"] == json!(true));
    assert_eq!(synced["summary"]["m.joined_member_count"], 2);

    let t2 = joined["next_batch"].as_str().unwrap();
    let last = world.send_text(&room, &alice, "goodbye").await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &bob,
            json!({}),
        )
        .await;
    let unseen = world.send_text(&room, &alice, "is bob gone?").await;
    let left = world.sync(&bob, Some(t2), "").await;
    let timeline = &left["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(ids(timeline)[0], last);
    assert_eq!(timeline[1]["content"]["membership"], "leave");
    assert_eq!(
        timeline.as_array().unwrap().len(),
        2,
        "no events after the departure: {unseen}"
    );
    let t3 = left["next_batch"].as_str().unwrap();
    world.send_text(&room, &alice, "still talking").await;
    assert!(world.sync(&bob, Some(t3), "").await.get("rooms").is_none());
    assert!(
        world.sync(&bob, None, "").await.get("rooms").is_none(),
        "left rooms are only sent on request"
    );
    let filter = encoded(&json!({"room": {"include_leave": true}}));
    let with_left = world.sync(&bob, None, &format!("filter={filter}")).await;
    let read = ids(&with_left["rooms"]["leave"][&room]["timeline"]["events"]);
    assert!(read.contains(&last) && !read.contains(&unseen), "{with_left}");
}

#[tokio::test]
async fn a_rejected_invitation_disappears_and_grants_no_access() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    let secret = world.send_text(&room, &alice, "secret").await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/invite"),
            &alice,
            json!({"user_id": bob.user}),
        )
        .await;
    let since = token(&world, &bob).await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &bob,
            json!({}),
        )
        .await;
    let synced = world.sync(&bob, Some(&since), "").await;
    let left = &synced["rooms"]["leave"][&room];
    assert!(left.is_object(), "{synced}");
    assert!(
        !synced.to_string().contains(&secret) && left["state"]["events"] == json!([]),
        "{synced}"
    );
}

#[tokio::test]
async fn an_out_of_band_invitation_ends_with_a_visible_leave() {
    let world = World::new().await;
    let bob = world.person("bob").await;
    let (alice, version) = ("@alice:beta.example", ruma::RoomVersionId::V12);
    let mut elsewhere = weft_dag::testing::World::new(&version, alice);
    let last = elsewhere.message(alice, "secret");
    let content = json!({"membership": "invite"});
    let invite = elsewhere.build(
        &[last.event_id().to_owned()],
        alice,
        "m.room.member",
        Some(bob.user.as_str()),
        content,
    );
    let invited = OutOfBandMembership {
        event: invite,
        version,
        resident: "beta.example".try_into().unwrap(),
        stripped: Vec::new(),
        user: bob.user.clone(),
    };
    world.server.rooms.invited(invited).await.unwrap();
    let since = token(&world, &bob).await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", last.room_id());
    world.ok("POST", &leave, &bob, json!({})).await;
    let synced = world.sync(&bob, Some(&since), "").await;
    let left = &synced["rooms"]["leave"][last.room_id().as_str()];
    // matrix-js-sdk shows the invitation until it receives the event, matrix-nio ignores a room without the section.
    assert_eq!(left["state"]["events"], json!([]));
    let events = left["timeline"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{synced}");
    assert_eq!(events[0]["type"], "m.room.member");
    assert_eq!(events[0]["state_key"], json!(bob.user));
    assert_eq!(events[0]["content"]["membership"], "leave");
    assert!(events[0]["event_id"].is_string(), "{synced}");
    let next = synced["next_batch"].as_str().unwrap();
    assert!(world.sync(&bob, Some(next), "").await.get("rooms").is_none());
}

#[tokio::test]
async fn lazy_loading_sends_the_members_who_are_senders() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let options = json!({"preset": "public_chat", "name": "no heroes"});
    let room = world.room(&alice, options).await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave", "erin"] {
        let person = world.person(name).await;
        world
            .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &person, json!({}))
            .await;
        others.push(person);
    }
    for _ in 0..3 {
        world.send_text(&room, &others[1], "hello").await;
    }
    let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 2}}});
    let query = format!("filter={}", encoded(&filter));
    let members = |synced: &Value| -> Vec<String> {
        let events = synced["rooms"]["join"][&room]["state"]["events"]
            .as_array()
            .unwrap()
            .clone();
        let members = events.iter().filter(|event| event["type"] == "m.room.member");
        members
            .map(|event| event["state_key"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.sync(&alice, None, &query).await;
    let mut seen = members(&first);
    seen.sort();
    assert_eq!(seen, [alice.user.as_str(), others[1].user.as_str()]);
    assert_eq!(first["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 5);
    world.send_text(&room, &others[2], "me too").await;
    let next = world.sync(&alice, first["next_batch"].as_str(), &query).await;
    assert_eq!(members(&next), [others[2].user.as_str()]);
}

#[tokio::test]
async fn a_waiting_sync_is_woken_by_relevant_changes() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let changes: [(&str, String, Value); 5] = [
        (
            "PUT",
            format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/w"),
            json!({"body": "x"}),
        ),
        (
            "PUT",
            format!("/_matrix/client/v3/rooms/{room}/typing/{}", alice.user),
            json!({"typing": true, "timeout": 30000}),
        ),
        (
            "PUT",
            format!("/_matrix/client/v3/user/{}/account_data/org.x", alice.user),
            json!({"x": 1}),
        ),
        ("POST", format!("/_matrix/client/v3/rooms/{room}/leave"), json!({})),
        ("POST", "/_matrix/client/v3/createRoom".to_owned(), json!({})),
    ];
    for (method, path, body) in changes {
        let since = token(&world, &alice).await;
        let (waiter, who) = (world.clone(), alice.clone());
        let waiting = tokio::spawn(async move { waiter.sync(&who, Some(&since), "timeout=50000").await });
        tokio::task::yield_now().await;
        world.ok(method, &path, &alice, body).await;
        let synced = tokio::time::timeout(Duration::from_secs(40), waiting)
            .await
            .expect("woken")
            .unwrap();
        let empty = synced.get("rooms").is_none() && synced.get("account_data").is_none();
        assert!(!empty, "{path}: {synced}");
    }
    let since = token(&world, &bob).await;
    let idle = world.sync(&bob, Some(&since), "timeout=1").await;
    assert!(idle.get("rooms").is_none());
}

#[tokio::test]
async fn typing_receipts_and_account_data_are_sent_once() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let message_id = world.send_text(&room, &alice, "read me").await;
    let since = token(&world, &alice).await;
    let at = |what: &str| format!("/_matrix/client/v3/rooms/{room}/{what}");
    world
        .ok(
            "PUT",
            &at(&format!("typing/{}", bob.user)),
            &bob,
            json!({"typing": true, "timeout": 30_000}),
        )
        .await;
    world
        .ok("POST", &at(&format!("receipt/m.read/{message_id}")), &bob, json!({}))
        .await;
    world
        .ok(
            "POST",
            &at(&format!("receipt/m.read.private/{message_id}")),
            &bob,
            json!({}),
        )
        .await;
    world
        .ok("POST", &at("read_markers"), &alice, json!({"m.fully_read": message_id}))
        .await;
    let synced = world.sync(&alice, Some(&since), "").await;
    let joined = &synced["rooms"]["join"][&room];
    let ephemeral = joined["ephemeral"]["events"].as_array().unwrap();
    let receipt = ephemeral.iter().find(|event| event["type"] == "m.receipt").unwrap();
    assert!(receipt["content"][&message_id]["m.read"][bob.user.as_str()]["ts"].is_u64());
    assert!(
        receipt["content"][&message_id].get("m.read.private").is_none(),
        "private receipts are private: {receipt}"
    );
    let typing = ephemeral.iter().find(|event| event["type"] == "m.typing").unwrap();
    assert_eq!(typing["content"]["user_ids"], json!([bob.user]));
    assert_eq!(joined["account_data"]["events"][0]["type"], "m.fully_read");
    let since = synced["next_batch"].as_str().unwrap();
    assert!(world.sync(&alice, Some(since), "").await.get("rooms").is_none());
    world
        .ok(
            "PUT",
            &at(&format!("typing/{}", bob.user)),
            &bob,
            json!({"typing": false}),
        )
        .await;
    let synced = world.sync(&alice, Some(since), "").await;
    let stopped = &synced["rooms"]["join"][&room]["ephemeral"]["events"][0];
    assert_eq!(stopped["content"]["user_ids"], json!([]));
    assert_eq!(
        world
            .refused("POST", &at("receipt/m.read/$nothing"), &bob, json!({}))
            .await
            .0,
        404
    );
    let others = at(&format!("typing/{}", alice.user));
    assert_eq!(
        world.refused("PUT", &others, &bob, json!({"typing": true})).await.0,
        403
    );
}

/// The senders of the presence events in an answer, with their states.
fn presence_in(synced: &Value) -> Vec<(String, String)> {
    let events = synced["presence"]["events"].as_array().unwrap();
    let message_id = |event: &Value| {
        let (sender, presence) = (&event["sender"], &event["content"]["presence"]);
        (
            sender.as_str().unwrap().to_owned(),
            presence.as_str().unwrap().to_owned(),
        )
    };
    events.iter().map(message_id).collect()
}

#[tokio::test]
async fn presence_is_sent_to_users_who_share_a_room() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    world
        .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
        .await;
    let of = |user: &Person| format!("/_matrix/client/v3/presence/{}/status", user.user);
    let first = world.get(&of(&alice), &bob).await;
    assert_eq!(first["presence"], "offline");
    assert_eq!(world.refused("GET", &of(&alice), &carol, Value::Null).await.0, 403);

    let away = world.sync(&bob, None, "set_presence=offline").await;
    assert_eq!(presence_in(&away), []);
    let since = away["next_batch"].as_str().unwrap();
    world.sync(&alice, None, "").await;
    let synced = world.sync(&bob, Some(since), "set_presence=offline").await;
    assert_eq!(presence_in(&synced), [(alice.user.to_string(), "online".to_owned())]);
    let since = synced["next_batch"].as_str().unwrap();
    let status = json!({"presence": "unavailable", "status_msg": "at lunch"});
    world.ok("PUT", &of(&alice), &alice, status).await;
    let synced = world.sync(&bob, Some(since), "set_presence=offline").await;
    let content = &synced["presence"]["events"][0]["content"];
    assert_eq!(
        (&content["presence"], &content["status_msg"]),
        (&json!("unavailable"), &json!("at lunch"))
    );
    assert!(content["last_active_ago"].is_u64(), "{content}");
    let since = synced["next_batch"].as_str().unwrap();
    assert_eq!(
        presence_in(&world.sync(&bob, Some(since), "set_presence=offline").await),
        []
    );
    let filter = encoded(&json!({"presence": {"not_types": ["*"]}}));
    let hidden = world.sync(&bob, None, &format!("filter={filter}")).await;
    assert_eq!(presence_in(&hidden), []);
    assert_eq!(presence_in(&world.sync(&carol, None, "set_presence=offline").await), []);

    let foreign = world
        .refused("PUT", &of(&alice), &bob, json!({"presence": "online"}))
        .await;
    assert_eq!(foreign.0, 403);
    let odd = world
        .refused("PUT", &of(&alice), &alice, json!({"presence": "dancing"}))
        .await;
    assert_eq!(odd.0, 400);
    let long = json!({"presence": "online", "status_msg": "x".repeat(1_025)});
    assert_eq!(world.refused("PUT", &of(&alice), &alice, long).await.0, 413);
}

/// W12: an idle client reports `unavailable`, and a user who joins a room receives the presence of its members.
#[tokio::test]
async fn idle_clients_are_unavailable_and_the_presence_of_new_members_is_sent() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    let join = format!("/_matrix/client/v3/join/{room}");
    let of = |user: &Person| format!("/_matrix/client/v3/presence/{}/status", user.user);
    world.ok("POST", &join, &bob, json!({})).await;
    world.sync(&bob, None, "set_presence=unavailable").await;
    assert_eq!(world.get(&of(&bob), &alice).await["presence"], "unavailable");
    world.sync(&bob, None, "").await;
    assert_eq!(world.get(&of(&bob), &alice).await["presence"], "online");
    world.sync(&bob, None, "set_presence=unavailable").await;
    assert_eq!(world.get(&of(&bob), &alice).await["presence"], "unavailable");

    let first = world.sync(&alice, None, "").await;
    world.sync(&carol, None, "").await;
    let carols = world.sync(&carol, None, "").await;
    let before = world.sync(&alice, first["next_batch"].as_str(), "").await;
    assert_eq!(presence_in(&before), [], "the users share no room");
    world.ok("POST", &join, &carol, json!({})).await;
    let synced = world.sync(&alice, before["next_batch"].as_str(), "").await;
    assert_eq!(presence_in(&synced), [(carol.user.to_string(), "online".to_owned())]);
    let mut seen = presence_in(&world.sync(&carol, carols["next_batch"].as_str(), "").await);
    seen.sort();
    let expected = [
        (alice.user.to_string(), "online".to_owned()),
        (bob.user.to_string(), "unavailable".to_owned()),
    ];
    assert_eq!(seen, expected);
}

/// T131: the cost of a filter is bounded, on every endpoint with a filter.
#[tokio::test]
async fn filters_are_bounded() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let stars = format!("{}x", "*a".repeat(100));
    let many: Vec<String> = (0..101).map(|n| format!("m.{n}")).collect();
    let users: Vec<String> = (0..1_001).map(|n| format!("@{n}:a")).collect();
    for events in [
        json!({"types": [stars]}),
        json!({"not_types": ["a".repeat(300)]}),
        json!({"types": many}),
        json!({"not_types": many}),
        json!({"senders": users}),
        json!({"not_senders": users}),
    ] {
        for filter in [
            json!({"room": {"timeline": events}}),
            json!({"room": {"state": events}}),
            json!({"room": {"ephemeral": events}}),
            json!({"room": {"account_data": events}}),
            json!({"presence": events}),
            json!({"account_data": events}),
        ] {
            let path = format!("/_matrix/client/v3/sync?filter={}", encoded(&filter));
            let refused = world.refused("GET", &path, &alice, Value::Null).await;
            assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()));
            let path = format!("/_matrix/client/v3/user/{}/filter", alice.user);
            assert_eq!(world.refused("POST", &path, &alice, filter).await.0, 400);
        }
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/messages?dir=b&filter={}",
            encoded(&events)
        );
        assert_eq!(world.refused("GET", &path, &alice, Value::Null).await.0, 400);
    }
    let rooms: Vec<String> = (0..1_001).map(|n| format!("!{n}:a")).collect();
    let rooms = json!({"room": {"rooms": rooms}});
    let path = format!("/_matrix/client/v3/sync?filter={}", encoded(&rooms));
    assert_eq!(world.refused("GET", &path, &alice, Value::Null).await.0, 400);
    let usual = json!({"room": {"timeline": {"types": ["m.room.*", "*.call.*", "m.reaction"]}, "rooms": [room]}});
    world.sync(&alice, None, &format!("filter={}", encoded(&usual))).await;
}

/// T131: of one device two syncs wait, and a third one ends the oldest.
#[tokio::test]
async fn a_new_sync_of_a_device_ends_the_oldest_waiting_one() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    world.room(&alice, json!({})).await;
    let since = token(&world, &alice).await;
    let waits = || {
        let (world, alice, since) = (world.clone(), alice.clone(), since.clone());
        tokio::spawn(async move { world.sync(&alice, Some(&since), "timeout=30000").await })
    };
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(waits());
        // Each starts to wait before the next one is sent.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    let newest = waiting.split_off(3);
    for ended in waiting {
        let synced = ended.await.unwrap();
        assert!(synced.get("rooms").is_none(), "{synced}");
        assert!(synced["next_batch"].is_string());
    }
    let room = world.room(&alice, json!({})).await;
    for waiting in newest {
        let synced = waiting.await.unwrap();
        assert!(synced["rooms"]["join"].get(&room).is_some(), "{synced}");
    }
}

/// W16.
#[tokio::test]
async fn a_filter_selects_fields_and_format() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({"name": "n"})).await;
    let message_id = world.send_text(&room, &alice, "hello").await;
    let filter = json!({"event_fields": ["type", "content.body"], "room": {"timeline": {"limit": 1}}});
    let synced = world.sync(&alice, None, &format!("filter={}", encoded(&filter))).await;
    let synced = &synced["rooms"]["join"][&room];
    let expected = json!([{"type": "m.room.message", "content": {"body": "hello"}}]);
    assert_eq!(synced["timeline"]["events"], expected);
    let state = synced["state"]["events"].as_array().unwrap();
    assert!(
        state.iter().any(|event| *event == json!({"type": "m.room.name"})),
        "{state:?}"
    );
    let filter = json!({"event_format": "federation", "room": {"timeline": {"limit": 1}}});
    let synced = world.sync(&alice, None, &format!("filter={}", encoded(&filter))).await;
    let event = &synced["rooms"]["join"][&room]["timeline"]["events"][0];
    for field in ["auth_events", "prev_events", "hashes", "signatures", "depth"] {
        assert!(event.get(field).is_some(), "{field}: {event}");
    }
    assert!(event.get("event_id").is_none() || event["event_id"] == message_id.as_str());
}
