//! T54 and T66, as far as served: device keys and to-device messages are not supported, so EDUs about them are dropped,
//! and neither stored nor forwarded. Must not assume end-to-end encryption.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use weft_conformance_tests::client::segment;

use crate::stage::Stage;

#[tokio::test]
async fn t54_t66_floods_of_device_edus_are_neither_stored_nor_forwarded() -> Result<()> {
    let stage = Stage::new().await?;
    let (room, ..) = stage.room_of_alice("12").await?;
    let (alice, mallory) = (&stage.alice, stage.malicious.user("mallory"));
    let key = "x".repeat(60_000);
    let of = |user: &str, stream: u64| {
        json!({ "edu_type": "m.device_list_update", "content": {
            "user_id": user, "device_id": "D", "stream_id": stream, "prev_id": [],
            "keys": { "user_id": user, "device_id": "D", "algorithms": [], "keys": { "ed25519:D": key } },
        }})
    };
    let (forward, far) = (of(&mallory, 7), of(&mallory, (1 << 53) - 1));
    stage
        .malicious
        .transaction(
            stage.server(),
            &[],
            &[forward, far, of(&mallory, 1), of(&alice.user, 1)],
        )
        .await?
        .ok()?;
    for round in 0..10 {
        let to_device = |number: usize| {
            json!({ "edu_type": "m.direct_to_device", "content": {
                "sender": mallory, "type": "m.room_key", "message_id": format!("{round}-{number}"),
                "messages": { &alice.user: { "*": { "secret": "flood" } } },
            }})
        };
        let edus: Vec<_> = (0..100).map(to_device).collect();
        stage.malicious.transaction(stage.server(), &[], &edus).await?.ok()?;
    }
    let signing = json!({ "edu_type": "m.signing_key_update", "content": { "user_id": alice.user } });
    stage
        .malicious
        .transaction(stage.server(), &[], &[signing])
        .await?
        .ok()?;
    stage.alice.say(&room, "still here").await?;
    let sync = alice.get("/_matrix/client/v3/sync?timeout=0").await?;
    assert!(!sync.to_string().contains("flood"), "{sync}");
    for at in ["/to_device/events", "/device_lists/changed"] {
        assert!(sync.pointer(at).is_none_or(|list| list == &json!([])), "{at}: {sync}");
    }
    let wanted = json!({ "device_keys": { &mallory: [], &alice.user: [] } });
    let keys = alice.post("/_matrix/client/v3/keys/query", wanted.clone()).await?;
    assert_eq!(keys["device_keys"], json!({}));

    let users = segment(&alice.user);
    for (method, path, body) in [
        (
            Method::GET,
            format!("/_matrix/federation/v1/user/devices/{users}"),
            None,
        ),
        (
            Method::POST,
            "/_matrix/federation/v1/user/keys/query".to_owned(),
            Some(&wanted),
        ),
        (
            Method::POST,
            "/_matrix/federation/v1/user/keys/claim".to_owned(),
            Some(&wanted),
        ),
    ] {
        let answer = stage.malicious.ask(stage.server(), method, &path, body).await?;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
    Ok(())
}
