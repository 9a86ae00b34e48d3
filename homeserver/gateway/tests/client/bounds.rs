//! Limits on data that users store on the server: each string has a maximum length, each kind of row a maximum number.

use axum::body::Body;
use serde_json::{Value, json};
use weft_wire::limits::MAX_EVENT_BYTES_PER_USER_AND_DAY;

use super::world::World;

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn login(field: &str, value: String) -> Value {
    let mut body = json!({"type": "m.login.password", "user": "alice", "password": "correct horse"});
    body[field] = value.into();
    body
}

fn register(field: &str, value: String) -> Value {
    let mut body = json!({"username": "bob", "password": "correct horse", "auth": {"type": "m.login.dummy"}});
    body[field] = value.into();
    body
}

/// Requests of `user` with a string that is too long to store.
fn too_long(user: &str, device: &str) -> Vec<(&'static str, String, Value)> {
    let name = "initial_device_display_name";
    vec![
        ("POST", "login".to_owned(), login("device_id", long(256))),
        ("POST", "login".to_owned(), login("device_id", String::new())),
        ("POST", "login".to_owned(), login(name, long(513))),
        ("POST", "register".to_owned(), register("device_id", long(256))),
        ("POST", "register".to_owned(), register(name, long(513))),
        ("POST", "register".to_owned(), register("username", long(256))),
        ("POST", "register".to_owned(), register("password", long(1_025))),
        ("PUT", format!("devices/{device}"), json!({"display_name": long(513)})),
        (
            "PUT",
            format!("profile/{user}/avatar_url"),
            json!({"avatar_url": long(1_001)}),
        ),
        (
            "PUT",
            format!("profile/{user}/displayname"),
            json!({"displayname": long(513)}),
        ),
        ("PUT", format!("profile/{user}/{}", long(256)), json!({long(256): 1})),
        ("PUT", format!("user/{user}/account_data/{}", long(256)), json!({})),
        (
            "PUT",
            format!("user/{user}/account_data/a"),
            json!({"x": long(256 * 1024)}),
        ),
        (
            "POST",
            format!("user/{user}/filter"),
            json!({"event_fields": [long(64 * 1024)]}),
        ),
    ]
}

#[tokio::test]
async fn every_string_of_an_account_has_a_maximum_length() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let devices = world.get("/_matrix/client/v3/devices", &alice).await;
    let device = devices["devices"][0]["device_id"].as_str().unwrap().to_owned();
    for (method, path, body) in too_long(alice.user.as_str(), &device) {
        let path = format!("/_matrix/client/v3/{path}");
        let (status, answer) = world.ask(method, &path, Some(&alice.token), body).await;
        let shown = &path[..path.len().min(80)];
        assert!(matches!(status, 400 | 413), "{method} {shown} {status}: {answer}");
    }
    let (status, _) = world
        .ask("POST", "/_matrix/client/v3/login", None, login("device_id", long(255)))
        .await;
    assert_eq!(status, 200);
    let available = "/_matrix/client/v3/register/available?username=bob";
    let (status, _) = world.ask("GET", available, None, Value::Null).await;
    assert_eq!(status, 200, "a refused registration creates no account");
}

#[tokio::test]
async fn weak_passwords_are_refused_on_every_endpoint() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "correct horse"});
    for weak in ["x", "1234567", "", "\u{1F600}\u{1F600}"] {
        for (path, body) in [
            ("register", json!({"username": "bob", "password": weak})),
            (
                "register",
                json!({"username": "bob", "password": weak, "auth": {"type": "m.login.dummy"}}),
            ),
            ("account/password", json!({"new_password": weak, "auth": auth})),
        ] {
            let path = format!("/_matrix/client/v3/{path}");
            let refused = world.refused("POST", &path, &alice, body).await;
            assert_eq!(refused, (400, "M_WEAK_PASSWORD".to_owned()), "{path} {weak:?}");
        }
    }
    let body = json!({"new_password": "12345678", "auth": auth});
    world
        .ok("POST", "/_matrix/client/v3/account/password", &alice, body)
        .await;
}

#[tokio::test]
async fn account_data_has_a_quota_and_can_be_deleted() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let path = |n: usize| format!("/_matrix/client/v3/user/{}/account_data/org.example.{n}", alice.user);
    let large = json!({"x": "y".repeat(240_000)});
    let mut stored = 0;
    let refused = loop {
        let (status, answer) = world.ask("PUT", &path(stored), Some(&alice.token), large.clone()).await;
        if status != 200 {
            break (status, answer["errcode"].clone());
        }
        stored += 1;
        assert!(stored < 200, "200 pieces of 240 KB are accepted");
    };
    assert_eq!(refused, (413, json!("M_TOO_LARGE")));
    assert!(stored >= 10, "{stored}");
    world.ok("PUT", &path(0), &alice, json!({"small": true})).await;
    world.ok("PUT", &path(stored), &alice, large).await;
}

#[tokio::test]
async fn a_sync_contains_changed_account_data_and_that_of_new_rooms() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let data = |path: &str| format!("/_matrix/client/v3/user/{}/{path}", alice.user);
    let room = world.room(&bob, json!({"preset": "public_chat"})).await;
    for n in 0..3 {
        let path = data(&format!("account_data/org.example.{n}"));
        world.ok("PUT", &path, &alice, json!({"n": n})).await;
    }
    // Before alice has joined the room, as clients do with an invitation.
    let in_room = data(&format!("rooms/{room}/account_data/org.example.room"));
    world.ok("PUT", &in_room, &alice, json!({"old": true})).await;
    let first = world.sync(&alice, None, "").await;
    let kinds = |sync: &Value| {
        let events = sync["account_data"]["events"].as_array().cloned().unwrap_or_default();
        let kinds = events.iter().map(|event| event["type"].as_str().unwrap().to_owned());
        kinds.filter(|kind| kind.starts_with("org.example")).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&first).len(), 3);
    let since = first["next_batch"].as_str().unwrap();
    for n in [7, 8] {
        world
            .ok("PUT", &data("account_data/org.example.1"), &alice, json!({"n": n}))
            .await;
    }
    let path = format!("/_matrix/client/v3/join/{room}");
    world.ok("POST", &path, &alice, json!({})).await;
    let second = world.sync(&alice, Some(since), "").await;
    assert_eq!(kinds(&second), ["org.example.1"]);
    let events = &second["account_data"]["events"];
    assert_eq!(events[0]["content"], json!({"n": 8}));
    let events = &second["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(events[0]["content"], json!({"old": true}), "{second}");
    let since = second["next_batch"].as_str().unwrap();
    world.ok("PUT", &in_room, &alice, json!({"old": false})).await;
    let third = world.sync(&alice, Some(since), "").await;
    assert!(kinds(&third).is_empty());
    let events = &third["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(events[0]["content"], json!({"old": false}), "{third}");
}

#[tokio::test]
async fn an_erased_account_leaves_no_data() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let auth = json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "correct horse"});
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.example.x", alice.user);
    world.ok("PUT", &path, &alice, json!({"private": true})).await;
    let body = json!({"auth": auth, "erase": true});
    world
        .ok("POST", "/_matrix/client/v3/account/deactivate", &alice, body)
        .await;
    let kept = world
        .server
        .accounts
        .account_data(&alice.user, None, "org.example.x")
        .await;
    assert_eq!(kept.unwrap(), None);
    assert!(
        world
            .server
            .accounts
            .account_data_since(&alice.user, 0, u64::MAX)
            .await
            .unwrap()
            .is_empty()
    );
}

/// A body with invalid UTF-8 is refused as not JSON, on every endpoint and at every position in the body.
#[tokio::test]
async fn a_body_that_is_not_utf_8_is_refused_as_not_json() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = world.room(&alice, json!({})).await;
    let bodies: [&[u8]; 4] = [
        b"{\"username\": \"a\xff\", \"password\": \"correct horse\"}",
        b"{\"unknown\": \"\xc3\x28\"}",
        b"{\"auth\": {\"type\": \"m.login.dummy\", \"x\": \"\xed\xa0\x80\"}}",
        b"\xff",
    ];
    for (method, path) in [
        ("POST", "register".to_owned()),
        ("POST", "login".to_owned()),
        ("POST", "account/password".to_owned()),
        ("POST", "createRoom".to_owned()),
        ("PUT", format!("rooms/{room}/send/m.room.message/1")),
        ("PUT", format!("user/{}/account_data/org.example.x", alice.user)),
    ] {
        for body in bodies {
            let path = format!("/_matrix/client/v3/{path}");
            let request = World::request(method, &path, Some(&alice.token));
            let (status, _, answer) = world.send(request.body(Body::from(body)).unwrap()).await;
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(
                (status, &answer["errcode"]),
                (400, &json!("M_NOT_JSON")),
                "{path} {}",
                String::from_utf8_lossy(body)
            );
        }
    }
}

/// T19: the counterpart for users of this server to the daily bytes of another server.
#[tokio::test]
async fn the_event_bytes_of_a_user_are_limited_per_day_on_every_endpoint() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world
        .ok(
            "POST",
            "/_matrix/client/v3/createRoom",
            &alice,
            json!({"preset": "public_chat"}),
        )
        .await;
    let room = room["room_id"].as_str().unwrap().to_owned();
    let path = |rest: &str| format!("/_matrix/client/v3/{rest}");
    world.ok("POST", &path(&format!("join/{room}")), &bob, json!({})).await;
    // As much becomes available again in the time of one request.
    let use_up = || {
        let (budget, now) = (world.server.rooms.event_bytes(), std::time::Instant::now());
        let left = MAX_EVENT_BYTES_PER_USER_AND_DAY - budget.spent_by(&alice.user, now);
        budget.spend(&alice.user, left, now).unwrap();
    };
    let message = json!({"msgtype": "m.text", "body": long(50_000)});
    for (method, rest, body) in [
        ("PUT", format!("rooms/{room}/send/m.room.message/1"), message.clone()),
        (
            "PUT",
            format!("rooms/{room}/state/m.room.topic/"),
            json!({"topic": long(50_000)}),
        ),
        // The event has the topic twice, and must stay below 64 KiB.
        ("POST", "createRoom".to_owned(), json!({"topic": long(30_000)})),
    ] {
        use_up();
        let (status, answer) = world.ask(method, &path(&rest), Some(&alice.token), body).await;
        assert_eq!(
            (status, answer["errcode"].as_str()),
            (429, Some("M_LIMIT_EXCEEDED")),
            "{rest}: {answer}"
        );
        assert!(
            answer["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0),
            "{answer}"
        );
    }
    world
        .ok(
            "PUT",
            &path(&format!("rooms/{room}/send/m.room.message/1")),
            &bob,
            message,
        )
        .await;
}
