//! Catching up: what each server gets of the time in which it was down, or not yet in the room: messages in their
//! order, and the state. Must not assert a duration.

use anyhow::{Context as _, Result};
use serde_json::json;
use weft_conformance_tests::client::{Client, segment};

use crate::pair::{Pair, Side, VERSIONS, does, set, talk, try_join, until_message, until_messages, until_state};

/// Messages that the other side missed: more than a server requests at once (Synapse: 10).
pub(crate) const MISSED: usize = 25;

/// Messages sent before the guest joined.
const HISTORY: usize = 500;

pub(crate) async fn say_all(client: &Client, room: &str, what: &str, count: usize) -> Result<Vec<String>> {
    let texts: Vec<String> = (0..count).map(|number| format!("{what} {number}")).collect();
    for text in &texts {
        client.say(room, text).await?;
    }
    Ok(texts)
}

/// Sends `MISSED` messages and a topic while the other side is down.
async fn meanwhile(client: &Client, room: &str, what: &str) -> Result<Vec<String>> {
    let texts = say_all(client, room, what, MISSED).await?;
    set(client, room, "m.room.topic", json!({ "topic": what })).await?;
    Ok(texts)
}

#[tokio::test]
async fn a_server_that_was_down_gets_the_missed_events() -> Result<()> {
    let mut pair = Pair::new().await?;
    let (alice, bob) = (pair.ours.one.clone(), pair.theirs.one.clone());
    let room = alice
        .create_room(json!({"preset": "private_chat", "power_level_content_override": {"state_default": 0}}))
        .await?;
    let earlier = meanwhile(&alice, &room, "before anybody came").await?;
    does(&alice, "invite", &bob, &room).await?;
    bob.accept_invitation(&room).await?;
    until_messages(&bob, &room, &earlier).await?;
    talk(&alice, &bob, &room).await?;

    let topic = |text: &str| json!(text);
    pair.synapse.kill();
    let missed = meanwhile(&alice, &room, "while Synapse was away").await?;
    pair.synapse.boot().await?;
    bob.say(&room, "Synapse is back").await?;
    until_messages(&bob, &room, &missed).await?;
    until_state(&bob, &room, "m.room.topic", "/topic", &topic("while Synapse was away")).await?;
    until_message(&alice, &room, "Synapse is back").await?;

    let server = pair.world.servers.first_mut().context("no server")?;
    server.kill();
    let missed = meanwhile(&bob, &room, "while we were away").await?;
    server.boot().await?;
    alice.say(&room, "we are back").await?;
    until_messages(&alice, &room, &missed).await?;
    until_state(&alice, &room, "m.room.topic", "/topic", &topic("while we were away")).await?;
    until_message(&bob, &room, "we are back").await?;
    until_state(&bob, &room, "m.room.topic", "/topic", &topic("while we were away")).await
}

/// All messages of a room, oldest first, by paging back from its end.
async fn history(client: &Client, room: &str) -> Result<Vec<String>> {
    let (mut texts, mut from) = (Vec::new(), String::new());
    loop {
        let page = client
            .get(&Client::in_room(room, &format!("messages?dir=b&limit=100{from}")))
            .await?;
        let chunk = page["chunk"].as_array().context("no chunk")?;
        texts.extend(
            chunk
                .iter()
                .filter_map(|event| Some(event.pointer("/content/body")?.as_str()?.to_owned())),
        );
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", segment(end)),
            None => break,
        }
    }
    texts.reverse();
    Ok(texts)
}

/// The guest joins a room with a long history and reads all of it in order.
async fn join_late(host: &Side, guest: &Side, version: &str) -> Result<()> {
    let room = host
        .one
        .create_room(json!({"room_version": version, "preset": "public_chat"}))
        .await?;
    let sent = say_all(&host.one, &room, "sent", HISTORY).await?;
    try_join(&guest.one, &room, &host.server).await?.ok()?;
    guest
        .one
        .until(
            &format!("{HISTORY} messages sent before {} joined", guest.one.user),
            || async { Ok((history(&guest.one, &room).await? == sent).then_some(())) },
        )
        .await
        .with_context(|| format!("version {version}, begun by {}", host.one.user))?;
    talk(&host.one, &guest.one, &room).await
}

#[tokio::test]
async fn a_late_joiner_reads_the_whole_history() -> Result<()> {
    let pair = Pair::new().await?;
    for version in VERSIONS {
        let [to_them, to_us] = pair.directions();
        tokio::try_join!(
            join_late(to_them.0, to_them.1, version),
            join_late(to_us.0, to_us.1, version)
        )?;
    }
    Ok(())
}
