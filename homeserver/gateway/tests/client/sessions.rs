//! The end of a session: waiting requests, and user-interactive authentication for another operation.

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use weft_accounts::NewDevice;

use super::world::{Person, World};

/// Another device of the same user.
async fn device(world: &World, who: &Person, id: &str) -> Person {
    let device = NewDevice {
        id: Some(id.into()),
        ..NewDevice::default()
    };
    let session = world.server.accounts.begin_session(&who.user, device).await.unwrap();
    Person {
        user: who.user.clone(),
        token: session.access_token,
    }
}

/// A sync without changes that waits.
async fn waiting_sync(world: &World, who: &Person) -> JoinHandle<(u16, Value)> {
    let first = world.sync(who, None, "").await;
    let path = format!(
        "/_matrix/client/v3/sync?timeout=60000&since={}",
        first["next_batch"].as_str().unwrap()
    );
    let (world, token) = (world.clone(), who.token.clone());
    let request = tokio::spawn(async move { world.ask("GET", &path, Some(&token), Value::Null).await });
    // One thread and a store in memory: after this number of yields the request has read everything.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(!request.is_finished());
    request
}

/// Ends the session of `PHONE` in one of the possible ways; `DESK` sends the request if another device can.
async fn end_session(world: &World, way: &str, phone: &Person, desk: &Person) {
    let auth = json!({"type": "m.login.password", "password": "correct horse",
        "identifier": {"type": "m.id.user", "user": phone.user}});
    let (method, path, who, body) = match way {
        "sign-out" => ("POST", "logout", phone, json!({})),
        "logout everywhere" => ("POST", "logout/all", desk, json!({})),
        "device deleted" => ("DELETE", "devices/PHONE", desk, json!({"auth": auth})),
        "devices deleted" => (
            "POST",
            "delete_devices",
            desk,
            json!({"auth": auth, "devices": ["PHONE"]}),
        ),
        "new password" => (
            "POST",
            "account/password",
            desk,
            json!({"auth": auth, "new_password": "battery staple"}),
        ),
        "deactivation" => ("POST", "account/deactivate", desk, json!({"auth": auth})),
        "login on the same device" => {
            device(world, phone, "PHONE").await;
            return;
        }
        other => panic!("{other}"),
    };
    world.ok(method, &format!("/_matrix/client/v3/{path}"), who, body).await;
}

#[tokio::test]
async fn a_waiting_sync_ends_with_its_session_and_returns_no_later_events() {
    for (n, way) in [
        "sign-out",
        "logout everywhere",
        "device deleted",
        "devices deleted",
        "new password",
        "deactivation",
        "login on the same device",
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::new().await;
        let (alice, bob) = (world.person(&format!("alice{n}")).await, world.person("bob").await);
        let room = world.room(&bob, json!({})).await;
        world.invite_and_join(&room, &bob, &alice).await;
        let (phone, desk) = (
            device(&world, &alice, "PHONE").await,
            device(&world, &alice, "DESK").await,
        );
        let waiting = waiting_sync(&world, &phone).await;
        end_session(&world, way, &phone, &desk).await;
        world.send_text(&room, &bob, "after the session").await;
        let (status, answer) = waiting.await.unwrap();
        assert_eq!(
            (status, &answer["errcode"]),
            (401, &json!("M_UNKNOWN_TOKEN")),
            "{way}: {answer}"
        );
        assert_eq!(answer["soft_logout"], json!(false), "{way}");
    }
}

/// The end of a session wakes the sync on its own: nothing else happens here.
#[tokio::test]
async fn the_end_of_a_session_wakes_its_waiting_sync() {
    for way in [
        "sign-out",
        "device deleted",
        "new password",
        "deactivation",
        "login on the same device",
    ] {
        let world = World::new().await;
        let alice = world.person("alice").await;
        let (phone, desk) = (
            device(&world, &alice, "PHONE").await,
            device(&world, &alice, "DESK").await,
        );
        let waiting = waiting_sync(&world, &phone).await;
        if way == "login on the same device" {
            let login = json!({"type": "m.login.password", "user": "alice", "password": "correct horse",
                "device_id": "PHONE"});
            world.ok("POST", "/_matrix/client/v3/login", &desk, login).await;
        } else {
            end_session(&world, way, &phone, &desk).await;
        }
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
        let (status, answer) = ended.expect(way).unwrap();
        assert_eq!(status, 401, "{way}: {answer}");
    }
}

#[tokio::test]
async fn other_devices_and_users_continue_to_wait() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&bob, json!({})).await;
    world.invite_and_join(&room, &bob, &alice).await;
    let (phone, desk) = (
        device(&world, &alice, "PHONE").await,
        device(&world, &alice, "DESK").await,
    );
    let (hers, his) = (waiting_sync(&world, &desk).await, waiting_sync(&world, &bob).await);
    end_session(&world, "sign-out", &phone, &desk).await;
    let message_id = world.send_text(&room, &bob, "news").await;
    for waiting in [hers, his] {
        let (status, answer) = waiting.await.unwrap();
        let events = &answer["rooms"]["join"][&room]["timeline"]["events"];
        assert_eq!((status, &events[0]["event_id"]), (200, &json!(message_id)), "{answer}");
    }
}
