//! A document in stock Matrix clients: a room in which they chat, see the members and their power levels, and ignore
//! unknown events, while stock editors write on both servers. Must not use a Weft client.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    editors::{Editor, Provider},
    matrix::{Kind, Stock},
};

use crate::pair::Pair;

/// The members and their power levels, as the clients' own calls return them.
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

/// Both write and chat, line by line; each sees the other's messages and, because its filter names no event types, no
/// edits.
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
            let content = json!({"msgtype": "m.text", "body": format!("wrote {number}")});
            let event = from.send(room, "m.room.message", content).await?;
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

/// A client whose filter names the edits receives them, of either server, and continues to receive messages.
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

/// A forbidden edit is refused with a standard error, and the client continues.
async fn forbidden_edit_is_refused(stock: &Stock, room: &str) -> Result<()> {
    let forged = stock
        .send(room, "dev.weft.update", json!({"update": "/////w", "clients": {}}))
        .await;
    let error = format!("{:#}", forged.unwrap_err());
    assert!(error.contains("DEV_WEFT_UPDATE_REFUSED"), "{error}");
    stock.ask("whoami", json!({})).await.map(drop)
}

/// The chat as `/messages` returns it, without edits, oldest first.
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

async fn use_documents(host: Kind, guest: Kind) -> Result<()> {
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
    forbidden_edit_is_refused(&pair.host, &room).await?;
    forbidden_edit_is_refused(&pair.guest, &room).await?;
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
async fn documents_work_with_js_sdk_as_host_and_nio_as_guest() -> Result<()> {
    use_documents(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn documents_work_with_nio_as_host_and_js_sdk_as_guest() -> Result<()> {
    use_documents(Kind::Nio, Kind::JsSdk).await
}
