//! What scripts and clients without WebSockets do: exchange updates, send messages, read presence.

use std::num::NonZeroU32;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use weft_gateway::ratelimit::UserLimiter;

use crate::world::{Sent, World};

/// "a" by client 1, then "b" after it.
const FIRST: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];
const SECOND: &[u8] = &[1, 1, 1, 1, 0x84, 1, 0, 1, b'b', 0];

#[tokio::test]
async fn two_programs_exchange_updates() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Text").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "viewer").await.0, 200);
    world.join(&doc, &bob).await;
    let (updates, sync) = (format!("/documents/{doc}/updates"), format!("/documents/{doc}/sync"));

    let (status, early) = world.send_bytes(&alice, &updates, SECOND).await;
    assert_eq!((status, &early["errcode"]), (409, &json!("DEV_WEFT_UPDATES_MISSING")));
    assert_eq!(early["stateVector"], json!(STANDARD.encode([0])));

    let (status, first) = world.send_bytes(&alice, &updates, FIRST).await;
    assert_eq!(status, 200, "{first}");
    let (status, second) = world.send_bytes(&alice, &updates, SECOND).await;
    assert_eq!(status, 200, "{second}");
    assert!(second["version"].as_u64() > first["version"].as_u64());
    let (_, again) = world.send_bytes(&alice, &updates, SECOND).await;
    assert_eq!(again, second, "the same update again changes nothing");

    // Bob has the first block.
    let (status, missing) = world.send_bytes(&bob, &sync, &[1, 1, 1]).await;
    assert_eq!((status, missing), (200, json!(SECOND)));
    let (_, everything) = world.send_bytes(&bob, &sync, &[]).await;
    assert_eq!(everything, world.get(&bob, &format!("/documents/{doc}/content")).await);
}

#[tokio::test]
async fn an_update_needs_the_right_to_edit_and_a_valid_encoding() {
    let world = World::new().await;
    let (alice, bob, mallory) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("mallory").await,
    );
    let doc = world.create(&alice, "Text").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "viewer").await.0, 200);
    world.join(&doc, &bob).await;
    let updates = format!("/documents/{doc}/updates");
    for (person, body, status, errcode) in [
        (&bob, FIRST, 403, "M_FORBIDDEN"),
        (&mallory, FIRST, 404, "M_NOT_FOUND"),
        (&alice, &[1, 1][..], 400, "DEV_WEFT_UPDATE_REFUSED"),
        (&alice, &[][..], 400, "DEV_WEFT_UPDATE_REFUSED"),
    ] {
        let (got, answer) = world.send_bytes(person, &updates, body).await;
        assert_eq!(
            (got, answer["errcode"].as_str()),
            (status, Some(errcode)),
            "{body:?}: {answer}"
        );
    }
    let large = vec![0; (8 << 20) + 1];
    let (status, answer) = world.send_bytes(&alice, &updates, &large).await;
    assert_eq!((status, answer["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
    let (status, answer) = world
        .send_bytes(&alice, &format!("/documents/{doc}/sync"), &[0xff])
        .await;
    assert_eq!(
        (status, answer["errcode"].as_str()),
        (400, Some("M_INVALID_PARAM")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_message_is_sent_once_for_an_idempotency_key() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    let mut sent = Vec::new();
    for (key, message) in [("one", "hello"), ("one", "hello"), ("two", "hello")] {
        let request = Sent {
            token: Some(&alice.token),
            headers: &[("idempotency-key", key)],
            body: Some(json!({ "message": message }).to_string().into_bytes()),
        };
        let answer = world.call("POST", &format!("/documents/{doc}/chat"), request).await;
        assert_eq!(answer.status, 201);
        sent.push(serde_json::from_slice::<Value>(&answer.body).unwrap());
    }
    assert_eq!(sent[0], sent[1]);
    assert_ne!(sent[0]["messageId"], sent[2]["messageId"]);
    assert!(sent[0]["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
    let too_long = "k".repeat(201);
    for key in ["", &too_long] {
        let request = Sent {
            token: Some(&alice.token),
            headers: &[("idempotency-key", key)],
            body: Some(b"{\"message\": \"x\"}".to_vec()),
        };
        let answer = world.call("POST", &format!("/documents/{doc}/chat"), request).await;
        assert_eq!(answer.status, 400, "{} bytes", key.len());
    }
}

#[tokio::test]
async fn answers_tell_what_is_left_of_the_limit() {
    let world = World::limited(UserLimiter::per_minute(NonZeroU32::new(2).unwrap())).await;
    let alice = world.person("alice").await;
    let shown = |text: &str| Some(text.to_owned());
    let policy = shown("\"requests\";q=2;w=60");
    for (path, status, left, retry) in [
        ("/documents", 200, "\"requests\";r=1;t=30", None),
        ("/documents/nonsense", 400, "\"requests\";r=0;t=60", None),
        ("/documents", 429, "\"requests\";r=0;t=30", shown("30")),
    ] {
        let answer = world.ask(Some(&alice.token), "GET", path, None).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.limits, [shown(left), policy.clone(), retry], "{path}");
    }
    let stranger = world.ask(None, "GET", "/documents", None).await;
    assert_eq!((stranger.status, stranger.limits), (401, [None, None, None]));
}
