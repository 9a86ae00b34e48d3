//! Every vector of `spec/vectors/snapshots` and `spec/vectors/joins`: requests of another server and their answers.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{OwnedRoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, json};
use weft_dag::RoomVersion;
use weft_room_api::{CreateRoom, Preset};
use weft_wire::document::DocumentKind;

use crate::world::{World, path};

fn vectors(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// The values of the names in angle brackets in this run.
type Names = BTreeMap<String, String>;

fn filled_in(value: &Value, names: &Names) -> Value {
    match value {
        Value::String(text) => json!(names.get(text).unwrap_or(text)),
        Value::Array(items) => items.iter().map(|item| filled_in(item, names)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), filled_in(field, names)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// A path with names for percent-encoded text.
fn request_path(said: &str, names: &Names) -> String {
    let mut said = said.to_owned();
    for (name, value) in names {
        said = said.replace(name, &path(value));
    }
    said
}

async fn is_answered(world: &World, names: &Names, name: &str, vector: &Value) {
    let (method, said) = vector["request"].as_str().unwrap().split_once(' ').unwrap();
    let said = match vector["times"].as_u64() {
        // The query, repeated this number of times.
        Some(times) => {
            let (path, query) = said.split_once('?').unwrap();
            format!("{path}?{}", vec![query; times as usize].join("&"))
        }
        None => said.to_owned(),
    };
    let said = request_path(&said, names);
    let body = filled_in(&vector["body"], names);
    let (status, answer) = match vector["by"].as_str() {
        Some(server) => {
            let server = ServerName::parse(server).unwrap();
            world.ask(&server, method, &said, body).await
        }
        None => {
            let request = axum::http::Request::builder().method(method).uri(&said);
            world.raw(request.body(axum::body::Body::empty()).unwrap()).await
        }
    };
    assert_eq!(json!(status), vector["status"], "{name}: {answer}");
    for (key, expected) in filled_in(&vector["answer"], names).as_object().unwrap() {
        assert_eq!(&answer[key], expected, "{name}: {key} of {answer}");
    }
    for key in vector["exactly"].as_array().into_iter().flatten() {
        assert!(answer.get(key.as_str().unwrap()).is_some(), "{name}: {answer}");
    }
    if let Some(keys) = vector["exactly"].as_array() {
        assert_eq!(answer.as_object().unwrap().len(), keys.len(), "{name}: {answer}");
    }
}

/// A document of alice that bob of `beta.test` has joined. Two updates, of which the second follows the first.
async fn document(world: &World, names: &mut Names, name: &str) -> OwnedRoomId {
    let room = world
        .room(CreateRoom {
            document: Some(DocumentKind::Text),
            ..CreateRoom::default()
        })
        .await;
    let rule = json!({ "join_rule": "public" });
    world.send(&room, "m.room.join_rules", Some(""), rule).await;
    for (event, update, clients) in [
        ("first", "01010100040104626f6479016100", json!({"1": [0, 1]})),
        ("second", "01010101840100016100", json!({"1": [1, 2]})),
    ] {
        let update = json!({ "update": STANDARD_NO_PAD.encode(hex::decode(update).unwrap()), "clients": clients });
        let id = world.send(&room, "dev.weft.update", None, update).await;
        names.insert(format!("<{name}-{event}>"), id.to_string());
    }
    let (join, _) = world.join("@bob:beta.test", &room).await;
    names.insert(format!("<{name}-join>"), join.to_string());
    names.insert(format!("<{name}>"), room.to_string());
    room
}

#[tokio::test]
async fn snapshots_match_the_vectors() {
    let world = World::new().await;
    let mut names = Names::new();
    document(&world, &mut names, "doc").await;
    document(&world, &mut names, "other").await;
    let denied = document(&world, &mut names, "denied").await;
    let list = json!({ "allow": ["*"], "deny": ["beta.test"] });
    world.send(&denied, "m.room.server_acl", Some(""), list).await;
    let chat = world.public_room().await;
    world.join("@bob:beta.test", &chat).await;
    names.insert("<chat>".to_owned(), chat.to_string());
    let vectors = vectors("snapshots");
    assert!(vectors.len() >= 15, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        is_answered(&world, &names, &name, &vector).await;
    }
}

/// Whether a join with this template is sent, in a new room with these memberships.
async fn is_sent(world: &World, vector: &Value) -> bool {
    let room = world.public_room().await;
    let mut ids = BTreeMap::new();
    for event in vector["memberships"].as_array().unwrap() {
        let text = |field: &str| event[field].as_str().unwrap();
        let (by, user) = (UserId::parse(text("by")).unwrap(), text("user"));
        let id = if by == world.alice && user == by {
            // The creator has joined with the creation.
            let state = world.rooms.reader().state(&room).await.unwrap().unwrap();
            state.get("m.room.member", user).unwrap().event_id().to_owned()
        } else {
            let content = json!({ "membership": text("membership") });
            world.send_as(&by, &room, "m.room.member", Some(user), content).await
        };
        ids.insert(text("id").to_owned(), id);
    }
    let cited = vector["cites"].as_array().unwrap().iter();
    let cited: Vec<_> = cited.map(|id| ids[id.as_str().unwrap()].clone()).collect();
    let user = UserId::parse(vector["user"].as_str().unwrap()).unwrap();
    !world.rooms.reader().has_ended(&room, &user, &cited).await.unwrap()
}

#[tokio::test]
async fn room_versions_match_the_vectors() {
    let world = World::new().await;
    let mut names = Names::new();
    for version in RoomVersion::ALL {
        let request = |preset| CreateRoom {
            version: Some(version.clone()),
            preset: Some(preset),
            ..CreateRoom::default()
        };
        let public = world.room(request(Preset::PublicChat)).await;
        names.insert(format!("<v{version}>"), public.to_string());
        let private = world.room(request(Preset::PrivateChat)).await;
        if version.rules().is_some_and(|rules| rules.authorization.knocking) {
            let rule = json!({ "join_rule": "knock" });
            world.send(&private, "m.room.join_rules", Some(""), rule).await;
            names.insert(format!("<knock-v{version}>"), private.to_string());
        }
    }
    let vectors = vectors("joins");
    assert!(vectors.len() >= 15, "vectors are missing: {}", vectors.len());
    for (name, vector) in vectors {
        if let Some(offered) = vector["offers"].as_array() {
            let offered = offered.iter().map(|version| version.as_str().unwrap());
            let offered: Vec<RoomVersionId> = offered.map(|version| version.try_into().unwrap()).collect();
            assert_eq!(RoomVersion::ALL.to_vec(), offered, "{name}");
        } else if vector.get("memberships").is_some() {
            assert_eq!(json!(is_sent(&world, &vector).await), vector["sent"], "{name}");
        } else {
            is_answered(&world, &names, &name, &vector).await;
        }
    }
}
