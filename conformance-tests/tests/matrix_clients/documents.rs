//! A document seen by stock Matrix clients: to them it is a room, in which they chat, see who is there and with which
//! power, and pass over what they don't know, while stock editors write in it on both servers.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    editors::{Editor, Provider},
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// Who is in the room with which power, as the clients' own calls show it.
async fn show_members(pair: &Pair, room: &str, power: i64) -> Result<()> {
    for stock in [&pair.host, &pair.guest] {
        let members = stock.ask("members", json!({"room": room})).await?;
        for member in [&pair.host, &pair.guest] {
            let member = json!([member.user, "join"]);
            assert!(members["members"].as_array().unwrap().contains(&member), "{members}");
        }
        let asked = json!({"room": room, "type": "m.room.power_levels", "key": ""});
        let levels = stock.ask("state", asked).await?;
        assert_eq!(levels["users"][&pair.guest.user], power, "{levels}");
        assert_eq!(levels["events"]["dev.weft.update"], 25, "{levels}");
        let asked = json!({"room": room, "type": "dev.weft.document", "key": ""});
        assert_eq!(stock.ask("state", asked).await?["kind"], "text");
        let asked = json!({"room": room, "type": "m.room.create", "key": ""});
        let created = stock.ask("state", asked).await?;
        assert_eq!(created["type"], "dev.weft.document", "{created}");
    }
    Ok(())
}

/// Both write and both chat, line by line; each sees the other's words and, as it names no types of events, no edits.
async fn write_and_chat(pair: &Pair, room: &str, editors: [&Editor; 2]) -> Result<String> {
    let mut text = String::new();
    for number in 0..4 {
        for (from, to, editor) in [
            (&pair.host, &pair.guest, editors[0]),
            (&pair.guest, &pair.host, editors[1]),
        ] {
            let line = format!("line {number} of {}\n", from.user);
            editor.type_end(&line).await?;
            text.push_str(&line);
            let said = json!({"msgtype": "m.text", "body": format!("wrote {number}")});
            let event = from.send(room, "m.room.message", said).await?;
            let seen = json!({"event_id": event, "sender": from.user, "room_id": room});
            to.until_seen(seen).await?;
            for editor in editors {
                editor.until_text(&text).await?;
            }
        }
    }
    let edits = json!({"type": "dev.weft.update"});
    for stock in [&pair.host, &pair.guest] {
        assert_eq!(stock.ask("count", json!({"part": edits})).await?["count"], 0);
    }
    Ok(text)
}

/// A client whose filter names the edits gets them between the words, of whichever server, and goes on with the words.
async fn watch(pair: &Pair, kind: Kind, room: &str) -> Result<()> {
    let named = json!({"limit": 3, "types": ["m.room.message", "dev.weft.update"]});
    let watcher = Stock::start(&pair.world.authority, kind, &pair.owners[1], named).await?;
    let (host, guest) = (&pair.host.user, &pair.guest.user);
    for number in 0..2 {
        let sender = [host, guest][number];
        let editor = pair
            .world
            .editors
            .open(
                &format!("watched {number}"),
                Provider::Plain,
                &pair.owners[number],
                room,
            )
            .await?;
        editor.synced().await?;
        let edit = json!({"type": "dev.weft.update", "room_id": room, "sender": sender});
        let before = watcher.ask("count", json!({"part": edit})).await?["count"]
            .as_u64()
            .unwrap();
        editor.type_end("*").await?;
        watcher
            .ask("until_count", json!({"part": edit, "count": before + 1}))
            .await?;
        editor.close().await?;
    }
    let event = watcher
        .send(room, "m.room.message", json!({"msgtype": "m.text", "body": "I saw it"}))
        .await?;
    watcher.until_seen(json!({"event_id": event})).await.map(drop)
}

/// What a client must not do to a text is refused in words that it knows, and the client goes on.
async fn be_refused(stock: &Stock, room: &str) -> Result<()> {
    let forged = stock
        .send(room, "dev.weft.update", json!({"update": "/////w", "clients": {}}))
        .await;
    let error = format!("{:#}", forged.unwrap_err());
    assert!(error.contains("DEV_WEFT_UPDATE_REFUSED"), "{error}");
    stock.ask("whoami", json!({})).await.map(drop)
}

/// The chat as `/messages` gives it, without the edits between: oldest first.
async fn chat(stock: &Stock, room: &str) -> Result<Vec<Value>> {
    let filter = json!({"types": ["m.room.message"]});
    let asked = json!({"room": room, "dir": "b", "limit": 50, "from": null, "filter": filter});
    let page = stock.ask("messages", asked).await?;
    let mut bodies: Vec<Value> = page["chunk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["content"]["body"].clone())
        .collect();
    bodies.reverse();
    Ok(bodies)
}

async fn beside_editors(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let [hers, his] = &pair.owners;
    let room = hers.create_document("Minutes").await?;
    hers.give_role(&room, &his.user, "editor").await?;
    pair.enter(&room).await?;
    let name = json!({"type": "m.room.name", "room_id": room, "content": {"name": "Minutes"}});
    for stock in [&pair.host, &pair.guest] {
        stock.until_seen(name.clone()).await?;
    }
    let editors = &pair.world.editors;
    let (left, right) = (
        editors.open("left", Provider::Plain, hers, &room).await?,
        editors.open("right", Provider::Plain, his, &room).await?,
    );
    left.synced().await?;
    right.synced().await?;
    show_members(&pair, &room, 25).await?;
    let mut text = write_and_chat(&pair, &room, [&left, &right]).await?;
    be_refused(&pair.host, &room).await?;
    be_refused(&pair.guest, &room).await?;
    assert_eq!(chat(&pair.host, &room).await?, chat(&pair.guest, &room).await?);
    assert_eq!(chat(&pair.host, &room).await?.len(), 8);

    watch(&pair, guest, &room).await?;
    text.push_str("**");

    hers.give_role(&room, &his.user, "commenter").await?;
    let levels = json!({"type": "m.room.power_levels", "room_id": room, "content": {"users": {&his.user: 10}}});
    pair.guest.until_seen(levels).await?;
    show_members(&pair, &room, 10).await?;
    let event = pair
        .guest
        .send(
            &room,
            "m.room.message",
            json!({"msgtype": "m.text", "body": "I still talk"}),
        )
        .await?;
    pair.host.until_seen(json!({"event_id": event})).await?;
    for (name, owner) in [("fresh left", hers), ("fresh right", his)] {
        let fresh = editors.open(name, Provider::Plain, owner, &room).await?;
        fresh.until_text(&text).await?;
    }
    Ok(())
}

#[tokio::test]
async fn js_sdk_and_a_guest_on_nio_beside_editors() -> Result<()> {
    beside_editors(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn nio_and_a_guest_on_js_sdk_beside_editors() -> Result<()> {
    beside_editors(Kind::Nio, Kind::JsSdk).await
}
