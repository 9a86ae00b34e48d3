//! Every vector of `spec/vectors/awareness`: what the sockets of one document send, and what other clients are shown.

use std::{collections::BTreeMap, fs, path::Path};

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};
use weft_fanout::{Joined, RoomSubscription};
use weft_room_api::{ConnectionId, Incarnation};
use weft_wire::{awareness::AwarenessEdu, live::awareness::Entry};

use crate::{
    awareness::{World, shown, subscribe, world},
    fakes::room,
};

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/awareness");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// A socket, and whether it has sent its first awareness message.
struct Socket {
    joined: Joined,
    announced: bool,
}

/// Sockets by their names: `user device number`, such as `alice PHONE 1`.
#[derive(Default)]
struct Sockets(BTreeMap<String, Socket>);

impl Sockets {
    fn of(&mut self, name: &str) -> &mut Socket {
        let next = ConnectionId::new(Incarnation(1), self.0.len() as u64 + 10);
        self.0.entry(name.to_owned()).or_insert_with(|| {
            let words: Vec<&str> = name.split(' ').collect();
            Socket {
                joined: Joined {
                    room: room().to_owned(),
                    session: next,
                    user: OwnedUserId::try_from(format!("@{}:alpha.example", words[0])).unwrap(),
                    device: OwnedDeviceId::from(words[1]),
                    display_name: (words[0] == "alice").then(|| "Alice".to_owned()),
                },
                announced: false,
            }
        })
    }
}

/// A state as JSON, or its text if it is a string.
fn entry(given: &Value) -> Entry {
    let state = given["text"]
        .as_str()
        .map_or_else(|| given["state"].to_string(), str::to_owned);
    Entry {
        client: given["client_id"].as_u64().unwrap(),
        clock: given["clock"].as_u64().unwrap(),
        state,
    }
}

/// The entries of a step: `many` stands for this number of entries with consecutive client ids.
fn entries(step: &Value) -> Vec<Entry> {
    let given = step["entries"].as_array().into_iter().flatten().map(entry);
    let first = step["first"].as_u64().unwrap_or_default();
    let many = (first..first + step["many"].as_u64().unwrap_or_default()).map(|client| Entry {
        client,
        clock: 1,
        state: "{}".to_owned(),
    });
    given.chain(many).collect()
}

fn show(entries: &[Entry]) -> Value {
    entries
        .iter()
        .map(|entry| {
            let state: Value = serde_json::from_str(&entry.state).unwrap();
            json!({"client_id": entry.client, "clock": entry.clock, "state": state})
        })
        .collect()
}

/// Runs one step; returns the removals for the socket.
async fn take(world: &World, sockets: &mut Sockets, step: &Value) -> Vec<Entry> {
    if let Some(name) = step["sends"].as_str() {
        let socket = sockets.of(name);
        let announces = !std::mem::replace(&mut socket.announced, true);
        let own = world.awareness.relevant(&socket.joined, entries(step), announces);
        return world.awareness.local(&socket.joined, own, announces).await;
    }
    if let Some(name) = step["closes"].as_str() {
        world.awareness.leave(&sockets.of(name).joined).await;
    } else if let Some(time) = step["wait_ms"].as_u64() {
        world.pass(time);
        world.awareness.expire();
    } else {
        let edu: AwarenessEdu = serde_json::from_value(step["edu"].clone()).unwrap();
        let origin = edu.user_id.server_name().to_owned();
        // Acceptance is visible in what is shown.
        let _ = world.awareness.remote(&origin, edu).await;
    }
    Vec::new()
}

/// The result of a step is compared by its length if the vector has `shows`, otherwise by its value.
fn check(name: &str, step: &Value, shown: &Value, answered: &[Entry]) {
    match step["shows"].as_u64() {
        Some(count) => assert_eq!(shown.as_array().unwrap().len() as u64, count, "{name}: {step}"),
        None => assert_eq!(shown, step.get("shown").unwrap_or(&json!([])), "{name}: {step}"),
    }
    let expected = step.get("answered").cloned().unwrap_or(json!([]));
    if step.get("shows").is_none() {
        assert_eq!(show(answered), expected, "{name}: {step}");
    }
}

#[tokio::test]
async fn awareness_of_sockets_follows_the_vectors() {
    let vectors = vectors();
    assert!(vectors.len() >= 40, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        let (world, mut sockets) = (world(), Sockets::default());
        let mut reader: RoomSubscription = subscribe(&world.fanout, 2);
        for step in vector["steps"].as_array().unwrap() {
            let answered = take(&world, &mut sockets, step).await;
            check(&name, step, &shown(&mut reader), &answered);
        }
        let present = show(&world.awareness.states(room()));
        if let Some(expected) = vector.get("present") {
            assert_eq!(&present, expected, "{name}");
        }
    }
}
