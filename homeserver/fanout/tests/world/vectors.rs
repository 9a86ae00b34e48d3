//! Every vector of `spec/vectors/edus`: the EDUs that a server sends, and what users see of the EDUs that it
//! receives.

use std::{fs, path::Path};

use ruma::{ServerName, server_name};
use serde_json::{Value, json};
use weft_fanout::{Joined, presence::UserPresence};
use weft_room_api::{Clock as _, ConnectionId, Incarnation};
use weft_wire::{awareness::AwarenessEdu, live::awareness::Entry, presence::PresenceEntry};

use crate::{
    awareness,
    fakes::{Net, alice},
    presence,
};

fn vectors(edu_type: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/edus");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let vectors = files.map(|path| {
        let vector: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.display().to_string(), vector)
    });
    let found: Vec<_> = vectors
        .filter(|(_, vector)| vector["edu"]["edu_type"] == edu_type)
        .collect();
    assert!(found.len() >= 13, "vectors are missing: {}", found.len());
    found
}

/// The newest sent EDU, in the form of a transaction.
fn last_sent(net: &Net) -> Value {
    let sent = net.0.lock().unwrap();
    let (kind, content, _) = sent.last().expect("an EDU was sent");
    json!({"edu_type": kind, "content": content})
}

#[tokio::test]
async fn presence_is_sent_as_the_vectors_state() {
    for (name, vector) in vectors("m.presence") {
        let sent = &vector["sent"];
        if sent.is_null() {
            continue;
        }
        let world = presence::world();
        let state = serde_json::from_value(sent["presence"].clone()).unwrap();
        let status = sent["status_msg"].as_str().map(str::to_owned);
        world.presence.set(alice(), state, status).await;
        if let Some(silent) = sent["silent_ms"].as_u64() {
            world.clock.advance(silent - 1);
            world.presence.expire().await;
            assert_eq!(world.net.0.lock().unwrap().len(), 1, "{name}: sent too early");
            world.clock.advance(1);
            world.presence.expire().await;
        }
        assert_eq!(last_sent(&world.net), vector["edu"], "{name}");
    }
}

#[tokio::test]
async fn presence_of_other_servers_is_stored_as_received() {
    for (name, vector) in vectors("m.presence") {
        let origin = ServerName::parse(vector["origin"].as_str().unwrap()).unwrap();
        if origin == server_name!("alpha.example") {
            continue;
        }
        let world = presence::world();
        let now = u64::from(world.clock.now().get());
        for entry in vector["read"].as_array().unwrap() {
            let entry: PresenceEntry = serde_json::from_value(entry.clone()).unwrap();
            world.presence.edu(&origin, entry.clone()).unwrap();
            let seen = UserPresence {
                presence: entry.presence,
                status: entry.status_msg,
                last_active: entry.last_active_ago.map(|ago| now - ago),
            };
            let known = world.presence.get(alice(), &entry.user_id).await.unwrap();
            // An unknown user going offline is not a change.
            if seen.presence != ruma::presence::PresenceState::Offline {
                assert_eq!(known, seen, "{name}");
            }
        }
    }
}

/// A client of this server or of another one, as the content of an EDU.
async fn receive(world: &awareness::World, content: &Value) {
    let edu: AwarenessEdu = serde_json::from_value(content.clone()).unwrap();
    if edu.user_id.server_name() == server_name!("alpha.example") {
        let joined = Joined {
            room: edu.room_id,
            session: ConnectionId::new(Incarnation(1), 1),
            display_name: (edu.user_id == alice()).then(|| "Alice".to_owned()),
            user: edu.user_id,
            device: edu.device_id,
        };
        let entry = Entry {
            client: edu.client_id,
            clock: u64::from(edu.clock),
            state: json!(edu.state).to_string(),
        };
        world.awareness.local(&joined, vec![entry], true).await;
    } else {
        let origin = edu.user_id.server_name().to_owned();
        // Acceptance is visible in what is shown.
        let _ = world.awareness.remote(&origin, edu).await;
    }
}

#[tokio::test]
async fn awareness_is_sent_and_shown_as_the_vectors_state() {
    for (name, vector) in vectors("dev.weft.awareness") {
        let world = awareness::world();
        for content in vector["before"].as_array().into_iter().flatten() {
            receive(&world, content).await;
        }
        if !vector["sent"].is_null() {
            receive(&world, &vector["sent"]).await;
            assert_eq!(last_sent(&world.net), vector["edu"], "{name}");
            continue;
        }
        let mut reader = awareness::subscribe(&world.fanout, 2);
        for content in vector["read"].as_array().unwrap() {
            receive(&world, content).await;
            assert_eq!(awareness::shown(&mut reader), vector["shown"], "{name}");
        }
    }
}
