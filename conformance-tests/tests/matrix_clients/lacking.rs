//! Requests of stock clients for what the server does not have: it responds with the standard error, or with an empty
//! result where a client would fail otherwise, and the client continues. `MATRIX-CLIENTS.md` lists both. Must not hide
//! a missing endpoint.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::segment,
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// Method and path; `ROOM` and `USER` are replaced. Each is answered with 404 and `M_UNRECOGNIZED`.
const NOT_SERVED: [(&str, &str); 13] = [
    ("GET", "/_matrix/client/v1/media/preview_url?url=https://example.org"),
    ("POST", "/_matrix/client/v3/rooms/ROOM/upgrade"),
    ("GET", "/_matrix/client/v1/rooms/ROOM/hierarchy"),
    ("POST", "/_matrix/client/v3/rooms/ROOM/report"),
    ("POST", "/_matrix/client/v3/pushers/set"),
    (
        "PUT",
        "/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled",
    ),
    ("GET", "/_matrix/client/v3/room_keys/version"),
    ("POST", "/_matrix/client/v3/keys/device_signing/upload"),
    ("GET", "/_matrix/client/v3/account/3pid"),
    ("GET", "/_matrix/client/v3/voip/turnServer"),
    ("POST", "/_matrix/client/v3/user/USER/openid/request_token"),
    ("GET", "/_matrix/client/v1/auth_metadata"),
    ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"),
];

/// Requests with an empty result, for clients that need a success: method, path, body, response.
fn empty_results() -> [(&'static str, &'static str, Value, Value); 5] {
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

async fn request_missing_endpoints(stock: &Stock, room: &str) -> Result<()> {
    for (method, path) in NOT_SERVED {
        let answer = ask(stock, room, method, path, &Value::Null).await?;
        assert_eq!(answer["errcode"], "M_UNRECOGNIZED", "{method} {path}: {answer}");
        assert_eq!(answer["status"], 404, "{method} {path}: {answer}");
    }
    for (method, path, body, expected) in empty_results() {
        let answer = ask(stock, room, method, path, &body).await?;
        assert_eq!(answer["body"], expected, "{method} {path}: {answer}");
    }
    Ok(())
}

async fn continue_without(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let room = pair.room().await?;
    for (from, to) in [(&pair.host, &pair.guest), (&pair.guest, &pair.host)] {
        request_missing_endpoints(from, &room).await?;
        let content = json!({"msgtype": "m.text", "body": "all the same"});
        let event = from.send(&room, "m.room.message", content).await?;
        to.until_seen(json!({"event_id": event})).await?;
    }
    Ok(())
}

#[tokio::test]
async fn js_sdk_and_nio_continue_without_missing_endpoints() -> Result<()> {
    continue_without(Kind::JsSdk, Kind::Nio).await
}
