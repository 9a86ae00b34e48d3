//! T49: a peer whose clock is an hour off is treated as any other; its timestamps do not affect the order of events.
//! Must not change the local clock.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::malicious::now;

use crate::stage::Stage;

const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn t49_a_clock_that_is_an_hour_off_changes_no_order() -> Result<()> {
    let stage = Stage::new().await?;
    // The malicious server's keys are valid for a day of its own clock, which ends an hour earlier or later than by
    // ours.
    for (number, ts) in [now() - HOUR, now() + HOUR].into_iter().enumerate() {
        let mut keys = stage.malicious.published_keys();
        keys["valid_until_ts"] = json!(ts + 24 * HOUR);
        keys.as_object_mut().unwrap().remove("signatures");
        let keys = stage.malicious.signed_json(&keys);
        stage.malicious.always_answers("/_matrix/key/v2/server", keys);
        let (id, mut room, mallory) = stage.room_of_alice("12").await?;
        let text = format!("sent at another hour {number}");
        let mut event = room.draft(
            &mallory,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": text }),
        )?;
        event["origin_server_ts"] = json!(ts);
        let event = stage.malicious.sign(&event, &room.version)?;
        stage
            .malicious
            .transaction(stage.server(), std::slice::from_ref(&event), &[])
            .await?
            .ok()?;
        stage.until_said(&id, &text).await?;
        stage.alice.say(&id, "an answer").await?;
        let bodies = stage.alice.messages(&id).await?;
        assert_eq!(
            bodies.first().map(String::as_str),
            Some("an answer"),
            "events are ordered by arrival, not by the peer's timestamp"
        );
        room.take(&event)?;
    }
    Ok(())
}
