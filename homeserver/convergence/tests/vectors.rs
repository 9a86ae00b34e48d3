//! Runs every vector of `spec/vectors/updates`: the result for a `dev.weft.update` event, by its content and its past.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

use std::path::Path;

use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_convergence::admission::{Judgement, Owners, Past, judge};
use weft_crdt::{ClientId, StateVector};
use weft_wire::update::UpdateContent;

#[derive(Deserialize)]
struct Vector {
    event: Event,
    known: serde_json::Map<String, Value>,
    expect: Value,
}

#[derive(Deserialize)]
struct Event {
    sender: OwnedUserId,
    state_key: Option<String>,
    content: Value,
}

fn decide(vector: &Vector) -> Value {
    let (mut extremities, mut owners) = (StateVector::new(), Owners::default());
    for (client, known) in &vector.known {
        let client = ClientId::new(client.parse().unwrap()).unwrap();
        extremities.set(client, u32::try_from(known["end"].as_u64().unwrap()).unwrap());
        let owner: OwnedUserId = known["owner"].as_str().unwrap().parse().unwrap();
        owners.claim(client, &owner);
    }
    let past = Past {
        vector: &extremities,
        owners: &owners,
    };
    let inadmissible = json!({ "result": "inadmissible" });
    let Ok(content) = serde_json::from_value::<UpdateContent>(vector.event.content.clone()) else {
        return inadmissible;
    };
    if vector.event.state_key.is_some() {
        return inadmissible;
    }
    match judge(&content, &vector.event.sender, &past) {
        Judgement::Admitted { ranges, .. } => {
            let ranges = ranges
                .iter()
                .map(|(client, (from, to))| (client.to_string(), json!([from, to])));
            json!({ "result": "admitted", "ranges": ranges.collect::<serde_json::Map<_, _>>() })
        }
        Judgement::NothingNew => json!({ "result": "known" }),
        Judgement::Inadmissible { .. } => inadmissible,
    }
}

#[test]
fn the_updates_vectors_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/updates");
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let answer = decide(&vector);
        if answer != vector.expect {
            wrong.push(format!("{}: {answer}, expected {}", path.display(), vector.expect));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
