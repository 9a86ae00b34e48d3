//! Profiles, directories, typing, receipts and presence across servers: what one server requests from the other, and
//! what they send as EDUs. Must not depend on which server is the host.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::client::{Client, segment};

use crate::pair::{Pair, Side, talk, try_join, until_state};

/// Each requests a profile from the other's server; users who share a room receive a change.
async fn profiles(host: &Client, guest: &Client, room: &str) -> Result<()> {
    let profile = format!("/_matrix/client/v3/profile/{}", segment(&host.user));
    let name = format!("{} the host", host.user);
    for (field, value) in [("displayname", name.as_str()), ("avatar_url", "mxc://example.org/face")] {
        host.put(&format!("{profile}/{field}"), json!({ field: value })).await?;
        let one = guest.get(&format!("{profile}/{field}")).await?;
        ensure!(one[field] == value, "{one}");
        let all = guest.get(&profile).await?;
        ensure!(all[field] == value, "{all}");
        let member = format!("m.room.member/{}", segment(&host.user));
        until_state(guest, room, &member, &format!("/{field}"), &json!(value)).await?;
    }
    let nobody = host.user.replacen('@', "@nobody-", 1);
    let path = format!("/_matrix/client/v3/profile/{}", segment(&nobody));
    let answer = guest.request(Method::GET, &path, None).await?;
    ensure!(answer.status == StatusCode::NOT_FOUND, "{answer:?}");
    Ok(())
}

fn entry<'a>(directory: &'a Value, room: &str) -> Option<&'a Value> {
    let rooms = directory["chunk"].as_array()?;
    rooms.iter().find(|entry| entry["room_id"] == room)
}

/// The guest finds the host's room in the other server's directory, by a search term and by alias, until it is removed.
async fn directory(host: &Side, guest: &Client) -> Result<()> {
    let name = format!("Cartographers {}", host.one.user);
    let options = json!({"preset": "public_chat", "visibility": "public", "name": name, "topic": "Maps",
        "room_alias_name": "maps"});
    let room = host.one.create_room(options).await?;
    let hidden = host
        .one
        .create_room(json!({"preset": "public_chat", "name": "Cartographers hidden"}))
        .await?;
    let path = format!("/_matrix/client/v3/publicRooms?server={}", segment(&host.server));
    // Synapse computes the figures of its directory in the background.
    let found = guest
        .until("the room in the directory", || async {
            Ok(entry(&guest.get(&path).await?, &room).cloned())
        })
        .await?;
    ensure!(
        found["name"] == name && found["topic"] == "Maps" && found["num_joined_members"] == 1,
        "{found}"
    );
    let search = |term: &str| guest.post(&path, json!({"filter": {"generic_search_term": term}}));
    let found = search("cartographers").await?;
    ensure!(
        entry(&found, &room).is_some() && entry(&found, &hidden).is_none(),
        "{found}"
    );
    let found = search("lighthouses").await?;
    ensure!(entry(&found, &room).is_none(), "{found}");

    let alias = format!(
        "/_matrix/client/v3/directory/room/{}",
        segment(&format!("#maps:{}", host.server))
    );
    let found = guest.get(&alias).await?;
    let servers = found["servers"].as_array().context("no servers")?;
    ensure!(
        found["room_id"] == room.as_str() && servers.contains(&json!(host.server)),
        "{found}"
    );
    let visibility = format!("/_matrix/client/v3/directory/list/room/{}", segment(&room));
    host.one.put(&visibility, json!({"visibility": "private"})).await?;
    host.one.request(Method::DELETE, &alias, None).await?.ok()?;
    guest
        .until("the room to be gone from the directory", || async {
            Ok(entry(&guest.get(&path).await?, &room).is_none().then_some(()))
        })
        .await?;
    let answer = guest.request(Method::GET, &alias, None).await?;
    ensure!(answer.status == StatusCode::NOT_FOUND, "{answer:?}");
    Ok(())
}

/// The content of a room's ephemeral event of this type in a response of `/sync`.
fn ephemeral<'a>(sync: &'a Value, room: &str, kind: &str) -> Option<&'a Value> {
    let events = sync["rooms"]["join"]
        .get(room)?
        .pointer("/ephemeral/events")?
        .as_array()?;
    events
        .iter()
        .rev()
        .find(|event| event["type"] == kind)
        .map(|event| &event["content"])
}

/// The other user sees that a user types, and that they have stopped.
async fn typing(who: &Client, watcher: &Client, room: &str) -> Result<()> {
    let path = Client::in_room(room, &format!("typing/{}", segment(&who.user)));
    let mut since = None;
    for (typing, wanted) in [(true, json!([who.user])), (false, json!([]))] {
        who.put(&path, json!({"typing": typing, "timeout": 30_000})).await?;
        watcher
            .sync_until("typing", &mut since, |sync| {
                let content = ephemeral(sync, room, "m.typing")?;
                (content["user_ids"] == wanted).then_some(())
            })
            .await?;
    }
    Ok(())
}

/// The other user sees public read receipts, and not private ones.
async fn receipts(who: &Client, watcher: &Client, room: &str) -> Result<()> {
    let (first, second) = (
        watcher.say(room, "to be read").await?,
        watcher.say(room, "this too").await?,
    );
    who.until("the words", || async {
        let path = Client::in_room(room, &format!("event/{}", segment(&second)));
        let answer = who.request(Method::GET, &path, None).await?;
        Ok(answer.status.is_success().then_some(()))
    })
    .await?;
    let mark = |kind: &str, event: &str| {
        let path = Client::in_room(room, &format!("receipt/{kind}/{}", segment(event)));
        async move { who.post(&path, json!({})).await }
    };
    mark("m.read.private", &second).await?;
    mark("m.read", &first).await?;
    let receipt = |sync: &Value, event: &str| {
        let content = ephemeral(sync, room, "m.receipt")?;
        assert!(!content.to_string().contains("m.read.private"), "sent: {content}");
        content.get(event)?["m.read"].get(&who.user).map(drop)
    };
    let mut since = None;
    watcher
        .sync_until("the first receipt", &mut since, |sync| {
            assert!(receipt(sync, &second).is_none(), "a private receipt was sent");
            receipt(sync, &first)
        })
        .await?;
    mark("m.read", &second).await?;
    watcher
        .sync_until("the second receipt", &mut since, |sync| receipt(sync, &second))
        .await
}

/// Each sees the other's presence: by a request, and by `/sync`.
async fn presence(who: &Client, watcher: &Client) -> Result<()> {
    let path = format!("/_matrix/client/v3/presence/{}/status", segment(&who.user));
    let mut since = None;
    for (presence, status) in [("unavailable", "out"), ("online", "back")] {
        who.put(&path, json!({"presence": presence, "status_msg": status}))
            .await?;
        let right = |content: &Value| content["presence"] == presence && content["status_msg"] == status;
        watcher
            .until(&format!("that {} is {presence}", who.user), || async {
                Ok(right(&watcher.get(&path).await?).then_some(()))
            })
            .await?;
        watcher
            .sync_until(presence, &mut since, |sync| {
                let sent = sync["presence"]["events"].as_array()?;
                let mut of_who = sent.iter().filter(|event| event["sender"] == who.user.as_str());
                of_who.any(|event| right(&event["content"])).then_some(())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn profiles_directories_and_ephemeral_data_cross_servers() -> Result<()> {
    let pair = Pair::new().await?;
    for (host, guest) in pair.directions() {
        let room = host.one.create_room(json!({"preset": "public_chat"})).await?;
        try_join(&guest.one, &room, &host.server).await?.ok()?;
        host.one.until_membership(&room, &guest.one.user, "join").await?;
        talk(&host.one, &guest.one, &room).await?;
        let what = || format!("begun by {}", host.one.user);
        profiles(&host.one, &guest.one, &room).await.with_context(what)?;
        directory(host, &guest.one).await.with_context(what)?;
        typing(&guest.one, &host.one, &room).await.with_context(what)?;
        receipts(&guest.one, &host.one, &room).await.with_context(what)?;
        presence(&guest.one, &host.one).await.with_context(what)?;
    }
    Ok(())
}
