//! Account data of a client, and its requests about users and rooms. Must not use raw HTTP where the client has a call.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::matrix::{Kind, Stock, text};

use crate::pair::Pair;

/// The client's own profile, as the other's server receives it.
async fn set_profile(stock: &Stock, other: &Stock) -> Result<()> {
    let picture = "mxc://example.org/face";
    stock.ask("set_name", json!({"name": "Somebody"})).await?;
    stock.ask("set_avatar", json!({"url": picture})).await?;
    let profile = other.ask("profile", json!({"user": stock.user})).await?;
    assert_eq!(profile["displayname"], "Somebody");
    assert_eq!(profile["avatar_url"], picture);
    Ok(())
}

/// Account data and tags are returned as they were stored; push rules exist.
async fn keep(stock: &Stock, room: &str) -> Result<()> {
    let content = json!({"colour": "green"});
    let kind = "org.example.taste";
    stock
        .ask("set_account_data", json!({"type": kind, "content": content}))
        .await?;
    assert_eq!(stock.ask("account_data", json!({"type": kind})).await?, content);
    stock
        .ask("set_tag", json!({"room": room, "tag": "m.favourite"}))
        .await?;
    let tags = stock.ask("tags", json!({"room": room})).await?;
    assert_eq!(tags["tags"]["m.favourite"]["order"], 0.5);
    let rules = stock.ask("push_rules", json!({})).await?;
    assert!(rules["global"]["override"].is_array(), "{rules}");
    Ok(())
}

/// An alias that users of the other server can resolve, until it is deleted.
async fn resolve_alias_across(host: &Stock, guest: &Stock, room: &str) -> Result<()> {
    let server = host.user.split_once(':').unwrap().1;
    let alias = format!("#meeting:{server}");
    host.ask("create_alias", json!({"alias": alias, "room": room})).await?;
    let found = guest.ask("resolve_alias", json!({"alias": alias})).await?;
    assert_eq!(found["room_id"], room);
    host.ask("delete_alias", json!({"alias": alias})).await?;
    let error = guest.ask("resolve_alias", json!({"alias": alias})).await.unwrap_err();
    assert!(format!("{error:#}").contains("M_NOT_FOUND"), "{error:#}");
    Ok(())
}

/// The device is listed and can be renamed; after logging out all sessions its token is invalid.
async fn end(stock: &Stock) -> Result<()> {
    let rename = json!({"device": stock.device, "name": "Desk"});
    stock.ask("rename_device", rename).await?;
    let devices = stock.ask("devices", json!({})).await?;
    let named = json!({"device_id": stock.device, "display_name": "Desk"});
    let devices = devices["devices"].as_array().unwrap().clone();
    let found = devices.iter().find(|device| device["device_id"] == named["device_id"]);
    assert_eq!(found.unwrap()["display_name"], "Desk");
    stock.ask("logout", json!({})).await?;
    let error = stock.ask("whoami", json!({})).await.unwrap_err();
    assert!(format!("{error:#}").contains("M_UNKNOWN_TOKEN"), "{error:#}");
    Ok(())
}

/// History in pages of three, back to the room's creation: every text once, in order, although the first sync contained
/// only the last of them.
async fn read_back(stock: &Stock, writer: &Stock, room: &str) -> Result<()> {
    let mut sent = Vec::new();
    for number in 0..8 {
        let content = json!({"msgtype": "m.text", "body": format!("page {number}")});
        sent.push(writer.send(room, "m.room.message", content).await?);
    }
    let last = sent.last().unwrap();
    stock.until_seen(json!({"event_id": last})).await?;
    let filter = json!({"types": ["m.room.message"]});
    let (mut read, mut from) = (Vec::new(), json!(null));
    loop {
        let request = json!({"room": room, "dir": "b", "limit": 3, "from": from, "filter": filter});
        let page = stock.ask("messages", request).await?;
        for event in page["chunk"].as_array().unwrap() {
            read.push(text(event, "event_id")?);
        }
        from = page["end"].clone();
        if !from.is_string() {
            break;
        }
    }
    read.reverse();
    assert_eq!(read, sent);
    let around = stock.ask("context", json!({"room": room, "event": sent[4]})).await?;
    assert_eq!(around["event"]["event_id"], json!(sent[4]));
    assert_eq!(around["events_before"][0]["event_id"], json!(sent[3]));
    assert_eq!(around["events_after"][0]["event_id"], json!(sent[5]));
    Ok(())
}

/// Kicked, banned, unbanned, left and forgotten.
async fn change_membership(pair: &Pair, room: &str) -> Result<()> {
    let (host, guest) = (&pair.host, &pair.guest);
    let about = json!({"room": room, "user": guest.user});
    host.ask("kick", about.clone()).await?;
    guest.until_membership(room, "leave").await?;
    host.ask("ban", about.clone()).await?;
    let banned = json!({"type": "m.room.member", "state_key": guest.user, "content": {"membership": "ban"}});
    host.until_seen(banned).await?;
    let error = guest.ask("join", json!({"room": room})).await.unwrap_err();
    assert!(format!("{error:#}").contains("M_FORBIDDEN"), "{error:#}");
    host.ask("unban", about.clone()).await?;
    host.ask("invite", about).await?;
    pair.enter(room).await?;
    guest.ask("leave", json!({"room": room})).await?;
    guest.ask("forget", json!({"room": room})).await.map(drop)
}

async fn live(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let room = pair.room().await?;
    set_profile(host, guest).await?;
    set_profile(guest, host).await?;
    resolve_alias_across(host, guest, &room).await?;
    for (stock, other) in [(host, guest), (guest, host)] {
        keep(stock, &room).await?;
        let members = stock.ask("members", json!({"room": room})).await?;
        for member in [stock, other] {
            let members = members["members"].as_array().unwrap();
            assert!(members.contains(&json!([member.user, "join"])), "{members:?}");
        }
    }
    read_back(guest, host, &room).await?;
    change_membership(&pair, &room).await?;
    end(guest).await?;
    end(host).await
}

#[tokio::test]
async fn accounts_work_with_js_sdk_as_host_and_nio_as_guest() -> Result<()> {
    live(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn accounts_work_with_nio_as_host_and_js_sdk_as_guest() -> Result<()> {
    live(Kind::Nio, Kind::JsSdk).await
}
