//! Requests without a valid signature, the keys for checking signatures, transactions.

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{World, alpha, beta, gamma, path};

/// Every endpoint that requires a signature, with well-formed ids.
fn endpoints() -> Vec<(&'static str, String)> {
    let room = path("!room:alpha.test");
    let event = path(&format!("${}", "a".repeat(43)));
    let user = path("@bob:beta.test");
    let v1 = "/_matrix/federation/v1";
    let v2 = "/_matrix/federation/v2";
    vec![
        ("PUT", format!("{v1}/send/1")),
        ("GET", format!("{v1}/make_join/{room}/{user}")),
        ("GET", format!("{v1}/make_leave/{room}/{user}")),
        ("GET", format!("{v1}/make_knock/{room}/{user}")),
        ("PUT", format!("{v2}/send_join/{room}/{event}")),
        ("PUT", format!("{v2}/send_leave/{room}/{event}")),
        ("PUT", format!("{v1}/send_knock/{room}/{event}")),
        ("PUT", format!("{v1}/invite/{room}/{event}")),
        ("PUT", format!("{v2}/invite/{room}/{event}")),
        ("GET", format!("{v1}/event/{event}")),
        ("GET", format!("{v1}/state/{room}?event_id={event}")),
        ("GET", format!("{v1}/state_ids/{room}?event_id={event}")),
        ("GET", format!("{v1}/event_auth/{room}/{event}")),
        ("GET", format!("{v1}/backfill/{room}?v={event}&limit=1")),
        ("POST", format!("{v1}/get_missing_events/{room}")),
        ("GET", format!("{v1}/query/profile?user_id={user}")),
        ("GET", format!("{v1}/query/directory?room_alias=%23a:alpha.test")),
        ("GET", format!("{v1}/publicRooms")),
        ("POST", format!("{v1}/publicRooms")),
        ("GET", format!("/_weft/federation/v1/document/{room}")),
    ]
}

#[tokio::test]
async fn unsigned_requests_are_refused() {
    let world = World::new().await;
    for (method, path) in endpoints() {
        for header in [
            None,
            Some("Bearer x"),
            Some("X-Matrix origin=beta.test,destination=alpha.test,key=\"ed25519:test\",sig=AAAA"),
        ] {
            let mut request = axum::http::Request::builder().method(method).uri(&path);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let (status, answer) = world.raw(request.body(Body::from("{}")).unwrap()).await;
            assert_eq!(
                (status, answer["errcode"].as_str()),
                (401, Some("M_UNAUTHORIZED")),
                "{method} {path}"
            );
        }
        // An unsupported method doesn't bypass the check either.
        let request = axum::http::Request::builder()
            .method("DELETE")
            .uri(&path)
            .body(Body::empty())
            .unwrap();
        assert_eq!(world.raw(request).await.0, 405, "{path}");
    }
}

#[tokio::test]
async fn keys_and_version_need_no_signature() {
    let world = World::new().await;
    let open = |path: &str| axum::http::Request::get(path).body(Body::empty()).unwrap();
    let (status, version) = world.raw(open("/_matrix/federation/v1/version")).await;
    assert_eq!((status, version["server"]["name"].as_str()), (200, Some("Weft")));
    let (status, keys) = world.raw(open("/_matrix/key/v2/server")).await;
    assert_eq!((status, keys["server_name"].as_str()), (200, Some("alpha.test")));
    assert!(keys["signatures"]["alpha.test"].is_object());

    let query =
        json!({ "server_keys": { "beta.test": {}, "alpha.test": { "ed25519:x": { "minimum_valid_until_ts": 5 } } } });
    let request = axum::http::Request::post("/_matrix/key/v2/query")
        .body(Body::from(query.to_string()))
        .unwrap();
    let (status, answer) = world.raw(request).await;
    let keys = answer["server_keys"].as_array().unwrap();
    assert_eq!((status, keys.len()), (200, 2));
    for key in keys {
        assert!(key["signatures"]["alpha.test"].is_object(), "{key}");
        assert!(
            key["signatures"][key["server_name"].as_str().unwrap()].is_object(),
            "{key}"
        );
    }
    let (status, answer) = world.raw(open("/_matrix/key/v2/query/beta.test")).await;
    assert_eq!((status, answer["server_keys"].as_array().unwrap().len()), (200, 1));
    let many: serde_json::Map<String, Value> = (0..51).map(|n| (format!("s{n}.test"), json!({}))).collect();
    let query = json!({ "server_keys": many });
    let request = axum::http::Request::post("/_matrix/key/v2/query")
        .body(Body::from(query.to_string()))
        .unwrap();
    assert_eq!(world.raw(request).await.0, 400);
}

#[tokio::test]
async fn a_transaction_persists_events_and_reports_a_result_for_each() {
    let world = World::new().await;
    let room = world.public_room().await;
    let (join, _) = world.join("@bob:beta.test", &room).await;
    world.until_committed(&join).await;
    let bob = ruma::UserId::parse("@bob:beta.test").unwrap();
    let state = world.rooms.reader().state(&room).await.unwrap().unwrap();
    let content = weft_dag::testing::object(json!({}));
    let auth = state.auth_events("m.room.message", &bob, None, &content).unwrap();
    let (id, event) = world
        .event(
            &room,
            &bob,
            "m.room.message",
            None,
            json!({ "body": "hello" }),
            (vec![join.clone()], auth, 50),
        )
        .await;
    let mut forged = event.clone();
    forged["origin_server_ts"] = json!(1);
    let transaction = |origin: &str| json!({ "origin": origin, "origin_server_ts": 1, "pdus": [event, forged, { "type": "x" }], "edus": [{ "x": 1 }] });
    let (status, answer) = world
        .ask(beta(), "PUT", "/_matrix/federation/v1/send/1", transaction("beta.test"))
        .await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["pdus"].as_object().unwrap();
    assert_eq!(results[id.as_str()], json!({}));
    assert_eq!(results.values().filter(|result| result["error"].is_string()).count(), 1);
    world.until_committed(&id).await;
    assert!(world.rooms.reader().event(Some(&room), &id).await.unwrap().is_some());

    let (status, _) = world
        .ask(
            beta(),
            "PUT",
            "/_matrix/federation/v1/send/2",
            transaction("gamma.test"),
        )
        .await;
    assert_eq!(status, 403, "the origin in the body differs");
    let many = json!({ "origin": "beta.test", "origin_server_ts": 1, "pdus": vec![event.clone(); 51] });
    assert_eq!(
        world.ask(beta(), "PUT", "/_matrix/federation/v1/send/3", many).await.0,
        400
    );
}

#[tokio::test]
async fn only_local_profiles_and_aliases_are_served() {
    let world = World::new().await;
    let profile = |user: &str| format!("/_matrix/federation/v1/query/profile?user_id={}", path(user));
    let (status, answer) = world.get(gamma(), &profile("@alice:alpha.test")).await;
    assert_eq!((status, answer), (200, json!({ "displayname": "Alice" })));
    let (_, answer) = world
        .get(gamma(), &format!("{}&field=avatar_url", profile("@alice:alpha.test")))
        .await;
    assert_eq!(answer, json!({}));
    assert_eq!(world.get(gamma(), &profile("@nobody:alpha.test")).await.0, 404);
    assert_eq!(world.get(gamma(), &profile("@bob:beta.test")).await.0, 400);

    let alias = ruma::RoomAliasId::parse("#hall:alpha.test").unwrap();
    let room = world.public_room().await;
    world.rooms.put_alias(&alias, &room, &world.alice).await.unwrap();
    let (status, answer) = world
        .get(
            gamma(),
            "/_matrix/federation/v1/query/directory?room_alias=%23hall%3Aalpha.test",
        )
        .await;
    assert_eq!(
        (status, answer),
        (200, json!({ "room_id": room, "servers": [alpha()] }))
    );
    let (status, _) = world
        .get(
            gamma(),
            "/_matrix/federation/v1/query/directory?room_alias=%23none%3Aalpha.test",
        )
        .await;
    assert_eq!(status, 404);

    let (status, rooms) = world.get(gamma(), "/_matrix/federation/v1/publicRooms").await;
    assert_eq!((status, rooms["chunk"][0]["name"].as_str()), (200, Some("Hall")));
    let search = |words: &str| json!({ "filter": { "generic_search_term": words } });
    for (words, found) in [("hal", 1), ("garden", 0)] {
        let (_, rooms) = world
            .ask(gamma(), "POST", "/_matrix/federation/v1/publicRooms", search(words))
            .await;
        assert_eq!(rooms["chunk"].as_array().unwrap().len(), found, "{words}");
    }
}

/// The bytes that a server makes this one store in a day are limited. The transaction that exceeds the limit is refused as a
/// whole, so that it is sent again, and other servers are not affected.
#[tokio::test]
async fn the_event_bytes_of_a_server_are_limited_per_day() {
    let world = World::with(200 * 1024).await;
    let large = json!({ "type": "x", "content": { "body": "x".repeat(60_000) } });
    let transaction =
        |origin: &str| json!({ "origin": origin, "origin_server_ts": 1, "pdus": [large, large], "edus": [] });
    let send = async |origin, id: u32| {
        let path = format!("/_matrix/federation/v1/send/{id}");
        let name = if origin == beta() { "beta.test" } else { "gamma.test" };
        world.ask(origin, "PUT", &path, transaction(name)).await
    };
    assert_eq!(send(beta(), 1).await.0, 200);
    let (status, answer) = send(beta(), 2).await;
    assert_eq!((status, answer["errcode"].as_str()), (429, Some("M_LIMIT_EXCEEDED")));
    assert!(
        answer["retry_after_ms"].as_u64().is_some_and(|wait| wait > 60_000),
        "{answer}"
    );
    assert_eq!(send(gamma(), 1).await.0, 200);
}
