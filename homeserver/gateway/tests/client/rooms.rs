//! Rooms: creation, membership, state, messages, aliases, directory.

use serde_json::{Value, json};

use super::world::{Person, World, encoded, ids, kinds};

#[tokio::test]
async fn a_room_is_created_with_the_requested_settings() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for version in ["6", "10", "11", "12"] {
        let options = json!({
            "room_version": version, "preset": "public_chat", "name": "N", "topic": "T", "visibility": "public",
            "room_alias_name": format!("n{version}"), "invite": [bob.user], "is_direct": true,
            "initial_state": [{"type": "m.room.history_visibility", "content": {"history_visibility": "invited"}}],
            "power_level_content_override": {"events_default": 7},
            "creation_content": {"m.federate": true, "org.example.x": 1},
        });
        let room = world.room(&alice, options).await;
        let state = |kind: &str| format!("/_matrix/client/v3/rooms/{room}/state/{kind}");
        assert_eq!(world.get(&state("m.room.name"), &alice).await["name"], "N");
        assert_eq!(world.get(&state("m.room.topic/"), &alice).await["topic"], "T");
        assert_eq!(
            world.get(&state("m.room.join_rules"), &alice).await["join_rule"],
            "public"
        );
        assert_eq!(
            world.get(&state("m.room.history_visibility"), &alice).await["history_visibility"],
            "invited"
        );
        assert_eq!(
            world.get(&state("m.room.power_levels"), &alice).await["events_default"],
            7
        );
        let create = world.get(&state("m.room.create"), &alice).await;
        assert_eq!(
            (&create["room_version"], &create["org.example.x"]),
            (&json!(version), &json!(1))
        );
        let invite = world.get(&state(&format!("m.room.member/{}", bob.user)), &alice).await;
        assert_eq!(
            (&invite["membership"], &invite["is_direct"]),
            (&json!("invite"), &json!(true))
        );
        let alias = format!("/_matrix/client/v3/directory/room/%23n{version}:alpha.example");
        assert_eq!(world.get(&alias, &bob).await["room_id"], json!(room));
    }
    let (_, listed) = world
        .ask("GET", "/_matrix/client/v3/publicRooms?limit=3", None, Value::Null)
        .await;
    assert_eq!(
        (
            listed["chunk"].as_array().unwrap().len(),
            &listed["total_room_count_estimate"]
        ),
        (3, &json!(4))
    );
    let found = json!({"filter": {"generic_search_term": "n11"}});
    let found = world.ok("POST", "/_matrix/client/v3/publicRooms", &bob, found).await;
    assert_eq!(found["chunk"].as_array().unwrap().len(), 1);

    let create = "/_matrix/client/v3/createRoom";
    for (options, code) in [
        (json!({"room_version": "5"}), "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({"room_alias_name": "n12"}), "M_ROOM_IN_USE"),
        (json!({"room_alias_name": "a:b"}), "M_INVALID_PARAM"),
    ] {
        assert_eq!(
            world.refused("POST", create, &alice, options.clone()).await.1,
            code,
            "{options}"
        );
    }
}

#[tokio::test]
async fn invitations_joins_kicks_and_bans_follow_the_rules() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let room = world.room(&alice, json!({})).await;
    let at = |what: &str| format!("/_matrix/client/v3/rooms/{room}/{what}");
    assert_eq!(world.refused("POST", &at("join"), &bob, json!({})).await.0, 403);
    assert_eq!(
        world
            .refused("POST", &at("invite"), &bob, json!({"user_id": carol.user}))
            .await
            .0,
        403
    );
    let ghost = json!({"user_id": "@ghost:alpha.example"});
    assert_eq!(world.refused("POST", &at("invite"), &alice, ghost).await.0, 404);
    world.invite_and_join(&room, &alice, &bob).await;
    // Joining again succeeds.
    world
        .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
        .await;
    let joined = world.get(&at("joined_members"), &bob).await;
    assert_eq!(joined["joined"].as_object().unwrap().len(), 2);
    assert_eq!(joined["joined"][bob.user.as_str()]["display_name"], "bob");
    assert_eq!(
        world.get("/_matrix/client/v3/joined_rooms", &bob).await["joined_rooms"],
        json!([room])
    );

    assert_eq!(
        world
            .refused("POST", &at("kick"), &bob, json!({"user_id": alice.user}))
            .await
            .0,
        403
    );
    let out = json!({"user_id": bob.user, "reason": "noise"});
    world.ok("POST", &at("kick"), &alice, out.clone()).await;
    assert_eq!(
        world.refused("POST", &at("kick"), &alice, out.clone()).await.1,
        "M_BAD_STATE"
    );
    world.ok("POST", &at("ban"), &alice, out.clone()).await;
    assert_eq!(
        world
            .refused("POST", &at("invite"), &alice, json!({"user_id": bob.user}))
            .await
            .0,
        403
    );
    world.ok("POST", &at("unban"), &alice, out).await;
    world.invite_and_join(&room, &alice, &bob).await;
    assert_eq!(world.refused("POST", &at("forget"), &bob, json!({})).await.0, 400);
    world.ok("POST", &at("leave"), &bob, json!({"reason": "bye"})).await;
    world.ok("POST", &at("leave"), &bob, json!({})).await;
    let members = world.get(&at("members?membership=leave"), &alice).await;
    assert_eq!(members["chunk"][0]["content"]["reason"], "bye");
    world.ok("POST", &at("forget"), &bob, json!({})).await;
    assert_eq!(
        world.refused("GET", &at("messages?dir=b"), &bob, Value::Null).await.0,
        403
    );
}

#[tokio::test]
async fn users_can_knock_and_join_by_another_rooms_membership() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let rules = |content: Value| json!([{"type": "m.room.join_rules", "content": content}]);
    let knock = world
        .room(&alice, json!({"initial_state": rules(json!({"join_rule": "knock"}))}))
        .await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/knock/{knock}"),
            &bob,
            json!({"reason": "please"}),
        )
        .await;
    let path = format!("/_matrix/client/v3/rooms/{knock}/state/m.room.member/{}", bob.user);
    assert_eq!(world.get(&path, &alice).await["membership"], "knock");
    let seen = world.sync(&bob, None, "").await;
    assert!(kinds(&seen["rooms"]["knock"][&knock]["knock_state"]["events"]).contains(&"m.room.create"));

    let team = world.room(&alice, json!({})).await;
    let allow = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": team}]});
    let open = world.room(&alice, json!({"initial_state": rules(allow)})).await;
    let join = format!("/_matrix/client/v3/join/{open}");
    assert_eq!(world.refused("POST", &join, &bob, json!({})).await.0, 403);
    world.invite_and_join(&team, &alice, &bob).await;
    world.ok("POST", &join, &bob, json!({})).await;
}

#[tokio::test]
async fn remote_operations_are_requested_from_other_servers() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let join = "/_matrix/client/v3/join/!r:beta.example?via=gamma.example&server_name=delta.example";
    assert_eq!(world.refused("POST", join, &alice, json!({})).await.0, 502);
    let room = world.room(&alice, json!({"invite": ["@bob:beta.example"]})).await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    assert_eq!(
        world
            .refused("POST", &invite, &alice, json!({"user_id": "@bob:beta.example"}))
            .await
            .0,
        502
    );
    let state = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/@bob:beta.example");
    assert_eq!(
        world
            .refused("PUT", &state, &alice, json!({"membership": "invite"}))
            .await
            .0,
        502
    );
    world
        .refused(
            "GET",
            "/_matrix/client/v3/directory/room/%23x:beta.example",
            &alice,
            Value::Null,
        )
        .await;
    world
        .refused(
            "GET",
            "/_matrix/client/v3/profile/@bob:beta.example",
            &alice,
            Value::Null,
        )
        .await;
    world
        .refused(
            "GET",
            "/_matrix/client/v3/publicRooms?server=beta.example",
            &alice,
            Value::Null,
        )
        .await;
    let nowhere = "/_matrix/client/v3/join/!unknown";
    assert_eq!(world.refused("POST", nowhere, &alice, json!({})).await.0, 404);
    let asked = world.asked.0.lock().unwrap().clone();
    let invited = format!("invite {} @bob:beta.example {room}", alice.user);
    let expected = [
        format!("join {} !r:beta.example gamma.example,beta.example", alice.user),
        invited.clone(),
        invited.clone(),
        invited,
        format!("alias #x:beta.example for {}", alice.user),
        format!("profile @bob:beta.example for {}", alice.user),
        format!("rooms beta.example for {}", alice.user),
    ];
    // ruma reads `server_name` only if there is no `via`.
    let normal = |line: &String| line.replace(",delta.example", "");
    assert_eq!(asked.iter().map(normal).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_retried_message_is_sent_once() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/once");
    let first = world
        .ok("PUT", &send, &alice, json!({"body": "x", "msgtype": "m.text"}))
        .await;
    let again = world
        .ok("PUT", &send, &alice, json!({"body": "x", "msgtype": "m.text"}))
        .await;
    assert_eq!(first, again);
    let event = first["event_id"].as_str().unwrap();
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/r1");
    let redaction = world.ok("PUT", &redact, &alice, json!({"reason": "typo"})).await;
    assert_eq!(
        world.ok("PUT", &redact, &alice, json!({"reason": "typo"})).await,
        redaction
    );
    let shown = world
        .get(&format!("/_matrix/client/v3/rooms/{room}/event/{event}"), &alice)
        .await;
    assert_eq!(shown["content"], json!({}));
    let floats = json!({"body": "x", "n": 1.5});
    let other = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/other");
    assert_eq!(world.refused("PUT", &other, &alice, floats).await.0, 400);
    let large = json!({"body": "x".repeat(70_000)});
    assert_eq!(world.refused("PUT", &other, &alice, large).await.0, 413);
}

#[tokio::test]
async fn unsigned_data_has_the_transaction_id_the_redaction_and_the_replaced_state() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = world
        .room(&alice, json!({"name": "old", "preset": "public_chat"}))
        .await;
    world.invite_and_join(&room, &alice, &bob).await;
    let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/mine");
    let sent = world
        .ok("PUT", &send, &alice, json!({"body": "x", "msgtype": "m.text"}))
        .await;
    let event = sent["event_id"].as_str().unwrap();
    let renamed = world
        .set_state(&room, &alice, "m.room.name", "", json!({"name": "new"}))
        .await;
    let unsigned = |timeline: &Value, id: &str| {
        let events = timeline.as_array().unwrap();
        events.iter().find(|event| event["event_id"] == id).unwrap()["unsigned"].clone()
    };
    let messages = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=50");
    let one = format!("/_matrix/client/v3/rooms/{room}/event/{event}");
    let context = format!("/_matrix/client/v3/rooms/{room}/context/{event}");
    for (who, transaction) in [(&alice, json!("mine")), (&bob, Value::Null)] {
        let sync = world.sync(who, None, "").await;
        let synced = &sync["rooms"]["join"][&room]["timeline"]["events"];
        let paged = world.get(&messages, who).await;
        for timeline in [synced, &paged["chunk"]] {
            assert_eq!(unsigned(timeline, event)["transaction_id"], transaction);
            assert_eq!(unsigned(timeline, &renamed)["prev_content"], json!({"name": "old"}));
            assert!(unsigned(timeline, event).get("prev_content").is_none());
        }
        assert_eq!(world.get(&one, who).await["unsigned"]["transaction_id"], transaction);
        let around = world.get(&context, who).await;
        assert_eq!(around["event"]["unsigned"]["transaction_id"], transaction);
    }
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/r1");
    let redaction = world.ok("PUT", &redact, &alice, json!({"reason": "typo"})).await;
    let shown = world.get(&one, &bob).await;
    let because = &shown["unsigned"]["redacted_because"];
    assert_eq!(shown["content"], json!({}));
    assert_eq!(because["event_id"], redaction["event_id"]);
    assert_eq!(because["content"]["reason"], "typo");
    let paged = world.get(&messages, &bob).await;
    assert_eq!(
        &unsigned(&paged["chunk"], event)["redacted_because"]["sender"],
        alice.user.as_str()
    );
}

#[tokio::test]
async fn a_thread_can_be_read_by_its_root() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    let root = world.send_text(&room, &alice, "root").await;
    let mut answers = Vec::new();
    for n in 0..5 {
        world.send_text(&room, &alice, "unrelated").await;
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/answer{n}");
        let relates = json!({"rel_type": "m.thread", "event_id": root});
        let content = json!({"msgtype": "m.text", "body": "answer", "m.relates_to": relates});
        let sent = world.ok("PUT", &path, &alice, content).await;
        answers.insert(0, sent["event_id"].as_str().unwrap().to_owned());
    }
    let reaction = format!("/_matrix/client/v3/rooms/{room}/send/m.reaction/r");
    let relates = json!({"rel_type": "m.annotation", "event_id": root, "key": "+"});
    world
        .ok("PUT", &reaction, &alice, json!({"m.relates_to": relates}))
        .await;
    let relations = format!("/_matrix/client/v1/rooms/{room}/relations/{root}");
    let all = world.get(&relations, &alice).await;
    assert_eq!(ids(&all["chunk"]).len(), 6);
    let thread = format!("{relations}/m.thread");
    let first = world.get(&format!("{thread}?limit=3"), &alice).await;
    assert_eq!(ids(&first["chunk"]), answers[..3]);
    let next = first["next_batch"].as_str().unwrap();
    let second = world.get(&format!("{thread}?limit=3&from={next}"), &alice).await;
    assert_eq!(ids(&second["chunk"]), answers[3..]);
    assert!(second.get("next_batch").is_none(), "{second}");
    let forward = world.get(&format!("{thread}/m.room.message?dir=f"), &alice).await;
    answers.reverse();
    assert_eq!(ids(&forward["chunk"]), answers);
    let none = world.get(&format!("{thread}/m.reaction"), &alice).await;
    assert_eq!(none["chunk"], json!([]));
    assert_eq!(world.refused("GET", &relations, &bob, Value::Null).await.0, 404);
}

#[tokio::test]
async fn threads_are_listed_by_their_newest_reply() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let answer = async |who, root: &str, relation: &str| {
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/send/m.room.message/{}",
            rand::random::<u64>()
        );
        let relates = json!({"rel_type": relation, "event_id": root});
        let content = json!({"msgtype": "m.text", "body": "answer", "m.relates_to": relates});
        world.ok("PUT", &path, who, content).await;
    };
    let mut roots = Vec::new();
    for who in [&alice, &alice, &bob, &alice] {
        roots.push(world.send_text(&room, who, "root").await);
    }
    // The last one has no thread, only an edit. The first one has replies before and after the others.
    for (who, root) in [(&alice, 0), (&bob, 1), (&alice, 2), (&alice, 0)] {
        answer(who, &roots[root], "m.thread").await;
        world.send_text(&room, &alice, "unrelated").await;
    }
    answer(&alice, &roots[3], "m.replace").await;
    answer(&alice, "$nowhere", "m.thread").await;

    let threads = format!("/_matrix/client/v1/rooms/{room}/threads");
    let of = |order: &[usize]| order.iter().map(|root| roots[*root].clone()).collect::<Vec<_>>();
    let all = world.get(&threads, &alice).await;
    assert_eq!(ids(&all["chunk"]), of(&[0, 2, 1]));
    assert!(all.get("next_batch").is_none(), "{all}");
    assert_eq!(all["chunk"][0]["room_id"], json!(room));
    let mut paged = Vec::new();
    let mut from = String::new();
    loop {
        let page = world.get(&format!("{threads}?limit=1{from}"), &alice).await;
        assert!(ids(&page["chunk"]).len() <= 1);
        paged.extend(ids(&page["chunk"]));
        match page["next_batch"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => break,
        }
    }
    assert_eq!(paged, of(&[0, 2, 1]), "each listed once");
    // Bob sent the root of one and a reply in another.
    let own = world.get(&format!("{threads}?include=participated"), &bob).await;
    assert_eq!(ids(&own["chunk"]), of(&[2, 1]));

    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{}/r", roots[1]);
    world.ok("PUT", &redact, &alice, json!({})).await;
    let all = world.get(&threads, &alice).await;
    assert_eq!(ids(&all["chunk"]), of(&[0, 2, 1]), "a redacted root keeps its replies");
    let carol = world.person("carol").await;
    assert_eq!(world.refused("GET", &threads, &carol, Value::Null).await.0, 403);
}

#[tokio::test]
async fn a_missing_body_counts_as_an_empty_object() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world
        .room(&alice, json!({"preset": "public_chat", "room_alias_name": "open"}))
        .await;
    let knockable = json!({"initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]});
    let knockable = world.room(&alice, knockable).await;
    let message_id = world.send_text(&room, &alice, "hello").await;
    let in_room = |what: &str| format!("/_matrix/client/v3/rooms/{room}/{what}");
    for path in [
        in_room("join"),
        in_room(&format!("receipt/m.read/{message_id}")),
        in_room("read_markers"),
        in_room("leave"),
        in_room("forget"),
        "/_matrix/client/v3/join/%23open:alpha.example".to_owned(),
        format!("/_matrix/client/v3/join/{room}"),
        in_room("leave"),
        format!("/_matrix/client/v3/knock/{knockable}"),
        "/_matrix/client/v3/createRoom".to_owned(),
        "/_matrix/client/v3/publicRooms".to_owned(),
        "/_matrix/client/v3/keys/upload".to_owned(),
        "/_matrix/client/v3/logout".to_owned(),
    ] {
        // No body at all, not even `{}`.
        world.ok("POST", &path, &bob, Value::Null).await;
    }
    let put = format!("/_matrix/client/v3/rooms/{room}/redact/{message_id}/r");
    world.ok("PUT", &put, &alice, Value::Null).await;
    world
        .ok("POST", "/_matrix/client/v3/logout/all", &alice, Value::Null)
        .await;
    let (dora, path) = (world.person("dora").await, "/_matrix/client/v3/account/deactivate");
    let (status, answer) = world.ask("POST", path, Some(&dora.token), Value::Null).await;
    assert_eq!(status, 401, "the password is required: {answer}");
    assert!(answer["session"].is_string(), "{answer}");
}

#[tokio::test]
async fn a_login_without_a_type_is_refused() {
    let world = World::new().await;
    let dora = world.person("dora").await;
    for body in [
        Value::Null,
        json!({}),
        json!({"type": "m.login.password", "user": "dora"}),
        json!({"type": "m.login.password", "password": "x"}),
    ] {
        let missing = world.refused("POST", "/_matrix/client/v3/login", &dora, body).await;
        assert_eq!(missing, (400, "M_MISSING_PARAM".to_owned()));
    }
    let other = json!({"type": "m.login.token", "token": "x"});
    let refused = world.refused("POST", "/_matrix/client/v3/login", &dora, other).await;
    assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()));
}

#[tokio::test]
async fn the_user_directory_finds_users_who_share_a_room() {
    let world = World::new().await;
    let (alice, bob, carol) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
    );
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let search = "/_matrix/client/v3/user_directory/search";
    let found = world.ok("POST", search, &alice, json!({"search_term": "BO"})).await;
    assert_eq!(found["results"][0]["user_id"], json!(bob.user));
    let all = json!({"search_term": "alpha.example"});
    let found = world.ok("POST", search, &alice, all.clone()).await;
    assert_eq!(
        found["results"].as_array().unwrap().len(),
        1,
        "neither the user herself nor carol"
    );
    assert_eq!(world.ok("POST", search, &carol, all).await["results"], json!([]));
}

/// W10.
#[tokio::test]
async fn the_user_directory_searches_public_rooms_and_ignores_room_nicknames() {
    let world = World::new().await;
    let (alice, bob, carol, dave) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("carol").await,
        world.person("dave").await,
    );
    let search = async |who: &Person, term: &str| {
        let path = "/_matrix/client/v3/user_directory/search";
        world.ok("POST", path, who, json!({"search_term": term})).await["results"].clone()
    };
    let profile = format!("/_matrix/client/v3/profile/{}/displayname", bob.user);
    world.ok("PUT", &profile, &bob, json!({"displayname": "Robert"})).await;
    let public = world
        .room(&bob, json!({"preset": "public_chat", "visibility": "public"}))
        .await;
    world.room(&dave, json!({})).await;
    assert_eq!(search(&alice, "robert").await[0]["user_id"], json!(bob.user));
    assert_eq!(search(&alice, "dave").await, json!([]), "the room is private");
    let private = world.room(&bob, json!({})).await;
    world.invite_and_join(&private, &bob, &carol).await;
    for room in [&public, &private] {
        let member = json!({"membership": "join", "displayname": "Secret Nickname"});
        world
            .set_state(room, &bob, "m.room.member", bob.user.as_str(), member)
            .await;
    }
    for who in [&alice, &carol] {
        assert_eq!(search(who, "nickname").await, json!([]));
        assert_eq!(search(who, "robert").await[0]["display_name"], "Robert");
    }
}

/// W10: a room with the join rule `public` counts also if it is not in the directory, as long as the rule applies.
#[tokio::test]
async fn the_user_directory_finds_members_of_rooms_with_public_join_rule() {
    let world = World::new().await;
    let (alice, dave) = (world.person("alice").await, world.person("dave").await);
    let search = async || {
        let path = "/_matrix/client/v3/user_directory/search";
        let found = world.ok("POST", path, &alice, json!({"search_term": "dave"})).await;
        found["results"].as_array().unwrap().len()
    };
    assert_eq!(search().await, 0);
    let open = world.room(&dave, json!({"preset": "public_chat"})).await;
    assert_eq!(search().await, 1);
    for (rule, found) in [("invite", 0), ("knock", 0), ("public", 1)] {
        let content = json!({"join_rule": rule});
        world.set_state(&open, &dave, "m.room.join_rules", "", content).await;
        assert_eq!(search().await, found, "{rule}");
    }
    // More commits than are searched: all rooms are read again.
    let private = world.room(&alice, json!({})).await;
    for number in 0..1_010 {
        world.send_text(&private, &alice, &number.to_string()).await;
    }
    assert_eq!(search().await, 1);
    let leave = format!("/_matrix/client/v3/rooms/{open}/leave");
    world.ok("POST", &leave, &dave, json!({})).await;
    assert_eq!(search().await, 0, "a user who has left is not found through the room");
}

/// W11 and T133: cached data is never older than the store.
#[tokio::test]
async fn the_public_directory_follows_every_change() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let list = async |filter: Value| {
        let body = json!({"filter": filter});
        let synced = world.ok("POST", "/_matrix/client/v3/publicRooms", &alice, body).await;
        let chunk = synced["chunk"].as_array().unwrap().clone();
        assert_eq!(synced["total_room_count_estimate"], chunk.len());
        chunk
    };
    let names = async |filter: Value| {
        let chunk = list(filter).await;
        let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
        chunk.iter().map(name).collect::<Vec<_>>()
    };
    assert!(list(json!({})).await.is_empty());
    let public = |name: &str, kind: Option<&str>| {
        let creation = kind.map_or(json!({}), |kind| json!({"type": kind}));
        json!({"preset": "public_chat", "visibility": "public", "name": name, "creation_content": creation})
    };
    let chat = world.room(&alice, public("chat", None)).await;
    assert_eq!(list(json!({})).await[0]["num_joined_members"], 1);
    let space = world.room(&alice, public("space", Some("m.space"))).await;
    world
        .ok("POST", &format!("/_matrix/client/v3/join/{space}"), &bob, json!({}))
        .await;
    assert_eq!(names(json!({})).await, ["space", "chat"], "the larger room first");
    for (types, expected) in [
        (json!([null]), vec!["chat"]),
        (json!(["m.space"]), vec!["space"]),
        (json!([null, "m.space"]), vec!["space", "chat"]),
        (json!(["other"]), vec![]),
        (json!([]), vec!["space", "chat"]),
        (Value::Null, vec!["space", "chat"]),
    ] {
        let filter = if types.is_null() {
            json!({})
        } else {
            json!({"room_types": types})
        };
        assert_eq!(names(filter.clone()).await, expected, "{filter}");
    }
    world
        .set_state(&chat, &alice, "m.room.name", "", json!({"name": "renamed"}))
        .await;
    assert_eq!(names(json!({"generic_search_term": "REN"})).await, ["renamed"]);
    assert_eq!(names(json!({"generic_search_term": "chat"})).await, [] as [&str; 0]);
    for (access, expected) in [("can_join", true), ("forbidden", false), ("", false)] {
        let content = json!({"guest_access": access});
        world.set_state(&chat, &alice, "m.room.guest_access", "", content).await;
        let entry = &list(json!({"generic_search_term": "renamed"})).await[0];
        assert_eq!(entry["guest_can_join"], expected, "{access}");
    }
    for n in 0..3 {
        world.send_text(&chat, &alice, &n.to_string()).await;
    }
    let listed = format!("/_matrix/client/v3/directory/list/room/{space}");
    world.ok("PUT", &listed, &alice, json!({"visibility": "private"})).await;
    assert_eq!(names(json!({})).await, ["renamed"]);
    world.ok("PUT", &listed, &alice, json!({"visibility": "public"})).await;
    assert_eq!(names(json!({})).await, ["space", "renamed"]);
    for who in [&alice, &bob] {
        let leave = format!("/_matrix/client/v3/rooms/{space}/leave");
        world.ok("POST", &leave, who, json!({})).await;
    }
    assert_eq!(names(json!({})).await, ["renamed"], "the room has no members");
}

#[tokio::test]
async fn messages_are_paginated_in_both_directions() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let mut message_id = Vec::new();
    for n in 0..25 {
        message_id.push(world.send_text(&room, &alice, &n.to_string()).await);
    }
    let filter = "filter=%7B%22types%22%3A%5B%22m.room.message%22%5D%7D";
    let base = format!("/_matrix/client/v3/rooms/{room}/messages?limit=10&{filter}");
    for dir in ["b", "f"] {
        let mut read = Vec::new();
        let mut from = String::new();
        loop {
            let page = world.get(&format!("{base}&dir={dir}{from}"), &alice).await;
            read.extend(ids(&page["chunk"]));
            let Some(end) = page["end"].as_str() else { break };
            from = format!("&from={end}");
        }
        if dir == "b" {
            read.reverse();
        }
        assert_eq!(read, message_id, "{dir}");
    }
    let middle = &message_id[12];
    let around = world
        .get(
            &format!("/_matrix/client/v3/rooms/{room}/context/{middle}?limit=4"),
            &alice,
        )
        .await;
    assert_eq!(around["event"]["event_id"], json!(middle));
    assert_eq!(
        ids(&around["events_before"]),
        [message_id[11].clone(), message_id[10].clone()]
    );
    assert_eq!(
        ids(&around["events_after"]),
        [message_id[13].clone(), message_id[14].clone()]
    );
    let on = format!("{base}&dir=f&from={}&to={}", around["end"].as_str().unwrap(), "t999999");
    assert_eq!(ids(&world.get(&on, &alice).await["chunk"])[0], message_id[15]);
    let back = format!("{base}&dir=b&from={}", around["start"].as_str().unwrap());
    assert_eq!(ids(&world.get(&back, &alice).await["chunk"])[0], message_id[9]);
}

#[tokio::test]
async fn a_departed_user_reads_up_to_the_departure_and_a_non_member_nothing() {
    let world = World::new().await;
    let (alice, bob, eve) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("eve").await,
    );
    let room = world.room(&alice, json!({})).await;
    world.invite_and_join(&room, &alice, &bob).await;
    let before = world.send_text(&room, &alice, "before").await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &bob,
            json!({}),
        )
        .await;
    world
        .set_state(&room, &alice, "m.room.name", "", json!({"name": "secret"}))
        .await;
    let after = world.send_text(&room, &alice, "after").await;
    let messages = format!("/_matrix/client/v3/rooms/{room}/messages");
    for query in ["?dir=b&limit=100", "?dir=f&limit=100"] {
        let read = ids(&world.get(&format!("{messages}{query}"), &bob).await["chunk"]);
        assert!(read.contains(&before) && !read.contains(&after), "{query} {read:?}");
    }
    let event = |id: &str| format!("/_matrix/client/v3/rooms/{room}/event/{id}");
    world.get(&event(&before), &bob).await;
    assert_eq!(world.refused("GET", &event(&after), &bob, Value::Null).await.0, 404);
    let state = world.get(&format!("/_matrix/client/v3/rooms/{room}/state"), &bob).await;
    assert!(!kinds(&state).contains(&"m.room.name"));
    for path in [
        "state",
        "members",
        "messages?dir=b",
        "joined_members",
        "aliases",
        &format!("context/{before}"),
    ] {
        let path = format!("/_matrix/client/v3/rooms/{room}/{path}");
        let (status, _) = world.refused("GET", &path, &eve, Value::Null).await;
        assert!(status == 403 || status == 404, "{path}");
    }
    let invited = format!("/_matrix/client/v3/rooms/{room}/invite");
    world.ok("POST", &invited, &alice, json!({"user_id": eve.user})).await;
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &eve,
            json!({}),
        )
        .await;
    assert_eq!(
        world
            .refused("GET", &format!("{messages}?dir=b"), &eve, Value::Null)
            .await
            .0,
        403
    );
}

/// A display name that another member takes, and the reason of a redaction, are later than the departure too.
#[tokio::test]
async fn unsigned_data_for_a_departed_user_has_no_later_changes() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    let base = format!("/_matrix/client/v3/rooms/{room}");
    world.invite_and_join(&room, &alice, &bob).await;
    let message_id = world.send_text(&room, &alice, "before").await;
    world.ok("POST", &format!("{base}/leave"), &bob, json!({})).await;
    let member = json!({"membership": "join", "displayname": "Later Name"});
    world
        .set_state(&room, &alice, "m.room.member", alice.user.as_str(), member)
        .await;
    let redact = format!("{base}/redact/{message_id}/1");
    world
        .ok("PUT", &redact, &alice, json!({"reason": "a later reason"}))
        .await;
    let lazy = encoded(&json!({"lazy_load_members": true}));
    for path in [
        format!("messages?dir=b&limit=100&filter={lazy}"),
        format!("context/{message_id}?limit=50&filter={lazy}"),
        format!("context/{message_id}?limit=50"),
        format!("event/{message_id}"),
        "members".to_owned(),
        "state".to_owned(),
    ] {
        let synced = world.get(&format!("{base}/{path}"), &bob).await.to_string();
        assert!(
            !synced.contains("Later Name") && !synced.contains("a later reason"),
            "{path}: {synced}"
        );
    }
    let event = world.get(&format!("{base}/event/{message_id}"), &bob).await;
    assert_eq!(event["unsigned"]["redacted_because"]["type"], "m.room.redaction");
    let synced = world.get(&format!("{base}/event/{message_id}"), &alice).await;
    assert_eq!(
        synced["unsigned"]["redacted_because"]["content"]["reason"],
        "a later reason"
    );
    // Events after the departure don't change what the user may read.
    for (who, action, body) in [
        (&alice, "ban", json!({"user_id": bob.user})),
        (&alice, "unban", json!({"user_id": bob.user})),
        (&alice, "invite", json!({"user_id": bob.user})),
        (&bob, "leave", json!({})),
    ] {
        world.ok("POST", &format!("{base}/{action}"), who, body).await;
        let secret = world.send_text(&room, &alice, "later").await;
        let hidden = world
            .refused("GET", &format!("{base}/event/{secret}"), &bob, Value::Null)
            .await;
        assert_eq!(hidden.0, 404, "{action}");
        if action != "invite" {
            let read = ids(&world.get(&format!("{base}/messages?dir=b&limit=100"), &bob).await["chunk"]);
            assert!(read.contains(&message_id) && !read.contains(&secret), "{action}");
        }
    }
}

#[tokio::test]
async fn aliases_are_deleted_by_their_creator_or_with_the_power_to_name_the_room() {
    let world = World::new().await;
    let (alice, bob, eve) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("eve").await,
    );
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    for person in [&bob, &eve] {
        world
            .ok("POST", &format!("/_matrix/client/v3/join/{room}"), person, json!({}))
            .await;
    }
    let alias = |name: &str| format!("/_matrix/client/v3/directory/room/%23{name}:alpha.example");
    world.ok("PUT", &alias("bobs"), &bob, json!({"room_id": room})).await;
    assert_eq!(
        world
            .refused("PUT", &alias("bobs"), &eve, json!({"room_id": room}))
            .await
            .0,
        409
    );
    assert_eq!(world.refused("DELETE", &alias("bobs"), &eve, Value::Null).await.0, 403);
    let aliases = world
        .get(&format!("/_matrix/client/v3/rooms/{room}/aliases"), &eve)
        .await;
    assert_eq!(aliases["aliases"], json!(["#bobs:alpha.example"]));
    let other = world.room(&alice, json!({})).await;
    let path = format!("/_matrix/client/v3/rooms/{other}/state/m.room.canonical_alias");
    let stolen = json!({"alias": "#bobs:alpha.example"});
    assert_eq!(world.refused("PUT", &path, &alice, stolen).await.1, "M_BAD_ALIAS");
    world.ok("DELETE", &alias("bobs"), &alice, Value::Null).await;
    assert_eq!(world.refused("GET", &alias("bobs"), &bob, Value::Null).await.0, 404);
    let list = format!("/_matrix/client/v3/directory/list/room/{room}");
    assert_eq!(
        world
            .refused("PUT", &list, &eve, json!({"visibility": "public"}))
            .await
            .0,
        403
    );
    world.ok("PUT", &list, &alice, json!({"visibility": "public"})).await;
    assert_eq!(world.get(&list, &eve).await["visibility"], "public");
}

/// W6. A remote alias is resolved on its own server, which does not exist in this test.
#[tokio::test]
async fn a_canonical_alias_must_exist_and_point_to_the_room() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (room, other) = (world.room(&alice, json!({})).await, world.room(&alice, json!({})).await);
    for (name, of) in [("here", &room), ("there", &other)] {
        let path = format!("/_matrix/client/v3/directory/room/%23{name}:alpha.example");
        world.ok("PUT", &path, &alice, json!({"room_id": of})).await;
    }
    let (here, there, nowhere) = ("#here:alpha.example", "#there:alpha.example", "#nowhere:alpha.example");
    for path in ["m.room.canonical_alias", "m.room.canonical_alias/"] {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{path}");
        for (content, code) in [
            (json!({"alias": nowhere}), "M_BAD_ALIAS"),
            (json!({"alias": there}), "M_BAD_ALIAS"),
            (json!({"alias": here, "alt_aliases": [nowhere]}), "M_BAD_ALIAS"),
            (json!({"alt_aliases": ["#x:beta.example"]}), "M_BAD_ALIAS"),
            (json!({"alias": 7}), "M_INVALID_PARAM"),
            (json!({"alias": {"a": here}}), "M_INVALID_PARAM"),
            (json!({"alias": "here"}), "M_INVALID_PARAM"),
            (json!({"alt_aliases": here}), "M_INVALID_PARAM"),
            (json!({"alt_aliases": [1]}), "M_INVALID_PARAM"),
        ] {
            let refused = world.refused("PUT", &path, &alice, content.clone()).await;
            assert_eq!(refused, (400, code.to_owned()), "{content}");
        }
        for content in [
            json!({"alias": here, "alt_aliases": [here]}),
            json!({"alias": null}),
            json!({}),
            json!({"alias": ""}),
        ] {
            world.ok("PUT", &path, &alice, content).await;
        }
    }
    // An existing alias may stay in the event although it was deleted since.
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.canonical_alias");
    world.ok("PUT", &path, &alice, json!({"alias": here})).await;
    let directory = "/_matrix/client/v3/directory/room/%23here:alpha.example";
    world.ok("DELETE", directory, &alice, Value::Null).await;
    world.ok("PUT", &path, &alice, json!({"alt_aliases": [here]})).await;
    for initial in [
        json!({"alias": nowhere}),
        json!({"alias": 7}),
        json!({"alt_aliases": [there]}),
    ] {
        let event = json!({"type": "m.room.canonical_alias", "state_key": "", "content": initial});
        let body = json!({"initial_state": [event]});
        let refused = world
            .refused("POST", "/_matrix/client/v3/createRoom", &alice, body)
            .await;
        assert_eq!(refused.0, 400, "{initial}");
    }
    let event = json!({"type": "m.room.canonical_alias", "content": {"alias": "#new:alpha.example"}});
    let body = json!({"room_alias_name": "new", "initial_state": [event]});
    world.ok("POST", "/_matrix/client/v3/createRoom", &alice, body).await;
}
