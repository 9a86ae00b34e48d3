//! Every vector of `spec/vectors/edus`: which parts of an EDU are accepted, by its form and its sender.

use std::{fs, path::Path};

use ruma::ServerName;
use serde_json::{Map, Value, json, value::to_raw_value};
use weft_wire::presence::PresenceEntry;

use super::{InboundEdu, Tally, parse};

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors/edus");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn show_presence(entry: &PresenceEntry) -> Value {
    let mut shown = Map::from_iter([
        ("user_id".to_owned(), json!(entry.user_id)),
        ("presence".to_owned(), json!(entry.presence)),
    ]);
    if let Some(status) = &entry.status_msg {
        shown.insert("status_msg".to_owned(), json!(status));
    }
    if let Some(ago) = entry.last_active_ago {
        shown.insert("last_active_ago".to_owned(), json!(ago));
    }
    shown.into()
}

fn show(edu: &InboundEdu) -> Value {
    match edu {
        InboundEdu::Presence(entry) => show_presence(entry),
        InboundEdu::Awareness(content) => serde_json::to_value(content).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_edu_is_read_as_its_vector_states() {
    let vectors = vectors();
    assert!(vectors.len() >= 39, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        let origin = ServerName::parse(vector["origin"].as_str().unwrap()).unwrap();
        let read = parse(&origin, &to_raw_value(&vector["edu"]).unwrap(), &mut Tally::default());
        let shown: Vec<Value> = read.iter().map(show).collect();
        assert_eq!(json!(shown), vector["read"], "{name}");
    }
}
