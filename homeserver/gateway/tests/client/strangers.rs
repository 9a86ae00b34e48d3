//! Work that a client with or without a token can cause: federation requests and concurrent joins.

use serde_json::{Value, json};

use super::world::World;

/// T124: a federation request is charged to the client that causes it. With an invalid token the client counts as anonymous.
#[tokio::test]
async fn federation_requests_are_attributed_to_the_client_that_causes_them() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let paths = [
        ("/_matrix/client/v3/profile/@bob:beta.example", "profile"),
        ("/_matrix/client/v3/profile/@bob:beta.example/displayname", "profile"),
        ("/_matrix/client/v3/directory/room/%23x:beta.example", "alias"),
        ("/_matrix/client/v3/publicRooms?server=beta.example", "rooms"),
    ];
    for (path, what) in paths {
        for (token, who) in [
            (None, "anonymous at None".to_owned()),
            (Some("made-up"), "anonymous at None".to_owned()),
            (Some(alice.token.as_str()), alice.user.to_string()),
        ] {
            world.asked.0.lock().unwrap().clear();
            assert_eq!(world.ask("GET", path, token, Value::Null).await.0, 502, "{path}");
            let asked = world.asked.0.lock().unwrap().clone();
            assert!(
                asked[0].starts_with(what) && asked[0].ends_with(&format!("for {who}")),
                "{asked:?}"
            );
        }
    }
    // Local data causes no federation request.
    world.asked.0.lock().unwrap().clear();
    let own = format!("/_matrix/client/v3/profile/{}", alice.user);
    assert_eq!(world.ask("GET", &own, None, Value::Null).await.0, 200);
    assert!(world.asked.0.lock().unwrap().is_empty());
}

/// F8: eight concurrent joins create one event.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_joins_create_one_event() {
    for options in [
        json!({"preset": "public_chat"}),
        json!({"preset": "public_chat", "room_version": "10"}),
    ] {
        let world = World::new().await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let room = world.room(&alice, options).await;
        let joins = (0..8).map(|number| {
            let (world, bob) = (world.clone(), bob.clone());
            let path = match number % 2 {
                0 => format!("/_matrix/client/v3/join/{room}"),
                _ => format!("/_matrix/client/v3/rooms/{room}/join"),
            };
            tokio::spawn(async move { world.ok("POST", &path, &bob, json!({})).await })
        });
        for joined in joins.collect::<Vec<_>>() {
            joined.await.unwrap();
        }
        let messages = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
        let page = world.get(&messages, &alice).await;
        let joins = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["type"] == "m.room.member" && event["state_key"] == json!(bob.user));
        assert_eq!(joins.count(), 1, "{page}");
    }
}

/// F8, its whole kind: concurrent leaves, joins and profile changes are applied in the order in which they take the lock, and a
/// profile change does not rejoin a departed user.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_profile_change_does_not_rejoin_a_departed_user() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for number in 0..10 {
        let room = world.room(&alice, json!({"preset": "public_chat"})).await;
        world
            .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
            .await;
        let rename = {
            let (world, bob) = (world.clone(), bob.clone());
            let path = format!("/_matrix/client/v3/profile/{}/displayname", bob.user);
            tokio::spawn(async move {
                world
                    .ok("PUT", &path, &bob, json!({"displayname": format!("B{number}")}))
                    .await
            })
        };
        let leave = format!("/_matrix/client/v3/rooms/{room}/leave");
        world.ok("POST", &leave, &bob, json!({})).await;
        rename.await.unwrap();
        let member = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", bob.user);
        assert_eq!(world.get(&member, &alice).await["membership"], "leave");
    }
}

/// W16: this server has joined the rooms whose members may join, and states what is missing without a federation request.
#[tokio::test]
async fn a_refused_restricted_join_has_this_servers_error() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for rule in ["restricted", "knock_restricted"] {
        let team = world.room(&alice, json!({})).await;
        let allow = json!({"join_rule": rule, "allow": [{"type": "m.room_membership", "room_id": team}]});
        let rules = json!([{"type": "m.room.join_rules", "content": allow}]);
        let room = world.room(&alice, json!({"initial_state": rules})).await;
        let join = format!("/_matrix/client/v3/join/{room}");
        let (status, answer) = world.ask("POST", &join, Some(&bob.token), json!({})).await;
        assert_eq!((status, answer["errcode"].as_str()), (403, Some("M_FORBIDDEN")));
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("not joined to a room whose members may join"),
            "{answer}"
        );
    }
    assert!(world.asked.0.lock().unwrap().is_empty());
}

/// A client can't choose its authorising user: membership of one of the rooms decides, and a join without changes has none.
#[tokio::test]
async fn a_client_cannot_choose_the_authorising_user_of_a_join() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    for version in ["8", "10", "12"] {
        let team = world.room(&alice, json!({})).await;
        let allow = json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": team}]});
        let rules = json!([{"type": "m.room.join_rules", "content": allow}]);
        let options = json!({"initial_state": rules, "room_version": version});
        let room = world.room(&alice, options).await;
        let member = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", bob.user);
        let forged = json!({"membership": "join", "join_authorised_via_users_server": alice.user});
        assert_eq!(world.refused("PUT", &member, &bob, forged.clone()).await.0, 403);
        world.invite_and_join(&team, &alice, &bob).await;
        world
            .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
            .await;
        let joined = world.get(&member, &bob).await;
        assert_eq!(joined["join_authorised_via_users_server"], json!(alice.user));
        let mut renamed = forged;
        renamed["displayname"] = json!("Robert");
        world.ok("PUT", &member, &bob, renamed).await;
        let renamed = world.get(&member, &bob).await;
        assert_eq!(renamed, json!({"membership": "join", "displayname": "Robert"}));
    }
}

/// Aliases have no history: a departed user sees none, not even those created later.
#[tokio::test]
async fn a_departed_user_sees_no_aliases() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({"preset": "public_chat"})).await;
    world
        .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &bob, json!({}))
        .await;
    let aliases = format!("/_matrix/client/v3/rooms/{room}/aliases");
    assert_eq!(world.get(&aliases, &bob).await["aliases"], json!([]));
    world
        .ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/leave"),
            &bob,
            json!({}),
        )
        .await;
    let alias = "/_matrix/client/v3/directory/room/%23secret:alpha.example";
    world.ok("PUT", alias, &alice, json!({"room_id": room})).await;
    assert_eq!(world.refused("GET", &aliases, &bob, Value::Null).await.0, 403);
    assert_eq!(
        world.get(&aliases, &alice).await["aliases"],
        json!(["#secret:alpha.example"])
    );
}

/// W16: before the room was created it had no members; a member may see that.
#[tokio::test]
async fn members_before_the_room_was_created_are_an_empty_list() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let before = world.sync(&alice, None, "").await["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    let room = world.room(&alice, json!({})).await;
    let page = world
        .get(
            &format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&from={before}"),
            &alice,
        )
        .await;
    for token in [before.as_str(), page["start"].as_str().unwrap_or(&before)] {
        let path = format!("/_matrix/client/v3/rooms/{room}/members?at={token}");
        assert_eq!(world.get(&path, &alice).await["chunk"], json!([]), "{token}");
    }
    let bob = world.person("bob").await;
    let path = format!("/_matrix/client/v3/rooms/{room}/members?at={before}");
    assert_eq!(world.refused("GET", &path, &bob, Value::Null).await.0, 403);
}
