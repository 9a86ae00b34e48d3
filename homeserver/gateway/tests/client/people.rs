//! Registration, login, tokens, profiles, devices, and the rules for every request.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use weft_gateway::{client::Registration, ratelimit::UserLimiter};

use super::world::{SECRET, World};

const REGISTER: &str = "/_matrix/client/v3/register";

#[tokio::test]
async fn registration_requires_its_stage_and_logs_in() {
    let world = World::new().await;
    let wanted = json!({"username": "alice", "password": "correct horse", "refresh_token": true});
    let (status, asked) = world.ask("POST", REGISTER, None, wanted.clone()).await;
    assert_eq!((status, &asked["flows"][0]["stages"]), (401, &json!(["m.login.dummy"])));
    let mut again = wanted.clone();
    again["auth"] = json!({"type": "m.login.dummy", "session": asked["session"]});
    let (status, session) = world.ask("POST", REGISTER, None, again.clone()).await;
    assert_eq!(
        (status, &session["user_id"]),
        (200, &json!("@alice:alpha.example")),
        "{session}"
    );
    assert!(session["refresh_token"].is_string() && session["expires_in_ms"].is_u64());
    let token = session["access_token"].as_str();
    let (status, me) = world
        .ask("GET", "/_matrix/client/v3/account/whoami", token, Value::Null)
        .await;
    assert_eq!((status, &me["device_id"]), (200, &session["device_id"]));
    // The session has ended, and the name is taken.
    let (status, taken) = world.ask("POST", REGISTER, None, again).await;
    assert_eq!((status, &taken["errcode"]), (400, &json!("M_USER_IN_USE")));
    let available = format!("{REGISTER}/available?username=alice");
    assert_eq!(world.ask("GET", &available, None, Value::Null).await.0, 400);
}

#[tokio::test]
async fn registration_can_be_disabled_or_require_a_token() {
    let closed = World::with(Registration::Closed, UserLimiter::off()).await;
    let (status, body) = closed
        .ask(
            "POST",
            REGISTER,
            None,
            json!({"username": "eve", "password": "correct horse"}),
        )
        .await;
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")));

    let world = World::with(Registration::Token(vec!["sesame".to_owned()]), UserLimiter::off()).await;
    for (token, expected) in [("wrong", 401), ("sesame", 200)] {
        let wanted = json!({"username": "bob", "password": "correct horse"});
        let (_, asked) = world.ask("POST", REGISTER, None, wanted.clone()).await;
        assert_eq!(asked["flows"][0]["stages"], json!(["m.login.registration_token"]));
        let mut again = wanted;
        again["auth"] = json!({"type": "m.login.registration_token", "token": token, "session": asked["session"]});
        assert_eq!(world.ask("POST", REGISTER, None, again).await.0, expected, "{token}");
    }
}

#[tokio::test]
async fn operators_register_accounts_with_the_shared_secret() {
    let world = World::with(Registration::Closed, UserLimiter::off()).await;
    let path = "/_synapse/admin/v1/register";
    let (_, given) = world.ask("GET", path, None, Value::Null).await;
    let nonce = given["nonce"].as_str().unwrap();
    let mac = |secret: &str| -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{nonce}\0root\0correct horse\0admin").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    };
    let request = |mac: String| json!({"nonce": nonce, "username": "root", "password": "correct horse", "admin": true, "mac": mac});
    let (status, _) = world.ask("POST", path, None, request(mac(SECRET))).await;
    assert_eq!(status, 200);
    assert!(
        world
            .server
            .accounts
            .account(ruma::user_id!("@root:alpha.example"))
            .await
            .unwrap()
            .unwrap()
            .admin
    );
    assert_eq!(
        world.ask("POST", path, None, request(mac(SECRET))).await.0,
        403,
        "the nonce was used"
    );
    let (_, given) = world.ask("GET", path, None, Value::Null).await;
    let mut forged = request(mac("another secret"));
    forged["nonce"] = given["nonce"].clone();
    assert_eq!(world.ask("POST", path, None, forged).await.0, 403);
}

#[tokio::test]
async fn a_user_logs_in_with_a_password_and_logs_out() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let login = |user: &str, password: &str| {
        json!({"type": "m.login.password", "password": password,
               "identifier": {"type": "m.id.user", "user": user}, "device_id": "PHONE"})
    };
    let path = "/_matrix/client/r0/login";
    let (status, session) = world.ask("POST", path, None, login("alice", "correct horse")).await;
    assert_eq!((status, &session["device_id"]), (200, &json!("PHONE")));
    let old = json!({"type": "m.login.password", "password": "correct horse", "user": alice.user});
    assert_eq!(world.ask("POST", path, None, old).await.0, 200, "the deprecated form");
    let (status, refused) = world.ask("POST", path, None, login("alice", "wrong")).await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_FORBIDDEN")));
    let token = session["access_token"].as_str();
    assert_eq!(
        world.ask("POST", "/_matrix/client/v3/logout", token, json!({})).await.0,
        200
    );
    let (status, gone) = world.ask("GET", "/_matrix/client/v3/sync", token, Value::Null).await;
    assert_eq!((status, &gone["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")));
    world
        .ok("POST", "/_matrix/client/v3/logout/all", &alice, json!({}))
        .await;
    assert_eq!(
        world
            .ask(
                "GET",
                "/_matrix/client/v3/joined_rooms",
                Some(&alice.token),
                Value::Null
            )
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn sensitive_operations_require_the_password_again() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    let path = "/_matrix/client/v3/account/deactivate";
    let (status, asked) = world.ask("POST", path, Some(&alice.token), json!({})).await;
    assert_eq!(
        (status, &asked["flows"][0]["stages"]),
        (401, &json!(["m.login.password"]))
    );
    let auth = |password: &str| {
        json!({"auth": {"type": "m.login.password", "session": asked["session"], "password": password,
                        "identifier": {"type": "m.id.user", "user": "alice"}}})
    };
    assert_eq!(
        world.ask("POST", path, Some(&bob.token), auth("correct horse")).await.0,
        401,
        "the session of another user"
    );
    assert_eq!(world.ask("POST", path, Some(&alice.token), auth("wrong")).await.0, 401);
    assert_eq!(
        world
            .ask("POST", path, Some(&alice.token), auth("correct horse"))
            .await
            .0,
        200
    );
    assert_eq!(
        world
            .ask(
                "GET",
                "/_matrix/client/v3/account/whoami",
                Some(&alice.token),
                Value::Null
            )
            .await
            .0,
        401
    );
    let room = ruma::RoomId::parse(room).unwrap();
    assert!(
        world
            .server
            .rooms
            .reader()
            .joined_members(&room)
            .await
            .unwrap()
            .is_empty()
    );
}

enum Who {
    Nobody,
    Nonsense,
    Alice,
}
use Who::{Alice, Nobody, Nonsense};

const ODD_REQUESTS: [(&str, &str, Who, &str, u16, &str); 9] = [
    ("GET", "/_matrix/client/v3/nothing", Nobody, "", 404, "M_UNRECOGNIZED"),
    ("GET", "/elsewhere", Nobody, "", 404, "M_UNRECOGNIZED"),
    (
        "DELETE",
        "/_matrix/client/v3/createRoom",
        Nobody,
        "",
        405,
        "M_UNRECOGNIZED",
    ),
    (
        "POST",
        "/_matrix/client/v3/createRoom",
        Nobody,
        "{}",
        401,
        "M_MISSING_TOKEN",
    ),
    (
        "POST",
        "/_matrix/client/v3/createRoom",
        Nonsense,
        "{}",
        401,
        "M_UNKNOWN_TOKEN",
    ),
    ("POST", "/_matrix/client/v3/createRoom", Alice, "{", 400, "M_NOT_JSON"),
    (
        "POST",
        "/_matrix/client/v3/createRoom",
        Alice,
        "{\"invite\": 5}",
        400,
        "M_BAD_JSON",
    ),
    (
        "GET",
        "/_matrix/client/v3/rooms/nope/joined_members",
        Alice,
        "",
        400,
        "M_INVALID_PARAM",
    ),
    (
        "GET",
        "/_matrix/client/v3/sync?since=yesterday",
        Alice,
        "",
        400,
        "M_INVALID_PARAM",
    ),
];

#[tokio::test]
async fn every_endpoint_has_uniform_errors() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    for (method, path, who, body, status, code) in ODD_REQUESTS {
        let token = match who {
            Nobody => None,
            Nonsense => Some("nonsense"),
            Alice => Some(&*alice.token),
        };
        let (found, headers, answer) = world.raw(method, path, token, body.to_owned()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (found, &answer["errcode"]),
            (status, &json!(code)),
            "{method} {path} {answer}"
        );
        assert!(answer["error"].is_string());
        assert_eq!(headers["access-control-allow-origin"], "*", "{method} {path}");
    }
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2_000_000));
    let (status, _, _) = world
        .raw("POST", "/_matrix/client/v3/createRoom", Some(&alice.token), large)
        .await;
    assert_eq!(status, 413);
    let by_query = format!("/_matrix/client/v3/joined_rooms?access_token={}", alice.token);
    assert_eq!(world.ask("GET", &by_query, None, Value::Null).await.0, 200);
}

#[tokio::test]
async fn rate_limited_requests_get_a_retry_after() {
    let world = World::limited(5).await;
    let alice = world.person("alice").await;
    for _ in 0..5 {
        world.get("/_matrix/client/v3/joined_rooms", &alice).await;
    }
    let path = "/_matrix/client/v3/joined_rooms";
    let (status, headers, body) = world.raw("GET", path, Some(&alice.token), String::new()).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")));
    assert!(body["retry_after_ms"].as_u64().unwrap() > 0 && headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_new_display_name_is_sent_to_the_rooms() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.room(&alice, json!({})).await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", alice.user);
    world.ok("PUT", &path, &alice, json!({"displayname": "Alice A."})).await;
    let member = world
        .get(
            &format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", alice.user),
            &alice,
        )
        .await;
    assert_eq!(
        (&member["displayname"], &member["membership"]),
        (&json!("Alice A."), &json!("join"))
    );
    assert_eq!(world.get(&path, &bob).await, json!({"displayname": "Alice A."}));
    assert_eq!(
        world.refused("PUT", &path, &bob, json!({"displayname": "x"})).await.0,
        403
    );
    let nobody = "/_matrix/client/v3/profile/@nobody:alpha.example";
    assert_eq!(
        world.refused("GET", nobody, &bob, Value::Null).await,
        (404, "M_NOT_FOUND".to_owned())
    );
}

#[tokio::test]
async fn clients_store_filters_account_data_and_devices() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let base = format!("/_matrix/client/v3/user/{}", alice.user);
    let filter = json!({"room": {"timeline": {"limit": 5}}});
    let id = world
        .ok("POST", &format!("{base}/filter"), &alice, filter.clone())
        .await["filter_id"]
        .clone();
    assert_eq!(
        world
            .get(&format!("{base}/filter/{}", id.as_str().unwrap()), &alice)
            .await,
        filter
    );
    assert_eq!(
        world
            .refused("GET", &format!("{base}/filter/0"), &bob, Value::Null)
            .await
            .0,
        403
    );

    let data = format!("{base}/account_data/m.direct");
    assert_eq!(world.refused("GET", &data, &alice, Value::Null).await.0, 404);
    world
        .ok("PUT", &data, &alice, json!({"@bob:alpha.example": ["!x:y"]}))
        .await;
    assert_eq!(world.get(&data, &alice).await, json!({"@bob:alpha.example": ["!x:y"]}));
    assert_eq!(world.refused("PUT", &data, &bob, json!({})).await.0, 403);
    assert_eq!(
        world
            .refused("PUT", &format!("{base}/account_data/m.fully_read"), &alice, json!({}))
            .await
            .0,
        405
    );

    let tags = format!("{base}/rooms/!x:alpha.example/tags");
    let orders = futures_util::future::join_all((0..8).map(|n| {
        let (world, alice, path) = (&world, &alice, format!("{tags}/u.{n}"));
        async move { world.ok("PUT", &path, alice, json!({"order": 0.25})).await }
    }));
    orders.await;
    world.ok("DELETE", &format!("{tags}/u.3"), &alice, Value::Null).await;
    let kept = world.get(&tags, &alice).await;
    assert_eq!(kept["tags"].as_object().unwrap().len(), 7, "{kept}");
    assert_eq!(kept["tags"]["u.0"], json!({"order": 0.25}));
    assert_eq!(world.refused("GET", &tags, &bob, Value::Null).await.0, 403);

    let devices = world.get("/_matrix/client/v3/devices", &alice).await;
    let device = devices["devices"][0]["device_id"].as_str().unwrap().to_owned();
    world
        .ok(
            "PUT",
            &format!("/_matrix/client/v3/devices/{device}"),
            &alice,
            json!({"display_name": "here"}),
        )
        .await;
    let named = world.get(&format!("/_matrix/client/v3/devices/{device}"), &alice).await;
    assert_eq!(named["display_name"], "here");
    // matrix-nio fails if a field is missing in a list of devices.
    for device in [&devices["devices"][0], &named] {
        let fields = device.as_object().unwrap();
        assert_eq!(fields.get("last_seen_ip"), Some(&Value::Null), "{device}");
        assert!(device["last_seen_ts"].is_u64(), "{device}");
    }
}

#[tokio::test]
async fn discovery_endpoints_describe_the_server() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (_, versions) = world.ask("GET", "/_matrix/client/versions", None, Value::Null).await;
    assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.19")));
    let (_, known) = world.ask("GET", "/.well-known/matrix/client", None, Value::Null).await;
    assert_eq!(known["m.homeserver"]["base_url"], "https://alpha.example");
    assert_eq!(
        world
            .ask("GET", "/.well-known/matrix/server", None, Value::Null)
            .await
            .0,
        404
    );
    let capabilities = world.get("/_matrix/client/v3/capabilities", &alice).await;
    assert_eq!(capabilities["capabilities"]["m.room_versions"]["default"], "12");
    for path in ["pushrules/", "pushers", "presence/@alice:alpha.example/status"] {
        world.get(&format!("/_matrix/client/v3/{path}"), &alice).await;
    }
    world
        .ok(
            "POST",
            "/_matrix/client/v3/keys/query",
            &alice,
            json!({"device_keys": {}}),
        )
        .await;
}
