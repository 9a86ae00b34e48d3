//! What stock clients ask for and the server does not have: it says so in the protocol's words, or answers with nothing where
//! a client would fail otherwise, and the client goes on. `MATRIX-CLIENTS.md` lists both.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::segment,
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// By method and path; `ROOM` and `USER` stand for those of the walk. Each is answered with 404 and `M_UNRECOGNIZED`.
const NOT_SERVED: [(&str, &str); 21] = [
    ("POST", "/_matrix/media/v3/upload"),
    ("POST", "/_matrix/media/v1/create"),
    ("GET", "/_matrix/media/v3/config"),
    ("GET", "/_matrix/client/v1/media/config"),
    ("GET", "/_matrix/client/v1/media/download/example.org/picture"),
    (
        "GET",
        "/_matrix/client/v1/media/thumbnail/example.org/picture?width=32&height=32",
    ),
    ("GET", "/_matrix/client/v1/media/preview_url?url=https://example.org"),
    ("POST", "/_matrix/client/v3/rooms/ROOM/upgrade"),
    ("GET", "/_matrix/client/v1/rooms/ROOM/hierarchy"),
    ("POST", "/_matrix/client/v3/rooms/ROOM/report"),
    ("POST", "/_matrix/client/v3/search"),
    ("POST", "/_matrix/client/v3/pushers/set"),
    (
        "PUT",
        "/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled",
    ),
    ("GET", "/_matrix/client/v3/notifications"),
    ("GET", "/_matrix/client/v3/room_keys/version"),
    ("POST", "/_matrix/client/v3/keys/device_signing/upload"),
    ("GET", "/_matrix/client/v3/account/3pid"),
    ("GET", "/_matrix/client/v3/voip/turnServer"),
    ("POST", "/_matrix/client/v3/user/USER/openid/request_token"),
    ("GET", "/_matrix/client/v1/auth_metadata"),
    ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"),
];

/// What is answered with nothing, so that a client that insists on an answer goes on: method, path, body, answer.
fn answered_with_nothing() -> [(&'static str, &'static str, Value, Value); 5] {
    let counts = json!({"one_time_key_counts": {"signed_curve25519": 50}});
    [
        ("POST", "/_matrix/client/v3/keys/upload", json!({}), counts),
        (
            "POST",
            "/_matrix/client/v3/keys/query",
            json!({"device_keys": {"USER": []}}),
            json!({"device_keys": {}, "failures": {}}),
        ),
        (
            "POST",
            "/_matrix/client/v3/keys/claim",
            json!({"one_time_keys": {}}),
            json!({"one_time_keys": {}, "failures": {}}),
        ),
        (
            "GET",
            "/_matrix/client/v3/keys/changes?from=1&to=2",
            Value::Null,
            json!({"changed": [], "left": []}),
        ),
        ("GET", "/_matrix/client/v3/pushers", Value::Null, json!({"pushers": []})),
    ]
}

async fn ask(stock: &Stock, room: &str, method: &str, path: &str, body: &Value) -> Result<Value> {
    let path = path
        .replace("ROOM", &segment(room))
        .replace("USER", &segment(&stock.user));
    let mut asked = json!({"method": method, "path": path});
    if method != "GET" {
        asked["body"] = if body.is_null() { json!({}) } else { body.clone() };
    }
    stock.ask("ask", asked).await
}

async fn do_without(stock: &Stock, room: &str) -> Result<()> {
    for (method, path) in NOT_SERVED {
        let answer = ask(stock, room, method, path, &Value::Null).await?;
        assert_eq!(answer["errcode"], "M_UNRECOGNIZED", "{method} {path}: {answer}");
        assert_eq!(answer["status"], 404, "{method} {path}: {answer}");
    }
    for (method, path, body, expected) in answered_with_nothing() {
        let answer = ask(stock, room, method, path, &body).await?;
        assert_eq!(answer["body"], expected, "{method} {path}: {answer}");
    }
    Ok(())
}

async fn go_on(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let room = pair.room().await?;
    for (from, to) in [(&pair.host, &pair.guest), (&pair.guest, &pair.host)] {
        do_without(from, &room).await?;
        let content = json!({"msgtype": "m.text", "body": "all the same"});
        let event = from.send(&room, "m.room.message", content).await?;
        to.until_seen(json!({"event_id": event})).await?;
    }
    Ok(())
}

#[tokio::test]
async fn js_sdk_and_nio_go_on_without_what_is_not_served() -> Result<()> {
    go_on(Kind::JsSdk, Kind::Nio).await
}
