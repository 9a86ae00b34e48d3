//! History from before a join and from a pause: limited timelines, pages back to the first event, and lazily loaded
//! members. Each client paginates with its own calls. Must not use raw HTTP where the client has a call.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock, text},
};

use crate::pair::Pair;

/// More messages than a first sync returns, and more than a page.
const MANY: u32 = 17;

async fn say_many(stock: &Stock, room: &str, what: &str, sent: &mut Vec<String>) -> Result<()> {
    for number in 0..MANY {
        let content = json!({"msgtype": "m.text", "body": format!("{what} {number}")});
        sent.push(stock.send(room, "m.room.message", content).await?);
    }
    Ok(())
}

/// All events that the client has and can page to, oldest first: from the creation on, none duplicated or missing.
async fn read_all(stock: &Stock, room: &str, sent: &[String]) -> Result<()> {
    let events = stock.ask("history", json!({"room": room, "limit": 7})).await?;
    let events = events["events"].as_array().unwrap().clone();
    assert_eq!(events[0]["type"], "m.room.create", "{:?}", events[0]);
    let spoken = events.iter().filter(|event| event["type"] == "m.room.message");
    let ids: Vec<&Value> = spoken.map(|event| &event["event_id"]).collect();
    assert_eq!(ids, sent.iter().collect::<Vec<_>>(), "{:?}", stock.kind);
    Ok(())
}

/// A user who sends one message, before all others.
async fn early_member(pair: &Pair, room: &str, sent: &mut Vec<String>) -> Result<Client> {
    let early = pair.world.user(0, "early").await?;
    let about = json!({"room": room, "user": early.user});
    pair.host.ask("invite", about).await?;
    early.join(room, None).await?;
    let event = early.say(room, "I was here first").await?;
    pair.host.until_seen(json!({"event_id": event})).await?;
    sent.push(event);
    Ok(early)
}

async fn page_back(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let made = host
        .ask("create_room", json!({"options": {"name": "Long talk"}}))
        .await?;
    let room = text(&made, "room_id")?;
    let mut sent = Vec::new();
    let early = early_member(&pair, &room, &mut sent).await?;
    say_many(host, &room, "before", &mut sent).await?;
    host.ask("invite", json!({"room": room, "user": guest.user})).await?;
    pair.enter(&room).await?;
    read_all(guest, &room, &sent).await?;
    if guest.kind == Kind::JsSdk {
        // The page with the early message also contained its author's member event; matrix-nio does not request that.
        let author = json!({"room": room, "user": early.user, "name": "early"});
        guest.ask("until_named", author).await?;
    }

    guest.ask("pause", json!({})).await?;
    say_many(host, &room, "meanwhile", &mut sent).await?;
    guest.ask("resume", json!({"timeline": {"limit": 5}})).await?;
    guest.until_seen(json!({"event_id": sent.last()})).await?;
    read_all(guest, &room, &sent).await?;
    host.until_seen(json!({"event_id": sent.last()})).await?;
    read_all(host, &room, &sent).await
}

#[tokio::test]
async fn nio_pages_back_in_a_room_of_js_sdk() -> Result<()> {
    page_back(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn js_sdk_pages_back_in_a_room_of_nio() -> Result<()> {
    page_back(Kind::Nio, Kind::JsSdk).await
}
