//! What each learns of the time in which it was away, or was not in the room yet, or could not hear the other: messages in
//! their order, and after a fork of the state the same state, all of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use weft_conformance_tests::client::{Client, segment};

use crate::pair::{
    Pair, Side, VERSIONS, does, give_level, set, state, talk, try_join, until_message, until_messages, until_state,
};

/// Messages that the other side missed. More than what a server asks for at once (Synapse: 10).
const MISSED: usize = 25;

/// Messages of before somebody came.
const HISTORY: usize = 500;

async fn say_all(client: &Client, room: &str, what: &str, count: usize) -> Result<Vec<String>> {
    let texts: Vec<String> = (0..count).map(|number| format!("{what} {number}")).collect();
    for text in &texts {
        client.say(room, text).await?;
    }
    Ok(texts)
}

/// So many messages, and a topic, by somebody whose counterpart is away.
async fn meanwhile(client: &Client, room: &str, what: &str) -> Result<Vec<String>> {
    let texts = say_all(client, room, what, MISSED).await?;
    set(client, room, "m.room.topic", json!({ "topic": what })).await?;
    Ok(texts)
}

#[tokio::test]
async fn whoever_was_away_learns_what_happened() -> Result<()> {
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

/// The guest comes to a room in which much has been said, and reads all of it in its order.
async fn come_late(host: &Side, guest: &Side, version: &str) -> Result<()> {
    let room = host
        .one
        .create_room(json!({"room_version": version, "preset": "public_chat"}))
        .await?;
    let said = say_all(&host.one, &room, "said", HISTORY).await?;
    try_join(&guest.one, &room, &host.server).await?.ok()?;
    guest
        .one
        .until(
            &format!("{HISTORY} messages of before {} came", guest.one.user),
            || async { Ok((history(&guest.one, &room).await? == said).then_some(())) },
        )
        .await
        .with_context(|| format!("version {version}, begun by {}", host.one.user))?;
    talk(&host.one, &guest.one, &room).await
}

#[tokio::test]
async fn whoever_comes_late_reads_all_that_was_said() -> Result<()> {
    let pair = Pair::new().await?;
    for version in VERSIONS {
        let [to_them, to_us] = pair.directions();
        tokio::try_join!(
            come_late(to_them.0, to_them.1, version),
            come_late(to_us.0, to_us.1, version)
        )?;
    }
    Ok(())
}

/// The whole state of a room as a server tells it: by type and key, the event, its sender and its content.
async fn whole_state(client: &Client, room: &str) -> Result<BTreeMap<String, Value>> {
    let events = client.get(&Client::in_room(room, "state")).await?;
    let events = events.as_array().context("no list")?;
    let entry = |event: &Value| {
        let told = json!([
            event["event_id"],
            event["sender"],
            event["content"],
            event["origin_server_ts"]
        ]);
        (format!("{} {}", event["type"], event["state_key"]), told)
    };
    Ok(events.iter().map(entry).collect())
}

/// Host and guest of one room, and everybody else who is in it.
struct Fork<'a> {
    host: &'a Side,
    guest: &'a Side,
    room: String,
    what: String,
    /// Whether the host takes the guest's rights away during the cut.
    demoting: bool,
}

impl<'a> Fork<'a> {
    /// Both sides have two people in the room; the guest may do nearly everything.
    async fn begin(host: &'a Side, guest: &'a Side, version: &str, demoting: bool) -> Result<Self> {
        let room = host
            .one
            .create_room(json!({
                "room_version": version, "preset": "public_chat", "name": "before", "topic": "before",
                "power_level_content_override": {"events": {"m.room.power_levels": 50}},
            }))
            .await?;
        host.other.join(&room, None).await?;
        for client in [&guest.one, &guest.other] {
            try_join(client, &room, &host.server).await?.ok()?;
            host.one.until_membership(&room, &client.user, "join").await?;
        }
        give_level(&host.one, &guest.one, &room, 90).await?;
        let what = format!("version {version}, begun by {}, demoting: {demoting}", host.one.user);
        let fork = Self {
            host,
            guest,
            room,
            what,
            demoting,
        };
        fork.until_equal().await?;
        Ok(fork)
    }

    /// What the host does while neither hears the other.
    async fn at_the_host(&self) -> Result<Vec<String>> {
        let (host, room) = (&self.host.one, &self.room);
        set(host, room, "m.room.name", json!({"name": "of the host"})).await?;
        set(host, room, "m.room.topic", json!({"topic": "of the host"})).await?;
        let mut levels = state(host, room, "m.room.power_levels").await?;
        levels["users"][&self.host.other.user] = json!(50);
        if self.demoting {
            levels["users"][&self.guest.one.user] = json!(0);
        }
        set(host, room, "m.room.power_levels", levels).await?;
        does(host, "ban", &self.guest.other, room).await?;
        say_all(host, room, "of the host", MISSED).await
    }

    /// And the guest: other names, other levels, the other's friend put out, and a friend who doesn't know of the ban.
    async fn at_the_guest(&self) -> Result<Vec<String>> {
        let (guest, room) = (&self.guest.one, &self.room);
        set(guest, room, "m.room.topic", json!({"topic": "of the guest"})).await?;
        let mut levels = state(guest, room, "m.room.power_levels").await?;
        levels["users"][&self.guest.other.user] = json!(40);
        levels["events"]["m.room.topic"] = json!(40);
        set(guest, room, "m.room.power_levels", levels).await?;
        set(
            &self.guest.other,
            room,
            "m.room.topic",
            json!({"topic": "of the guest's friend"}),
        )
        .await?;
        set(guest, room, "m.room.name", json!({"name": "of the guest"})).await?;
        set(guest, room, "m.room.join_rules", json!({"join_rule": "invite"})).await?;
        does(guest, "kick", &self.host.other, room).await?;
        let member = format!("m.room.member/{}", segment(&self.guest.other.user));
        let renamed = json!({"membership": "join", "displayname": "renamed"});
        set(&self.guest.other, room, &member, renamed).await?;
        say_all(guest, room, "of the guest", MISSED).await
    }

    async fn cut(&self) -> Result<[Vec<String>; 2]> {
        let (first, second) = tokio::try_join!(self.at_the_host(), self.at_the_guest())?;
        let (here, there) = self.both().await?;
        ensure!(here != there, "the state did not fork");
        Ok([first, second])
    }

    async fn both(&self) -> Result<(BTreeMap<String, Value>, BTreeMap<String, Value>)> {
        tokio::try_join!(
            whole_state(&self.host.one, &self.room),
            whole_state(&self.guest.one, &self.room)
        )
    }

    async fn until_equal(&self) -> Result<()> {
        let equal = self.host.one.until("the same state", || async {
            let (here, there) = self.both().await?;
            Ok((here == there).then_some(()))
        });
        if equal.await.is_ok() {
            return Ok(());
        }
        let (here, there) = self.both().await?;
        let differing = here.keys().chain(there.keys());
        let differing = differing.filter(|key| here.get(*key) != there.get(*key));
        let differing: BTreeMap<_, _> = differing.map(|key| (key, (here.get(key), there.get(key)))).collect();
        anyhow::bail!("{}: host and guest differ: {differing:#?}", self.what)
    }

    /// Both have all messages and one state, and where the guest was demoted, not the guest's.
    async fn end(&self, [of_host, of_guest]: [Vec<String>; 2]) -> Result<()> {
        // Both at once: who hears of the other again sends what has waited.
        self.host.one.say(&self.room, "the host is back").await?;
        self.guest.one.say(&self.room, "the guest is back").await?;
        until_message(&self.guest.one, &self.room, "the host is back").await?;
        until_message(&self.host.one, &self.room, "the guest is back").await?;
        until_messages(&self.guest.one, &self.room, &of_host).await?;
        until_messages(&self.host.one, &self.room, &of_guest).await?;
        self.until_equal().await?;
        if self.demoting {
            for kind in ["topic", "name"] {
                let now = state(&self.host.one, &self.room, &format!("m.room.{kind}")).await?;
                ensure!(now[kind] == "of the host", "{kind}: {now}");
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn state_that_forked_during_a_cut_becomes_one_again() -> Result<()> {
    let pair = Pair::behind_links().await?;
    let mut forks = Vec::new();
    for version in VERSIONS {
        for (host, guest) in pair.directions() {
            for demoting in [false, true] {
                forks.push(Fork::begin(host, guest, version, demoting).await?);
            }
        }
    }
    pair.world.cut();
    let said = try_join_all(forks.iter().map(Fork::cut)).await?;
    pair.world.heal();
    let ends = forks
        .iter()
        .zip(said)
        .map(|(fork, said)| async move { fork.end(said).await.with_context(|| fork.what.clone()) });
    let ends = join_all(ends).await;
    let wrong: Vec<String> = ends
        .into_iter()
        .filter_map(|end| Some(format!("{:#}", end.err()?)))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
