//! How users find each other and join a room without an invitation: the directories, an alias, a knock. And what a
//! client stores: favourites, direct chats, devices. Must not use raw HTTP where the client has a call.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock, text},
};

use crate::pair::Pair;

fn room_ids(directory: &Value) -> Vec<&str> {
    let rooms = directory["chunk"].as_array().unwrap();
    rooms.iter().filter_map(|room| room["room_id"].as_str()).collect()
}

/// A public room in the directory of one server, joined from the other by its alias.
async fn join_by_the_directory(host: &Stock, guest: &Stock) -> Result<()> {
    let server = host.user.split_once(':').unwrap().1;
    let options =
        json!({"name": "Square", "preset": "public_chat", "visibility": "public", "room_alias_name": "square"});
    let made = host.ask("create_room", json!({"options": options})).await?;
    let room = text(&made, "room_id")?;
    let listed = guest.ask("directory", json!({"server": server})).await?;
    assert_eq!(room_ids(&listed), [room.as_str()]);
    assert_eq!(listed["chunk"][0]["canonical_alias"], format!("#square:{server}"));
    assert!(room_ids(&guest.ask("directory", json!({})).await?).is_empty());
    let joined = guest.ask("join", json!({"room": format!("#square:{server}")})).await?;
    assert_eq!(joined["room_id"], room);
    guest.until_membership(&room, "join").await
}

/// A knock that is retracted, one that is rejected, and one that is accepted. A rejection is sent only to the room's
/// servers, because a server outside could not verify it: the user retracts the knock, which the room's servers ignore,
/// and knocks again.
async fn knock(pair: &Pair) -> Result<()> {
    let (host, guest) = (&pair.host, &pair.guest);
    let server = host.user.split_once(':').unwrap().1;
    let rule = json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}});
    let options = json!({"name": "Study", "initial_state": [rule]});
    let made = host.ask("create_room", json!({"options": options})).await?;
    let room = text(&made, "room_id")?;
    let until = async |sender: &Stock, membership: &str, count: u32| {
        let part = json!({"type": "m.room.member", "room_id": room, "state_key": guest.user, "sender": sender.user,
            "content": {"membership": membership}});
        host.ask("until_count", json!({"part": part, "count": count})).await
    };
    let call = json!({"room": room, "via": server});
    let about = json!({"room": room, "user": guest.user});
    guest.ask("knock", call.clone()).await?;
    until(guest, "knock", 1).await?;
    guest.ask("leave", json!({"room": room})).await?;
    until(guest, "leave", 1).await?;
    guest.until_membership(&room, "leave").await?;
    guest.ask("knock", call.clone()).await?;
    until(guest, "knock", 2).await?;
    host.ask("kick", about.clone()).await?;
    until(host, "leave", 1).await?;
    guest.ask("leave", json!({"room": room})).await?;
    guest.until_membership(&room, "leave").await?;
    guest.ask("knock", call).await?;
    until(guest, "knock", 3).await?;
    host.ask("invite", about).await?;
    pair.enter(&room).await
}

/// An invitation to a room that the guest's server is not in, declined: it is gone for both, and the client continues.
async fn decline(host: &Stock, guest: &Stock) -> Result<()> {
    let made = host
        .ask("create_room", json!({"options": {"invite": [guest.user]}}))
        .await?;
    let room = text(&made, "room_id")?;
    guest.until_membership(&room, "invite").await?;
    guest.ask("leave", json!({"room": room})).await?;
    guest.until_membership(&room, "leave").await?;
    let declined =
        json!({"type": "m.room.member", "room_id": room, "sender": guest.user, "content": {"membership": "leave"}});
    host.until_seen(declined).await.map(drop)
}

/// A direct chat: the invitation says so, both store it, and the account data returns with the sync loop, as does a
/// favourite.
async fn direct_chat(pair: &Pair) -> Result<()> {
    let (host, guest) = (&pair.host, &pair.guest);
    let options = json!({"preset": "trusted_private_chat", "is_direct": true, "invite": [guest.user]});
    let made = host.ask("create_room", json!({"options": options})).await?;
    let room = text(&made, "room_id")?;
    let invitation = json!({"type": "m.room.member", "room_id": room, "state_key": guest.user,
        "content": {"membership": "invite", "is_direct": true}});
    guest.until_seen(invitation).await?;
    pair.enter(&room).await?;
    for (stock, other) in [(host, guest), (guest, host)] {
        let content = json!({&other.user: [room]});
        let note = json!({"type": "m.direct", "content": content});
        stock.ask("set_account_data", note.clone()).await?;
        stock.until_seen(note).await?;
        stock
            .ask("set_tag", json!({"room": room, "tag": "m.favourite"}))
            .await?;
        let tag = json!({"type": "m.tag", "room_id": room, "content": {"tags": {"m.favourite": {"order": 0.5}}}});
        stock.until_seen(tag).await?;
    }
    Ok(())
}

/// A user who shares a room is found by a part of the name; another one is not.
async fn search_the_directory(stock: &Stock, other: &Stock, stranger: &str) -> Result<()> {
    let name = |user: &str| user[1..user.len().min(6)].to_owned();
    let found = stock.ask("search_users", json!({"term": name(&other.user)})).await?;
    let found: Vec<&str> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|user| user["user_id"].as_str())
        .collect();
    assert_eq!(found, [other.user.as_str()]);
    let none = stock.ask("search_users", json!({"term": name(stranger)})).await?;
    assert_eq!(none["results"], json!([]));
    Ok(())
}

/// The device of the registration is deleted by the other one: not with a wrong password; with the right one it is.
async fn delete_a_device(stock: &Stock, owner: &Client) -> Result<()> {
    let device = text(&owner.get("/_matrix/client/v3/account/whoami").await?, "device_id")?;
    let request = |password: &str| json!({"device": device, "user": stock.user, "password": password});
    let error = stock.ask("delete_device", request("wrong")).await.unwrap_err();
    assert!(format!("{error:#}").contains("M_FORBIDDEN"), "{error:#}");
    owner.get("/_matrix/client/v3/account/whoami").await?;
    stock.ask("delete_device", request(&owner.password())).await?;
    let devices = stock.ask("devices", json!({})).await?;
    let left: Vec<&str> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|device| device["device_id"].as_str())
        .collect();
    assert_eq!(left, [stock.device.as_str()]);
    let error = owner.get("/_matrix/client/v3/account/whoami").await.unwrap_err();
    assert!(format!("{error:#}").contains("M_UNKNOWN_TOKEN"), "{error:#}");
    Ok(())
}

async fn find_and_join(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let strangers = [
        pair.world.user(0, "stranger").await?,
        pair.world.user(1, "stranger").await?,
    ];
    join_by_the_directory(host, guest).await?;
    decline(host, guest).await?;
    knock(&pair).await?;
    direct_chat(&pair).await?;
    for (number, (stock, other)) in [(host, guest), (guest, host)].into_iter().enumerate() {
        search_the_directory(stock, other, &strangers[number].user).await?;
        delete_a_device(stock, &pair.owners[number]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nio_finds_and_joins_rooms_of_js_sdk() -> Result<()> {
    find_and_join(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn js_sdk_finds_and_joins_rooms_of_nio() -> Result<()> {
    find_and_join(Kind::Nio, Kind::JsSdk).await
}
