//! A room that one client creates and the other is invited to: identity, messages, state and redactions. Must not use
//! raw HTTP where the client has a call.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::matrix::{Kind, Stock, text};

use crate::pair::Pair;

/// The client's identity, and the server's versions and capabilities.
async fn identify(stock: &Stock) -> Result<()> {
    let own = stock.ask("whoami", json!({})).await?;
    assert_eq!(own["user_id"], json!(stock.user));
    assert_eq!(own["device_id"], json!(stock.device));
    let versions = stock.ask("versions", json!({})).await?;
    assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.1")));
    let capabilities = stock.ask("capabilities", json!({})).await?;
    assert!(capabilities["m.room_versions"]["default"].is_string(), "{capabilities}");
    Ok(())
}

/// Text, an edit, a reaction, a thread: the other client receives each as it was sent, and finds each by its relation.
async fn talk(from: &Stock, to: &Stock, room: &str) -> Result<String> {
    let say = |body: &str| json!({"msgtype": "m.text", "body": body});
    let first = from.send(room, "m.room.message", say("first")).await?;
    to.until_seen(json!({"event_id": first, "sender": from.user, "content": {"body": "first"}}))
        .await?;
    let notice = json!({"msgtype": "m.notice", "body": "noticed"});
    let notice = from.send(room, "m.room.message", notice).await?;
    let edit = json!({"msgtype": "m.text", "body": "* second", "m.new_content": say("second"),
        "m.relates_to": {"rel_type": "m.replace", "event_id": first}});
    let edit = from.send(room, "m.room.message", edit).await?;
    let reaction = json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "+1"}});
    let reaction = from.send(room, "m.reaction", reaction).await?;
    let reply = json!({"msgtype": "m.text", "body": "in a thread",
        "m.relates_to": {"rel_type": "m.thread", "event_id": first}});
    let reply = from.send(room, "m.room.message", reply).await?;
    for event in [&notice, &edit, &reaction, &reply] {
        to.until_seen(json!({"event_id": event, "room_id": room})).await?;
    }
    for (rel, kind, event) in [
        ("m.annotation", "m.reaction", &reaction),
        ("m.thread", "m.room.message", &reply),
    ] {
        let asked = json!({"room": room, "event": first, "rel": rel, "type": kind});
        let found = to.ask("relations", asked).await?;
        assert_eq!(ids(&found["chunk"]), [event.as_str()], "{rel}");
    }
    Ok(first)
}

fn ids(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap();
    events.iter().filter_map(|event| event["event_id"].as_str()).collect()
}

/// A redacted event has no content for both, and is still in the timeline.
async fn redact(from: &Stock, to: &Stock, room: &str, event: &str) -> Result<()> {
    let redaction = from.ask("redact", json!({"room": room, "event": event})).await?;
    to.until_seen(json!({"event_id": text(&redaction, "event_id")?, "type": "m.room.redaction"}))
        .await?;
    for stock in [from, to] {
        let found = stock.ask("event", json!({"room": room, "event": event})).await?;
        assert!(found["content"].as_object().unwrap().is_empty(), "{found}");
    }
    Ok(())
}

/// Name, topic, avatar and power levels, as the other's sync and server return them.
async fn change_state(host: &Stock, guest: &Stock, room: &str) -> Result<()> {
    let mut levels = host
        .ask("state", json!({"room": room, "type": "m.room.power_levels", "key": ""}))
        .await?;
    levels["users"][&guest.user] = json!(50);
    for (kind, content) in [
        ("m.room.name", json!({"name": "Another name"})),
        ("m.room.topic", json!({"topic": "Another topic"})),
        ("m.room.avatar", json!({"url": "mxc://example.org/picture"})),
        ("m.room.power_levels", levels),
    ] {
        let change = json!({"room": room, "type": kind, "key": "", "content": content});
        let event = text(&host.ask("set_state", change).await?, "event_id")?;
        guest
            .until_seen(json!({"event_id": event, "type": kind, "content": content}))
            .await?;
        let now = guest
            .ask("state", json!({"room": room, "type": kind, "key": ""}))
            .await?;
        assert_eq!(now, content);
    }
    Ok(())
}

async fn talk_in_a_room(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    identify(host).await?;
    identify(guest).await?;
    let room = pair.room().await?;
    let first = talk(host, guest, &room).await?;
    let second = talk(guest, host, &room).await?;
    change_state(host, guest, &room).await?;
    redact(host, guest, &room, &first).await?;
    redact(guest, host, &room, &second).await
}

#[tokio::test]
async fn rooms_work_with_js_sdk_as_host_and_nio_as_guest() -> Result<()> {
    talk_in_a_room(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn rooms_work_with_nio_as_host_and_js_sdk_as_guest() -> Result<()> {
    talk_in_a_room(Kind::Nio, Kind::JsSdk).await
}
