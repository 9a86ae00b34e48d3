//! What people notice of each other beside what they say: who is there, who types, who has read what; and what is not
//! passed on: messages from device to device.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// Both type and stop, one after the other; each is shown the other's, and that it ended.
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

/// A receipt is the other's to see, the marker of what was read is one's own; both come with the sync loop.
async fn read(from: &Stock, to: &Stock, room: &str) -> Result<()> {
    let said = json!({"msgtype": "m.text", "body": "to be read"});
    let event = from.send(room, "m.room.message", said).await?;
    to.until_seen(json!({"event_id": event})).await?;
    to.ask("receipt", json!({"room": room, "event": event})).await?;
    let receipt = json!({"type": "m.receipt", "room_id": room, "content": {&event: {"m.read": {&to.user: {}}}}});
    from.until_seen(receipt).await?;
    let marker = json!({"type": "m.fully_read", "room_id": room, "content": {"event_id": event}});
    to.until_seen(marker.clone()).await?;
    assert_eq!(from.ask("count", json!({"part": marker})).await?["count"], 0);
    Ok(())
}

/// Who is there, in the words that were chosen: when it is asked, and with the next answer of the other's sync.
async fn be_present(from: &Stock, to: &Stock, owner: &Client, room: &str) -> Result<()> {
    let status = format!("status of {}", from.user);
    from.ask("set_presence", json!({"status": status})).await?;
    let path = format!("/_matrix/client/v3/presence/{}/status", from.user);
    let known = async || Ok((owner.get(&path).await?["status_msg"] == status).then_some(()));
    owner.until("the other's presence", known).await?;
    let shown = to.ask("ask", json!({"method": "GET", "path": path})).await?;
    assert_eq!(shown["body"]["status_msg"], status, "{shown}");
    let said = json!({"msgtype": "m.text", "body": "something to be told"});
    from.send(room, "m.room.message", said).await?;
    let told =
        json!({"type": "m.presence", "sender": from.user, "content": {"presence": "online", "status_msg": status}});
    to.until_seen(told).await.map(drop)
}

/// A message to a device is taken and dropped: without device keys nobody can have one for anybody. It does not keep the
/// client from what it does next.
async fn send_to_a_device(from: &Stock, to: &Stock, room: &str) -> Result<()> {
    let ping = json!({"user": to.user, "device": to.device, "type": "org.example.ping", "content": {"number": 1}});
    from.ask("to_device", ping).await?;
    let said = json!({"msgtype": "m.text", "body": "afterwards"});
    let event = from.send(room, "m.room.message", said).await?;
    to.until_seen(json!({"event_id": event})).await?;
    let dropped = json!({"part": {"to_device": true}});
    assert_eq!(to.ask("count", dropped).await?["count"], 0);
    Ok(())
}

async fn be_together(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let room = pair.room().await?;
    type_in_turn(host, guest, &room).await?;
    let [hers, his] = &pair.owners;
    for (from, to, owner) in [(host, guest, his), (guest, host, hers)] {
        read(from, to, &room).await?;
        be_present(from, to, owner, &room).await?;
        send_to_a_device(from, to, &room).await?;
    }
    Ok(())
}

#[tokio::test]
async fn js_sdk_and_a_guest_on_nio_notice_each_other() -> Result<()> {
    be_together(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn nio_and_a_guest_on_js_sdk_notice_each_other() -> Result<()> {
    be_together(Kind::Nio, Kind::JsSdk).await
}
