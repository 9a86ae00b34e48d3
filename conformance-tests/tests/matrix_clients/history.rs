//! What was said before one came and while one was away: timelines that are cut off, pages backwards to the beginning, and
//! members that a client is told of when they speak. Each client pages by its own means.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock, text},
};

use crate::pair::Pair;

/// More than a first sync shows, and more than a page.
const MANY: u32 = 17;

async fn say_many(stock: &Stock, room: &str, what: &str, sent: &mut Vec<String>) -> Result<()> {
    for number in 0..MANY {
        let content = json!({"msgtype": "m.text", "body": format!("{what} {number}")});
        sent.push(stock.send(room, "m.room.message", content).await?);
    }
    Ok(())
}

/// All that the client has and can page to, oldest first: from the creation on, nothing twice, nothing left out.
async fn read_all(stock: &Stock, room: &str, sent: &[String]) -> Result<()> {
    let events = stock.ask("history", json!({"room": room, "limit": 7})).await?;
    let events = events["events"].as_array().unwrap().clone();
    assert_eq!(events[0]["type"], "m.room.create", "{:?}", events[0]);
    let spoken = events.iter().filter(|event| event["type"] == "m.room.message");
    let ids: Vec<&Value> = spoken.map(|event| &event["event_id"]).collect();
    assert_eq!(ids, sent.iter().collect::<Vec<_>>(), "{:?}", stock.kind);
    Ok(())
}

/// Somebody who speaks once, before all others, and is silent since.
async fn somebody_early(pair: &Pair, room: &str, sent: &mut Vec<String>) -> Result<Client> {
    let early = pair.world.user(0, "early").await?;
    let about = json!({"room": room, "user": early.user});
    pair.host.ask("invite", about).await?;
    early.join(room, None).await?;
    let event = early.say(room, "I was here first").await?;
    pair.host.until_seen(json!({"event_id": event})).await?;
    sent.push(event);
    Ok(early)
}

async fn look_back(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let made = host
        .ask("create_room", json!({"options": {"name": "Long talk"}}))
        .await?;
    let room = text(&made, "room_id")?;
    let mut sent = Vec::new();
    let early = somebody_early(&pair, &room, &mut sent).await?;
    say_many(host, &room, "before", &mut sent).await?;
    host.ask("invite", json!({"room": room, "user": guest.user})).await?;
    pair.enter(&room).await?;
    read_all(guest, &room, &sent).await?;
    if guest.kind == Kind::JsSdk {
        // The page with the early words brought their author beside them; matrix-nio does not ask for that.
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
async fn a_guest_on_nio_looks_back_in_a_room_of_js_sdk() -> Result<()> {
    look_back(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn a_guest_on_js_sdk_looks_back_in_a_room_of_nio() -> Result<()> {
    look_back(Kind::Nio, Kind::JsSdk).await
}
