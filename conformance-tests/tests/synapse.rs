//! Between this server and a stock Synapse: rooms of each version that new ones have, begun on either side; aliases;
//! a document that people on Synapse chat in and edit; and what each is told of the time in which it was away.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    editors::Provider,
    world::World,
};

/// Versions that servers make rooms of today; both know older ones.
const VERSIONS: [&str; 3] = ["10", "11", "12"];

async fn until_messages(client: &Client, room: &str, wanted: &[String]) -> Result<()> {
    client
        .until(&format!("{wanted:?} for {}", client.user), || async {
            let seen = client.messages(room).await?;
            Ok(wanted.iter().all(|text| seen.contains(text)).then_some(()))
        })
        .await
}

async fn until_message(client: &Client, room: &str, wanted: &str) -> Result<()> {
    until_messages(client, room, &[wanted.to_owned()]).await
}

/// Each says something, and the other sees it.
async fn talk(host: &Client, guest: &Client, room: &str) -> Result<()> {
    host.say(room, "from the host").await?;
    until_message(guest, room, "from the host").await?;
    guest.say(room, "from the guest").await?;
    until_message(host, room, "from the guest").await
}

async fn until_gone(client: &Client, room: &str) -> Result<()> {
    client
        .until(&format!("{} is out of {room}", client.user), || async {
            let joined = client.get("/_matrix/client/v3/joined_rooms").await?;
            let rooms = joined["joined_rooms"].as_array().context("joined_rooms")?;
            Ok((!rooms.contains(&json!(room))).then_some(()))
        })
        .await
}

/// Invites, joins, talks, redacts, leaves, declines, comes again, is put out.
async fn by_invitation(host: &Client, guest: &Client, version: &str) -> Result<()> {
    let room = host
        .create_room(json!({"room_version": version, "preset": "private_chat", "invite": [guest.user]}))
        .await?;
    host.say(&room, "before anybody came").await?;
    guest.accept_invitation(&room).await?;
    host.until_membership(&room, &guest.user, "join").await?;
    talk(host, guest, &room).await?;
    until_message(guest, &room, "before anybody came").await?;

    let regretted = guest.say(&room, "regretted").await?;
    until_message(host, &room, "regretted").await?;
    let redaction = Client::in_room(&room, &format!("redact/{}/once", segment(&regretted)));
    guest.put(&redaction, json!({})).await?;
    host.until("the redaction", || async {
        let seen = host.messages(&room).await?;
        Ok((!seen.contains(&"regretted".to_owned())).then_some(()))
    })
    .await?;

    let (invite, leave) = (Client::in_room(&room, "invite"), Client::in_room(&room, "leave"));
    guest.post(&leave, json!({})).await?;
    host.until_membership(&room, &guest.user, "leave").await?;
    host.post(&invite, json!({"user_id": guest.user})).await?;
    guest.accept_invitation(&room).await?;
    host.until_membership(&room, &guest.user, "join").await?;
    host.post(&Client::in_room(&room, "kick"), json!({"user_id": guest.user}))
        .await?;
    until_gone(guest, &room).await
}

/// Joins by alias; a second room lets in whoever is in the first; a third lets in who knocks.
async fn by_other_doors(host: &Client, guest: &Client, host_name: &str, version: &str) -> Result<()> {
    let alias = format!("open{version}");
    let open = host
        .create_room(json!({"room_version": version, "preset": "public_chat", "room_alias_name": alias}))
        .await?;
    guest.join(&format!("#{alias}:{host_name}"), None).await?;
    host.until_membership(&open, &guest.user, "join").await?;
    talk(host, guest, &open).await?;

    let rules = |content: Value| {
        let rules = json!({"type": "m.room.join_rules", "state_key": "", "content": content});
        json!({"room_version": version, "initial_state": [rules]})
    };
    let allow = json!([{"type": "m.room_membership", "room_id": open}]);
    let restricted = host
        .create_room(rules(json!({"join_rule": "restricted", "allow": allow})))
        .await?;
    guest.join(&restricted, Some(host_name)).await?;
    talk(host, guest, &restricted).await?;

    let knocked = host.create_room(rules(json!({"join_rule": "knock"}))).await?;
    let via = segment(host_name);
    let knock = format!(
        "/_matrix/client/v3/knock/{}?via={via}&server_name={via}",
        segment(&knocked)
    );
    guest.post(&knock, json!({})).await?;
    host.until_membership(&knocked, &guest.user, "knock").await?;
    host.post(&Client::in_room(&knocked, "invite"), json!({"user_id": guest.user}))
        .await?;
    guest.accept_invitation(&knocked).await?;
    talk(host, guest, &knocked).await
}

#[tokio::test]
async fn rooms_of_each_version_begun_on_either_side() -> Result<()> {
    let world = World::new(1).await?;
    let synapse = world.synapse().await?;
    let (alice, bob) = (world.user(0, "alice").await?, synapse.user("bob").await?);
    for version in VERSIONS {
        for (host, guest, name) in [(&alice, &bob, &world.servers[0].name), (&bob, &alice, &synapse.name)] {
            let what = || format!("version {version}, begun by {}", host.user);
            by_invitation(host, guest, version).await.with_context(what)?;
            by_other_doors(host, guest, name, version).await.with_context(what)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn people_on_synapse_chat_in_a_document_and_edit_it_as_their_role_says() -> Result<()> {
    let world = World::new(1).await?;
    let synapse = world.synapse().await?;
    let alice = world.user(0, "alice").await?;
    let (bob, carol) = (synapse.user("bob").await?, synapse.user("carol").await?);
    let room = alice.create_document("Shared plans").await?;
    alice.give_role(&room, &bob.user, "commenter").await?;
    alice.give_role(&room, &carol.user, "editor").await?;
    for guest in [&bob, &carol] {
        guest.accept_invitation(&room).await?;
        alice.until_membership(&room, &guest.user, "join").await?;
    }
    talk(&alice, &bob, &room).await?;

    let hers = world.editors.open("hers", Provider::Plain, &alice, &room).await?;
    hers.type_end("alice's line").await?;
    let update = world.editors.update_event(7_001, "[carol's line]").await?;
    carol.try_send(&room, "dev.weft.update", update).await?.ok()?;
    hers.until_contains("[carol's line]").await?;

    // Synapse knows nothing of documents; it refuses by the power levels alone.
    let update = world.editors.update_event(7_002, "[bob's line]").await?;
    let refused = bob.try_send(&room, "dev.weft.update", update.clone()).await?;
    assert_eq!(refused.errcode(), "M_FORBIDDEN", "{refused:?}");
    alice.give_role(&room, &bob.user, "editor").await?;
    bob.until("bob may edit", || async {
        let sent = bob.try_send(&room, "dev.weft.update", update.clone()).await?;
        Ok(sent.status.is_success().then_some(()))
    })
    .await?;
    hers.until_contains("[bob's line]").await?;

    // It also takes what is no update at all; that must hurt nobody.
    let nonsense = json!({"update": "!!!", "clients": {"1": [0, 2]}});
    bob.try_send(&room, "dev.weft.update", nonsense).await?.ok()?;
    bob.say(&room, "after the nonsense").await?;
    until_message(&alice, &room, "after the nonsense").await?;
    let text = hers.text().await?;
    let again = world.editors.open("again", Provider::Hocuspocus, &alice, &room).await?;
    again.until_text(&text).await?;

    let member = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(&room),
        segment(&bob.user)
    );
    alice.request(Method::DELETE, &member, None).await?.ok()?;
    until_gone(&bob, &room).await
}

/// So many messages, and a topic, by somebody whose counterpart is away.
async fn meanwhile(client: &Client, room: &str, what: &str) -> Result<Vec<String>> {
    let texts: Vec<String> = (0..25).map(|number| format!("{what} {number}")).collect();
    for text in &texts {
        client.say(room, text).await?;
    }
    client
        .put(&Client::in_room(room, "state/m.room.topic"), json!({"topic": what}))
        .await?;
    Ok(texts)
}

async fn until_topic(client: &Client, room: &str, topic: &str) -> Result<()> {
    client
        .until(&format!("the topic {topic:?}"), || async {
            let state = client.get(&Client::in_room(room, "state/m.room.topic")).await?;
            Ok((state["topic"] == topic).then_some(()))
        })
        .await
}

#[tokio::test]
async fn whoever_was_away_learns_what_happened() -> Result<()> {
    let mut world = World::new(1).await?;
    let mut synapse = world.synapse().await?;
    let (alice, bob) = (world.user(0, "alice").await?, synapse.user("bob").await?);
    let room = alice
        .create_room(json!({"preset": "private_chat", "power_level_content_override": {"state_default": 0}}))
        .await?;
    let earlier = meanwhile(&alice, &room, "before anybody came").await?;
    alice
        .post(&Client::in_room(&room, "invite"), json!({"user_id": bob.user}))
        .await?;
    bob.accept_invitation(&room).await?;
    until_messages(&bob, &room, &earlier).await?;
    talk(&alice, &bob, &room).await?;

    synapse.kill();
    let missed = meanwhile(&alice, &room, "while Synapse was away").await?;
    synapse.boot().await?;
    bob.say(&room, "Synapse is back").await?;
    until_messages(&bob, &room, &missed).await?;
    until_topic(&bob, &room, "while Synapse was away").await?;
    until_message(&alice, &room, "Synapse is back").await?;

    let server = world.servers.first_mut().context("no server")?;
    server.kill();
    let missed = meanwhile(&bob, &room, "while we were away").await?;
    server.boot().await?;
    alice.say(&room, "we are back").await?;
    until_messages(&alice, &room, &missed).await?;
    until_topic(&alice, &room, "while we were away").await?;
    until_message(&bob, &room, "we are back").await?;
    let topic = bob.get(&Client::in_room(&room, "state/m.room.topic")).await?;
    ensure!(topic["topic"] == "while we were away", "{topic}");
    Ok(())
}
