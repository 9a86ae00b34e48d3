//! Both servers change a room's state during a partition. Once it ends, both have the same complete state: once with
//! changes that are known to conflict, and then with random changes. Must not resolve state itself.
//!
//! `WEFT_FORK_SEEDS=100..110` runs other seeds; a failure names its seed.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::client::{Client, segment};

use crate::{
    gaps::say_all,
    pair::{Pair, Side, VERSIONS, does, give_level, set, state, talk, try_join, until_message, until_messages},
};

/// Messages that each side missed: more than a server requests at once (Synapse: 10).
const MISSED: usize = 12;

/// The whole state of a room on a server: by type and state key, the event, its sender and its content.
async fn whole_state(client: &Client, room: &str) -> Result<BTreeMap<String, Value>> {
    let events = client.get(&Client::in_room(room, "state")).await?;
    let events = events.as_array().context("no list")?;
    let entry = |event: &Value| {
        let entry = json!([
            event["event_id"],
            event["sender"],
            event["content"],
            event["origin_server_ts"]
        ]);
        (format!("{} {}", event["type"], event["state_key"]), entry)
    };
    Ok(events.iter().map(entry).collect())
}

/// Host and guest of one room, and its other members.
struct Fork<'a> {
    host: &'a Side,
    guest: &'a Side,
    room: String,
    what: String,
}

impl<'a> Fork<'a> {
    /// Both sides have two users in the room; the guest may do nearly everything.
    async fn begin(host: &'a Side, guest: &'a Side, version: &str) -> Result<Self> {
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
        let what = format!("version {version}, begun by {}", host.one.user);
        let fork = Self {
            host,
            guest,
            room,
            what,
        };
        fork.until_equal().await?;
        Ok(fork)
    }

    /// The host's changes during the partition.
    async fn at_the_host(&self, demoting: bool) -> Result<Vec<String>> {
        let (host, room) = (&self.host.one, &self.room);
        set(host, room, "m.room.name", json!({"name": "of the host"})).await?;
        set(host, room, "m.room.topic", json!({"topic": "of the host"})).await?;
        let mut levels = state(host, room, "m.room.power_levels").await?;
        levels["users"][&self.host.other.user] = json!(50);
        if demoting {
            levels["users"][&self.guest.one.user] = json!(0);
        }
        set(host, room, "m.room.power_levels", levels).await?;
        does(host, "ban", &self.guest.other, room).await?;
        say_all(host, room, "of the host", MISSED).await
    }

    /// The guest's changes: other names and levels, a kick of the host's second user, and changes by the guest's second
    /// user, whose server does not know of the ban.
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

    async fn conflict(&self, demoting: bool) -> Result<[Vec<String>; 2]> {
        let (first, second) = tokio::try_join!(self.at_the_host(demoting), self.at_the_guest())?;
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

    /// Ends the partition; both must have one state.
    async fn meet(&self) -> Result<()> {
        let (host, guest, room) = (&self.host.one, &self.guest.one, &self.room);
        // Both send: a transaction from the other server makes each one send its queue.
        host.say(room, "the host is back").await?;
        guest.say(room, "the guest is back").await?;
        until_message(guest, room, "the host is back").await?;
        until_message(host, room, "the guest is back").await?;
        talk(host, guest, room).await?;
        self.until_equal().await
    }

    /// Both have all messages and one state; if the guest was demoted, it is not the guest's.
    async fn end(&self, [of_host, of_guest]: [Vec<String>; 2], demoting: bool) -> Result<()> {
        self.meet().await?;
        until_messages(&self.guest.one, &self.room, &of_host).await?;
        until_messages(&self.host.one, &self.room, &of_guest).await?;
        for kind in ["topic", "name"].into_iter().filter(|_| demoting) {
            let now = state(&self.host.one, &self.room, &format!("m.room.{kind}")).await?;
            ensure!(now[kind] == "of the host", "{kind}: {now}");
        }
        Ok(())
    }
}

/// `of_each` rooms of each version in each direction, one after the other, because Synapse has one connection to its
/// database: many requests delay what we send to it.
async fn rooms(pair: &Pair, of_each: usize) -> Result<Vec<Fork<'_>>> {
    let mut all = Vec::new();
    for version in VERSIONS {
        for (host, guest) in pair.directions() {
            for _ in 0..of_each {
                all.push(Fork::begin(host, guest, version).await?);
            }
        }
    }
    Ok(all)
}

#[tokio::test]
async fn conflicting_state_of_a_partition_is_resolved_the_same_way() -> Result<()> {
    let pair = Pair::behind_links().await?;
    let forks = rooms(&pair, 2).await?;
    let forks: Vec<(&Fork<'_>, bool)> = forks.iter().zip([false, true].into_iter().cycle()).collect();
    pair.world.cut();
    let sent = try_join_all(forks.iter().map(|(fork, demoting)| fork.conflict(*demoting))).await?;
    pair.world.heal();
    for ((fork, demoting), sent) in forks.iter().zip(sent) {
        let end = fork.end(sent, *demoting).await;
        end.with_context(|| format!("{}, demoting: {demoting}", fork.what))?;
    }
    Ok(())
}

/// Attempted changes of each side during the partition.
const TRIED: usize = 8;

/// Default seeds.
const SEEDS: Range<u64> = 0..2;

fn seeds() -> Result<Range<u64>> {
    let Ok(text) = std::env::var("WEFT_FORK_SEEDS") else {
        return Ok(SEEDS);
    };
    let (from, to) = text.split_once("..").context("WEFT_FORK_SEEDS is not a range")?;
    Ok(from.parse()?..to.parse()?)
}

fn pick<'a, T>(dice: &mut StdRng, all: &'a [T]) -> &'a T {
    &all[dice.random_range(0..all.len())]
}

impl Fork<'_> {
    /// One of the two users of a side attempts a change, which the authorization rules of that side may forbid. Host
    /// and guest stay: their servers must remain in the room.
    async fn try_something(&self, side: &Side, dice: &mut StdRng) -> Result<()> {
        let who = *pick(dice, &[&side.one, &side.one, &side.other]);
        let others = [&self.host.other, &self.guest.other];
        let word = json!(format!("{:x}", dice.random::<u32>()));
        let in_room = |what: &str| Client::in_room(&self.room, what);
        let (method, path, body) = match dice.random_range(0..100) {
            0..15 => (Method::PUT, in_room("state/m.room.topic"), json!({"topic": word})),
            15..25 => (Method::PUT, in_room("state/m.room.name"), json!({"name": word})),
            25..30 => (Method::PUT, in_room("state/org.example.note/a"), json!({"note": word})),
            30..50 => {
                let levels = self.other_levels(who, dice).await?;
                (Method::PUT, in_room("state/m.room.power_levels"), levels)
            }
            50..75 => {
                let what = *pick(dice, &["kick", "ban", "ban", "unban"]);
                (
                    Method::POST,
                    in_room(what),
                    json!({"user_id": pick(dice, &others).user}),
                )
            }
            75..82 => {
                let rule = *pick(dice, &["public", "invite", "knock"]);
                (
                    Method::PUT,
                    in_room("state/m.room.join_rules"),
                    json!({"join_rule": rule}),
                )
            }
            // A user of the same side: a user of the other server could not be invited now.
            82..88 => (Method::POST, in_room("invite"), json!({"user_id": side.other.user})),
            88..92 => {
                side.other
                    .request(Method::POST, &in_room("leave"), Some(json!({})))
                    .await?;
                return Ok(());
            }
            _ => {
                side.other
                    .request(Method::POST, &in_room("join"), Some(json!({})))
                    .await?;
                return Ok(());
            }
        };
        let answer = who.request(method, &path, Some(body)).await?;
        ensure!(!answer.status.is_server_error(), "{path}: {answer:?}");
        Ok(())
    }

    /// The power levels in a user's view, with one of them changed.
    async fn other_levels(&self, who: &Client, dice: &mut StdRng) -> Result<Value> {
        let answer = who
            .request(
                Method::GET,
                &Client::in_room(&self.room, "state/m.room.power_levels"),
                None,
            )
            .await?;
        let mut levels = answer.body;
        let users = [&self.guest.one, &self.host.other, &self.guest.other];
        match dice.random_range(0..10) {
            0..7 => levels["users"][&pick(dice, &users).user] = json!(pick(dice, &[0, 30, 50, 80])),
            7 => levels["events"]["m.room.topic"] = json!(pick(dice, &[0, 50, 80])),
            8 => levels["state_default"] = json!(pick(dice, &[0, 50])),
            _ => levels[*pick(dice, &["kick", "ban"])] = json!(pick(dice, &[30, 50, 80])),
        }
        Ok(levels)
    }

    async fn try_changes(&self, side: &Side, seed: u64) -> Result<()> {
        let mut dice = StdRng::seed_from_u64(seed);
        for _ in 0..TRIED {
            self.try_something(side, &mut dice).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn random_conflicting_state_is_resolved_the_same_way() -> Result<()> {
    let pair = Pair::behind_links().await?;
    for seed in seeds()? {
        let forks = rooms(&pair, 1).await.with_context(|| format!("seed {seed}"))?;
        pair.world.cut();
        let tried = (0..).zip(&forks).map(|(number, fork)| async move {
            let seed = seed * 1_000 + number * 2;
            tokio::try_join!(
                fork.try_changes(fork.host, seed),
                fork.try_changes(fork.guest, seed + 1)
            )
        });
        try_join_all(tried).await.with_context(|| format!("seed {seed}"))?;
        pair.world.heal();
        for fork in &forks {
            let end = fork.meet().await;
            end.with_context(|| format!("seed {seed}, {}", fork.what))?;
        }
    }
    Ok(())
}
