//! The basic calls of a Matrix client by plain HTTP: register, create, invite, join over federation, send, sync. Must
//! not use an SDK.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    world::World,
};

/// Waits until `/sync` from a token shows a message with this body; returns the next token.
async fn until_message(client: &Client, room: &str, body: &str, mut since: Option<String>) -> Result<String> {
    for _ in 0..60 {
        let from = since
            .as_ref()
            .map(|since| format!("&since={since}"))
            .unwrap_or_default();
        let sync = client
            .get(&format!("/_matrix/client/v3/sync?timeout=5000{from}"))
            .await?;
        since = sync["next_batch"].as_str().map(str::to_owned);
        let timeline = &sync["rooms"]["join"][room]["timeline"]["events"];
        let seen = timeline
            .as_array()
            .is_some_and(|events| events.iter().any(|event| event["content"]["body"] == body));
        if seen {
            return since.context("no next_batch");
        }
    }
    anyhow::bail!("{body:?} was not seen by {}", client.user)
}

#[tokio::test]
async fn a_chat_room_works_over_two_servers() -> Result<()> {
    for version in ["6", "9", "10", "11", "12"] {
        let world = World::new(2).await?;
        let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
        let created = alice
            .post(
                "/_matrix/client/v3/createRoom",
                json!({"preset": "private_chat", "name": "Talk", "room_version": version, "invite": [bob.user]}),
            )
            .await?;
        let room = created["room_id"].as_str().context("room_id")?.to_owned();
        bob.accept_invitation(&room).await?;
        alice.say(&room, "hello from alpha").await?;
        let since = until_message(&bob, &room, "hello from alpha", None).await?;
        bob.say(&room, "hello from beta").await?;
        until_message(&alice, &room, "hello from beta", None).await?;
        alice.say(&room, "and again").await?;
        until_message(&bob, &room, "and again", Some(since)).await?;
        let members = alice
            .get(&format!("/_matrix/client/v3/rooms/{}/joined_members", segment(&room)))
            .await?;
        assert_eq!(
            members["joined"].as_object().map(serde_json::Map::len),
            Some(2),
            "version {version}"
        );
        bob.post(&format!("/_matrix/client/v3/rooms/{}/leave", segment(&room)), json!({}))
            .await?;
        alice
            .until("the leave", || async {
                let path = format!("/_matrix/client/v3/rooms/{}/joined_members", segment(&room));
                let members = alice.get(&path).await?;
                Ok((members["joined"].as_object().map(serde_json::Map::len) == Some(1)).then_some(()))
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_public_room_is_joined_by_alias_from_another_server() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let square = world.fresh_name("square");
    let created = alice
        .post(
            "/_matrix/client/v3/createRoom",
            json!({"preset": "public_chat", "visibility": "public", "room_alias_name": square, "name": "Square"}),
        )
        .await?;
    let room = created["room_id"].as_str().context("room_id")?.to_owned();
    let alias = format!("#{square}:{}", world.servers[0].name);
    let joined = bob
        .post(&format!("/_matrix/client/v3/join/{}", segment(&alias)), json!({}))
        .await?;
    assert_eq!(joined["room_id"], json!(room));
    bob.say(&room, "found you").await?;
    until_message(&alice, &room, "found you", None).await?;
    let directory = bob
        .get(&format!(
            "/_matrix/client/v3/publicRooms?server={}",
            segment(&world.servers[0].name)
        ))
        .await?;
    assert_eq!(directory["chunk"][0]["room_id"], json!(room));
    let profile = bob
        .get(&format!("/_matrix/client/v3/profile/{}", segment(&alice.user)))
        .await?;
    assert!(profile.is_object());
    Ok(())
}

#[tokio::test]
async fn a_retried_message_is_sent_once() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Chat beside the text").await?;
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/same", segment(&room));
    let content = json!({"msgtype": "m.text", "body": "once"});
    let first = alice.put(&path, content.clone()).await?;
    let second = alice.put(&path, content).await?;
    assert_eq!(first["event_id"], second["event_id"]);
    assert_eq!(alice.messages(&room).await?, ["once"]);
    let unknown = alice.request(Method::GET, "/_matrix/client/v3/nope", None).await?;
    assert_eq!((unknown.status.as_u16(), unknown.errcode()), (404, "M_UNRECOGNIZED"));
    let versions: Value = alice.get("/_matrix/client/versions").await?;
    assert!(
        versions["versions"]
            .as_array()
            .is_some_and(|versions| !versions.is_empty())
    );
    Ok(())
}
