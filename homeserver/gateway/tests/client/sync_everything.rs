//! While many users send concurrently, the syncs of one client together return every event exactly once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Person, World, encoded, ids};

/// An action in a room.
#[derive(Debug, Clone)]
enum Act {
    Say,
    Rename,
    /// The disk is slow: commits of all rooms queue up, and their positions are assigned late.
    SlowDisk,
    Nothing,
}

/// The data of a client after its syncs.
#[derive(Default)]
struct Client {
    since: Option<String>,
    /// Room: events in the order received.
    timelines: BTreeMap<String, Vec<String>>,
    /// Room, type, state key: event.
    state: BTreeMap<(String, String, String), String>,
}

impl Client {
    async fn sync(&mut self, world: &World, who: &Person, limit: u32) {
        let filter = encoded(&json!({"room": {"timeline": {"limit": limit}}}));
        let synced = world
            .sync(who, self.since.as_deref(), &format!("filter={filter}"))
            .await;
        for (room, joined) in synced["rooms"]["join"].as_object().into_iter().flatten() {
            let timeline = &joined["timeline"];
            let mut new = ids(&timeline["events"]);
            if timeline["limited"] == json!(true) {
                let mut missing = self
                    .fill(world, who, room, timeline["prev_batch"].as_str().unwrap())
                    .await;
                missing.append(&mut new);
                new = missing;
            }
            self.timelines.entry(room.clone()).or_default().extend(new);
            for event in [&joined["state"]["events"], &timeline["events"]] {
                self.apply(room, event);
            }
        }
        self.since = synced["next_batch"].as_str().map(str::to_owned);
    }

    fn apply(&mut self, room: &str, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            if let Some(key) = event["state_key"].as_str() {
                let kind = event["type"].as_str().unwrap().to_owned();
                let id = event["event_id"].as_str().unwrap().to_owned();
                self.state.insert((room.to_owned(), kind, key.to_owned()), id);
            }
        }
    }

    /// Events between the known ones and a token, oldest first.
    async fn fill(&self, world: &World, who: &Person, room: &str, from: &str) -> Vec<String> {
        let known: BTreeSet<&String> = self.timelines.get(room).into_iter().flatten().collect();
        let mut missing = Vec::new();
        let mut from = from.to_owned();
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=3&from={from}");
            let page = world.get(&path, who).await;
            for id in ids(&page["chunk"]) {
                if known.contains(&id) {
                    missing.reverse();
                    return missing;
                }
                missing.push(id);
            }
            match page["end"].as_str() {
                Some(end) => from = end.to_owned(),
                None => {
                    missing.reverse();
                    return missing;
                }
            }
        }
    }
}

async fn act(world: &World, room: &str, who: &Person, act: &Act, n: usize) {
    match act {
        Act::Say => drop(world.send_text(room, who, &n.to_string()).await),
        Act::Rename => {
            drop(
                world
                    .set_state(
                        room,
                        who,
                        "m.room.topic",
                        "",
                        json!({"topic": format!("{} {n}", who.user)}),
                    )
                    .await,
            );
        }
        Act::SlowDisk => {
            world.server.disk.pause_syncs();
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            world.server.disk.resume_syncs();
        }
        Act::Nothing => tokio::task::yield_now().await,
    }
}

async fn everything_is_told_once(scripts: Vec<Vec<Act>>, limit: u32) {
    let world = World::new().await;
    let reader = world.person("reader").await;
    let mut rooms = Vec::new();
    for name in ["a", "b", "c"] {
        let power = json!({"state_default": 0});
        let options = json!({"preset": "public_chat", "name": name, "power_level_content_override": power});
        rooms.push(world.room(&reader, options).await);
    }
    let mut writers = tokio::task::JoinSet::new();
    for (number, script) in scripts.into_iter().enumerate() {
        let (world, room) = (world.clone(), rooms[number % rooms.len()].clone());
        let writer = world.person(&format!("w{number}")).await;
        writers.spawn(async move {
            world
                .ok("POST", &format!("/_matrix/client/v3/join/{room}"), &writer, json!({}))
                .await;
            for (n, step) in script.iter().enumerate() {
                act(&world, &room, &writer, step, n).await;
            }
        });
    }
    let mut client = Client::default();
    while !writers.is_empty() {
        client.sync(&world, &reader, limit).await;
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
        tokio::task::yield_now().await;
    }
    client.sync(&world, &reader, limit).await;
    for room in &rooms {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=500");
        let all = ids(&world.get(&path, &reader).await["chunk"]);
        assert_eq!(client.timelines[room], all, "each event once and in order");
        let state = world
            .get(&format!("/_matrix/client/v3/rooms/{room}/state"), &reader)
            .await;
        for event in state.as_array().unwrap() {
            let field = |name: &str| event[name].as_str().unwrap().to_owned();
            let synced = client.state.get(&(room.clone(), field("type"), field("state_key")));
            assert_eq!(synced, Some(&field("event_id")), "{event}");
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Vec<Act>>> {
    let act =
        prop_oneof![4 => Just(Act::Say), 2 => Just(Act::Rename), 1 => Just(Act::SlowDisk), 1 => Just(Act::Nothing)];
    prop::collection::vec(prop::collection::vec(act, 0..12), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn consecutive_syncs_return_every_event_once(scripts in acts(), limit in 1_u32..6) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(everything_is_told_once(scripts, limit));
    }
}
