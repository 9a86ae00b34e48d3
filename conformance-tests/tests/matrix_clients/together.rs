//! What users see of each other besides messages: presence, typing, receipts; and what is not delivered: to-device
//! messages. Must not use raw HTTP where the client has a call.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// Both type and stop, one after the other; each receives the other's typing and its end.
async fn type_in_turn(host: &Stock, guest: &Stock, room: &str) -> Result<()> {
    for (from, to) in [(host, guest), (guest, host), (host, guest)] {
        from.ask("typing", json!({"room": room, "is": true})).await?;
        to.ask("until_typing", json!({"room": room, "user": from.user, "is": true}))
            .await?;
        from.ask("typing", json!({"room": room, "is": false})).await?;
        to.ask("until_typing", json!({"room": room, "user": from.user, "is": false}))
            .await?;
    }
    Ok(())
}

/// A receipt is sent to the other user, the fully-read marker only to the user's own clients; both arrive with the sync
/// loop.
async fn read(from: &Stock, to: &Stock, room: &str) -> Result<()> {
    let content = json!({"msgtype": "m.text", "body": "to be read"});
    let event = from.send(room, "m.room.message", content).await?;
    to.until_seen(json!({"event_id": event})).await?;
    to.ask("receipt", json!({"room": room, "event": event})).await?;
    let receipt = json!({"type": "m.receipt", "room_id": room, "content": {&event: {"m.read": {&to.user: {}}}}});
    from.until_seen(receipt).await?;
    let marker = json!({"type": "m.fully_read", "room_id": room, "content": {"event_id": event}});
    to.until_seen(marker.clone()).await?;
    assert_eq!(from.ask("count", json!({"part": marker})).await?["count"], 0);
    Ok(())
}

/// Presence with a status message: by a request, and with the next response of the other's sync.
async fn change_presence(from: &Stock, to: &Stock, owner: &Client, room: &str) -> Result<()> {
    let status = format!("status of {}", from.user);
    from.ask("set_presence", json!({"status": status})).await?;
    let path = format!("/_matrix/client/v3/presence/{}/status", from.user);
    let known = async || Ok((owner.get(&path).await?["status_msg"] == status).then_some(()));
    owner.until("the other's presence", known).await?;
    let shown = to.ask("ask", json!({"method": "GET", "path": path})).await?;
    assert_eq!(shown["body"]["status_msg"], status, "{shown}");
    let content = json!({"msgtype": "m.text", "body": "something to be expected"});
    from.send(room, "m.room.message", content).await?;
    let expected =
        json!({"type": "m.presence", "sender": from.user, "content": {"presence": "online", "status_msg": status}});
    to.until_seen(expected).await.map(drop)
}

/// A to-device message is accepted and dropped: without device keys there is no use for it. It does not stop the
/// client.
async fn send_to_a_device(from: &Stock, to: &Stock, room: &str) -> Result<()> {
    let ping = json!({"user": to.user, "device": to.device, "type": "org.example.ping", "content": {"number": 1}});
    from.ask("to_device", ping).await?;
    let content = json!({"msgtype": "m.text", "body": "afterwards"});
    let event = from.send(room, "m.room.message", content).await?;
    to.until_seen(json!({"event_id": event})).await?;
    let dropped = json!({"part": {"to_device": true}});
    assert_eq!(to.ask("count", dropped).await?["count"], 0);
    Ok(())
}

async fn exchange_ephemeral_data(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let room = pair.room().await?;
    type_in_turn(host, guest, &room).await?;
    let [hers, his] = &pair.owners;
    for (from, to, owner) in [(host, guest, his), (guest, host, hers)] {
        read(from, to, &room).await?;
        change_presence(from, to, owner, &room).await?;
        send_to_a_device(from, to, &room).await?;
    }
    Ok(())
}

#[tokio::test]
async fn js_sdk_as_host_and_nio_as_guest_see_presence_typing_and_receipts() -> Result<()> {
    exchange_ephemeral_data(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn nio_as_host_and_js_sdk_as_guest_see_presence_typing_and_receipts() -> Result<()> {
    exchange_ephemeral_data(Kind::Nio, Kind::JsSdk).await
}
