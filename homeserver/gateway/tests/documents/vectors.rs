//! Every vector of `spec/vectors/documents`: requests, callers and answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use ruma::RoomId;
use serde_json::{Map, Value, json};
use weft_room_api::{ConnectionId, CreateRoom, Edit, Incarnation};

use crate::world::{Person, Sent, World};

/// The values of the names in angle brackets in this run.
type Names = BTreeMap<String, Value>;

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/documents");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn is_name(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>')
}

/// Whether an answer matches the vector. A name without a value takes the value found.
fn matches(expected: &Value, actual: &Value, names: &mut Names) -> bool {
    match (expected, actual) {
        (Value::String(name), _) if name == "<>" => true,
        (Value::String(name), _) if is_name(name) => {
            names.entry(name.clone()).or_insert_with(|| actual.clone()) == actual
        }
        (Value::Object(expected), Value::Object(actual)) => object_matches(expected, actual, names),
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .zip(actual)
                    .all(|(expected, actual)| matches(expected, actual, names))
        }
        _ => expected == actual,
    }
}

/// A key that ends with `?` may be missing.
fn object_matches(expected: &Map<String, Value>, actual: &Map<String, Value>, names: &mut Names) -> bool {
    let plain = |key: &str| key.trim_end_matches('?').to_owned();
    let allowed: BTreeSet<String> = expected.keys().map(|key| plain(key)).collect();
    actual.keys().all(|key| allowed.contains(key))
        && expected.iter().all(|(key, expected)| match actual.get(&plain(key)) {
            Some(actual) => matches(expected, actual, names),
            None => key.ends_with('?'),
        })
}

fn filled_in(path: &str, names: &Names) -> String {
    let mut path = path.to_owned();
    for (name, value) in names {
        path = path.replace(name, value.as_str().unwrap_or_default());
    }
    path
}

/// The body; with `times`, its only change is there so many times.
fn with_repeated_change(body: &Value, step: &Value) -> Value {
    let mut body = body.clone();
    if let Some(times) = step["times"].as_u64() {
        body["changes"] = json!(vec![body["changes"][0].clone(); usize::try_from(times).unwrap()]);
    }
    body
}

async fn ask(world: &World, token: Option<&str>, step: &Value, names: &mut Names) {
    let (method, path) = step["request"].as_str().unwrap().split_once(' ').unwrap();
    let raw = step["raw"].as_str().map(|raw| raw.as_bytes().to_vec());
    let bytes = step["raw_hex"].as_str().map(|bytes| hex::decode(bytes).unwrap());
    let body = step
        .get("body")
        .map(|body| filled_in(&with_repeated_change(body, step).to_string(), names).into_bytes());
    let headers: Vec<_> = [
        ("if-match", "if_match"),
        ("if-none-match", "if_none_match"),
        ("idempotency-key", "idempotency_key"),
    ]
    .into_iter()
    .filter_map(|(header, key)| Some((header, step[key].as_str()?)))
    .collect();
    let sent = Sent {
        token,
        headers: &headers,
        body: raw.or(bytes).or(body),
    };
    let answer = world.call(method, &filled_in(path, names), sent).await;
    let shown = String::from_utf8_lossy(&answer.body);
    assert_eq!(json!(answer.status), step["status"], "{step}: {shown}");
    if let Some(tag) = step.get("etag") {
        assert_eq!(json!(answer.etag), *tag, "{step}");
    }
    if let Some(bytes) = step["hex"].as_str() {
        assert_eq!(json!(answer.kind), step["type"], "{step}");
        assert_eq!(answer.body, hex::decode(bytes).unwrap(), "{step}");
    } else {
        let mut actual: Value = serde_json::from_slice(&answer.body).unwrap();
        if answer.status >= 400 {
            take_problem(answer.status, &mut actual);
        }
        assert!(matches(&step["answer"], &actual, names), "{step}: {actual}, {names:?}");
    }
}

/// The members of RFC 9457, which every error has and no vector repeats.
fn take_problem(status: u16, error: &mut Value) {
    let detail = error["error"].clone();
    let fields = error.as_object_mut().unwrap();
    assert_eq!(fields.remove("type"), Some(json!("about:blank")), "{fields:?}");
    assert_eq!(fields.remove("status"), Some(json!(status)), "{fields:?}");
    assert_eq!(fields.remove("detail"), Some(detail), "{fields:?}");
    assert!(
        fields.remove("title").is_some_and(|title| title.is_string()),
        "{fields:?}"
    );
}

/// Actions outside of the document API.
async fn act(world: &World, person: &Person, step: &Value, names: &mut Names) {
    if let Some(room) = step["makes_room"].as_str() {
        let made = world.rooms.create(&person.user, CreateRoom::default()).await.unwrap();
        names.insert(room.to_owned(), json!(made));
    } else if let Some(doc) = step["joins"].as_str() {
        world.join(&filled_in(doc, names), person).await;
    } else {
        let doc = filled_in(step["edits"].as_str().unwrap(), names);
        let edit = Edit {
            user: person.user.clone(),
            session: ConnectionId::new(Incarnation(1), 1),
            update: hex::decode(step["hex"].as_str().unwrap()).unwrap().into(),
        };
        world.rooms.edit(&RoomId::parse(doc).unwrap(), edit).await.unwrap();
    }
}

#[tokio::test]
async fn requests_match_the_vectors() {
    let vectors = vectors();
    assert!(vectors.len() >= 24, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        let world = World::new().await;
        let mut people = BTreeMap::new();
        for who in ["alice", "bob", "carol"] {
            people.insert(who, world.person(who).await);
        }
        let mut names = Names::new();
        for step in vector["steps"].as_array().unwrap() {
            let by = step["by"].as_str().map(|who| &people[who]);
            if step.get("request").is_some() {
                let token = by.map(|person| person.token.as_str()).or(step["token"].as_str());
                ask(&world, token, step, &mut names).await;
            } else {
                act(&world, by.unwrap(), step, &mut names).await;
            }
        }
        let ascending = vector["ascending"].as_array().into_iter().flatten();
        let values: Vec<u64> = ascending
            .map(|value| names[value.as_str().unwrap()].as_u64().unwrap())
            .collect();
        assert!(values.is_sorted_by(|a, b| a < b), "{name}: {values:?}");
    }
}
