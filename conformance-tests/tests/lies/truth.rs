//! The malicious server in its honest mode: without this test, a refused attack would prove nothing. Must not attack.

use anyhow::Result;
use ruma::RoomVersionId;
use serde_json::json;
use weft_conformance_tests::malicious::Room;

use crate::stage::Stage;

#[tokio::test]
async fn an_honest_servers_events_are_accepted() -> Result<()> {
    let stage = Stage::new().await?;
    for version in ["12", "11", "10"] {
        let (id, mut room, mallory) = stage.room_of_alice(version).await?;
        for number in 0..3 {
            let content = json!({ "msgtype": "m.text", "body": format!("true {number}") });
            room.send(&stage.malicious, &mallory, "m.room.message", None, content)?;
        }
        let messages: Vec<_> = room
            .order
            .iter()
            .rev()
            .take(3)
            .rev()
            .map(|id| room.events[id].clone())
            .collect();
        let answer = stage
            .malicious
            .transaction(stage.server(), &messages, &[])
            .await?
            .ok()?;
        assert!(
            answer["pdus"]
                .as_object()
                .unwrap()
                .values()
                .all(|result| result == &json!({})),
            "{answer}"
        );
        stage.until_said(&id, "true 2").await?;
        stage.alice.say(&id, "received").await?;
        stage
            .malicious
            .until_asked("/_matrix/federation/v1/send/", |asked| {
                asked.body.to_string().contains("received")
            })
            .await?;
        room.catch_up(&stage.malicious, stage.server(), &mallory).await?;
        let content = json!({ "msgtype": "m.text", "body": "after catching up" });
        let event = room.event(&stage.malicious, &mallory, "m.room.message", None, content)?;
        stage.malicious.transaction(stage.server(), &[event], &[]).await?.ok()?;
        stage.until_said(&id, "after catching up").await?;
        stage.malicious.forget();
    }
    Ok(())
}

#[tokio::test]
async fn a_room_of_an_honest_server_can_be_joined() -> Result<()> {
    let stage = Stage::new().await?;
    for version in [RoomVersionId::V12, RoomVersionId::V11, RoomVersionId::V10] {
        let mallory = stage.malicious.user("mallory");
        let room = Room::create(&stage.malicious, &version, &mallory)?;
        let room = stage.malicious.host(room);
        let id = room.lock().id.clone();
        stage.alice.join(&id, Some(stage.malicious.name().as_str())).await?;
        let event = {
            let room = room.lock();
            let content = json!({ "msgtype": "m.text", "body": "welcome" });
            room.event(&stage.malicious, &mallory, "m.room.message", None, content)?
        };
        stage.malicious.transaction(stage.server(), &[event], &[]).await?.ok()?;
        stage.until_said(&id, "welcome").await?;
    }
    Ok(())
}
