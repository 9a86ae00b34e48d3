//! How people find each other, and how one comes into a room that one was not invited to: the directories, an alias, a
//! knock. And what one keeps of it: the favourite, the direct chat, the devices.

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
async fn come_by_the_directory(host: &Stock, guest: &Stock) -> Result<()> {
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

/// A knock that is taken back, one that is turned away, and one that is answered. Of the second only the room's servers
/// are told, for none outside could check it: whoever knocked takes it back, which no server knows of then, and knocks again.
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

/// An invitation to a room that the guest's server knows nothing of, declined: it is gone for both, and the client goes on.
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

/// A chat of two: the guest is told that it is one, both note it, and the note comes back with the sync loop, as does a
/// favourite.
async fn talk_directly(pair: &Pair) -> Result<()> {
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

/// Who shares a room is found by a part of the name, who doesn't is not.
async fn look_for_people(stock: &Stock, other: &Stock, stranger: &str) -> Result<()> {
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

/// The device that registration made is put out by the other: not by a wrong password, and by the right one for good.
async fn put_out_a_device(stock: &Stock, owner: &Client) -> Result<()> {
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

async fn find_each_other(host: Kind, guest: Kind) -> Result<()> {
    let pair = Pair::new(host, guest).await?;
    let (host, guest) = (&pair.host, &pair.guest);
    let strangers = [
        pair.world.user(0, "stranger").await?,
        pair.world.user(1, "stranger").await?,
    ];
    come_by_the_directory(host, guest).await?;
    decline(host, guest).await?;
    knock(&pair).await?;
    talk_directly(&pair).await?;
    for (number, (stock, other)) in [(host, guest), (guest, host)].into_iter().enumerate() {
        look_for_people(stock, other, &strangers[number].user).await?;
        put_out_a_device(stock, &pair.owners[number]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_on_nio_comes_to_js_sdk_by_every_door() -> Result<()> {
    find_each_other(Kind::JsSdk, Kind::Nio).await
}

#[tokio::test]
async fn a_guest_on_js_sdk_comes_to_nio_by_every_door() -> Result<()> {
    find_each_other(Kind::Nio, Kind::JsSdk).await
}
