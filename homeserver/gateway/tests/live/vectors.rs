//! Every vector of `spec/vectors/sockets`: frames on live sockets, answers, and close codes. In virtual time.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use weft_room_api::RoomChange;
use weft_wire::live::{
    awareness::{self, Entry},
    hocuspocus, plain,
    sync::SyncMessage,
};

use crate::world::{Person, Received, Socket, World};

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/sockets");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), serde_json::from_str(&text).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Bytes as hex; many equal ones as `{"repeat", "times"}`.
fn bytes_of(value: &Value) -> Vec<u8> {
    match value["times"].as_u64() {
        Some(times) => hex::decode(value["repeat"].as_str().unwrap())
            .unwrap()
            .repeat(usize::try_from(times).unwrap()),
        None => hex::decode(value.as_str().unwrap_or_default()).unwrap(),
    }
}

/// An awareness body with these entries.
fn awareness_body(entries: &[Value]) -> Vec<u8> {
    let entry = |entry: &Value| Entry {
        client: entry["client_id"].as_u64().unwrap(),
        clock: entry["clock"].as_u64().unwrap(),
        state: entry["state"].to_string(),
    };
    awareness::encode(&entries.iter().map(entry).collect::<Vec<_>>())
}

/// The names in angle brackets, and their values in this run.
type Names = BTreeMap<String, String>;

fn filled_in(text: &str, names: &Names) -> String {
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(name, value);
    }
    text
}

fn text(frame: &Value, field: &str, names: &Names) -> String {
    filled_in(frame[field].as_str().unwrap(), names)
}

fn sync_of<'a>(kind: &str, body: &'a [u8]) -> Option<SyncMessage<'a>> {
    Some(match kind {
        "step1" => SyncMessage::Step1(body),
        "step2" => SyncMessage::Step2(body),
        "update" => SyncMessage::Update(body),
        _ => return None,
    })
}

/// The bytes of a client's frame.
fn frame_bytes(frame: &Value, names: &Names) -> Vec<u8> {
    let kind = frame["type"].as_str().unwrap();
    let body = match frame["entries"].as_array() {
        Some(entries) => awareness_body(entries),
        None => bytes_of(&frame["body"]),
    };
    let sync = sync_of(kind, &body);
    if frame.get("name").is_none() && kind != "ping" {
        return match (sync, kind) {
            (Some(sync), _) => plain::Frame::Sync(sync).encode(),
            (None, "awareness") => plain::Frame::Awareness(&body).encode(),
            (None, "query_awareness") => plain::Frame::QueryAwareness.encode(),
            other => panic!("{other:?}"),
        };
    }
    if kind == "ping" {
        return hocuspocus::Frame::Ping.encode();
    }
    let (name, token) = (text(frame, "name", names), frame.get("token"));
    let token = token.map(|_| text(frame, "token", names)).unwrap_or_default();
    let body = match (sync, kind) {
        (Some(sync), _) => hocuspocus::Body::Sync(sync),
        (None, "token") => hocuspocus::Body::Token {
            token: &token,
            provider: None,
        },
        (None, "awareness") => hocuspocus::Body::Awareness(&body),
        (None, "query_awareness") => hocuspocus::Body::QueryAwareness,
        (None, "close") => hocuspocus::Body::Close(None),
        (None, "stateless") => hocuspocus::Body::Stateless("{}"),
        other => panic!("{other:?}"),
    };
    hocuspocus::Frame::Document { name: &name, body }.encode()
}

fn show_sync(message: &SyncMessage<'_>) -> Value {
    match message {
        SyncMessage::Step1(body) => json!({"type": "step1", "body": hex::encode(body)}),
        SyncMessage::Step2(body) => json!({"type": "step2", "body": hex::encode(body)}),
        SyncMessage::Update(body) => json!({"type": "update", "body": hex::encode(body)}),
    }
}

/// Of a notice only the code is compared, of reasons nothing: their texts are for users.
fn show_notice(payload: &str) -> Value {
    let notice: Value = serde_json::from_str(payload).unwrap();
    json!({"type": "notice", "code": notice["code"]})
}

/// Awareness from a server is compared by value: the order of keys in a state is the server's choice.
fn show_awareness(body: &[u8]) -> Value {
    let entry = |entry: Entry| {
        let state: Value = serde_json::from_str(&entry.state).unwrap();
        json!({"client_id": entry.client, "clock": entry.clock, "state": state})
    };
    let entries: Vec<Value> = awareness::parse(body).unwrap().into_iter().map(entry).collect();
    json!({"type": "awareness", "entries": entries})
}

fn show(framing: &str, frame: &[u8]) -> Value {
    if framing == "plain" {
        return match plain::Frame::parse(frame).unwrap() {
            plain::Frame::Sync(message) => show_sync(&message),
            plain::Frame::Awareness(body) => show_awareness(body),
            plain::Frame::PermissionDenied(_) => json!({"type": "permission_denied"}),
            plain::Frame::QueryAwareness => json!({"type": "query_awareness"}),
            plain::Frame::Notice(payload) => show_notice(payload),
        };
    }
    let (name, body) = match hocuspocus::Frame::parse(frame).unwrap() {
        hocuspocus::Frame::Ping => return json!({"type": "ping"}),
        hocuspocus::Frame::Pong => return json!({"type": "pong"}),
        hocuspocus::Frame::Document { name, body } => (name, body),
    };
    let mut shown = match body {
        hocuspocus::Body::Sync(message) => show_sync(&message),
        hocuspocus::Body::Awareness(body) => show_awareness(body),
        hocuspocus::Body::Token { .. } => json!({"type": "token"}),
        hocuspocus::Body::PermissionDenied(_) => json!({"type": "permission_denied"}),
        hocuspocus::Body::Authenticated { read_only } => json!({"type": "authenticated", "read_only": read_only}),
        hocuspocus::Body::QueryAwareness => json!({"type": "query_awareness"}),
        hocuspocus::Body::Stateless(payload) => show_notice(payload),
        hocuspocus::Body::Close(_) => json!({"type": "close"}),
        hocuspocus::Body::SyncStatus(applied) => json!({"type": "sync_status", "applied": applied}),
    };
    shown["name"] = json!(name);
    shown
}

/// A chain of this many tasks has run when the test continues: a frame passes fewer.
const SETTLED_AFTER: usize = 100;

/// One run of a vector.
struct Run {
    world: World,
    people: BTreeMap<&'static str, Person>,
    names: Names,
    sockets: BTreeMap<String, Socket>,
    framing: String,
}

impl Run {
    /// Alice's documents `<doc>` and `<other>`, in which bob is an editor and carol a viewer; mallory is in neither.
    async fn new(framing: &str) -> Self {
        let world = World::in_memory().await;
        let (mut people, mut names) = (BTreeMap::new(), Names::new());
        for who in ["alice", "bob", "carol", "mallory"] {
            let person = world.person(who).await;
            names.insert(format!("<{who}>"), person.token.clone());
            people.insert(who, person);
        }
        for name in ["<doc>", "<other>"] {
            let room = world.document(&people["alice"]).await;
            world.admit(&room, &people["alice"], &people["bob"], 25).await;
            world.admit(&room, &people["alice"], &people["carol"], 0).await;
            names.insert(name.to_owned(), room.to_string());
        }
        Self {
            world,
            people,
            names,
            sockets: BTreeMap::new(),
            framing: framing.to_owned(),
        }
    }

    async fn step(&mut self, step: &Value) {
        if let Some(socket) = step["opens"].as_str() {
            self.open(socket, step).await;
        } else if let Some(socket) = step["sends"].as_str() {
            self.send(socket, step).await;
        } else if let Some(socket) = step["sends_text"].as_str() {
            self.socket(socket).send_text("{}").await;
        } else if let Some(socket) = step["receives"].as_str() {
            self.expect(socket, step).await;
        } else if let Some(socket) = step["receives_nothing"].as_str() {
            assert_eq!(self.socket(socket).arrived().await, None, "{step}");
        } else if let Some(socket) = step["closed"].as_str() {
            let received = self.socket(socket).receive().await;
            assert_eq!(
                json!({"closed": closed(&received)}),
                json!({"closed": step["code"]}),
                "{step}"
            );
        } else if let Some(wait) = step["wait_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        } else {
            self.act(step).await;
        }
        self.settle().await;
    }

    /// Lets the server take what was sent.
    async fn settle(&mut self) {
        for _ in 0..SETTLED_AFTER {
            tokio::task::yield_now().await;
        }
    }

    fn socket(&mut self, name: &str) -> &mut Socket {
        self.sockets.get_mut(name).unwrap()
    }

    async fn open(&mut self, socket: &str, step: &Value) {
        let path = filled_in(step["path"].as_str().unwrap_or("any"), &self.names);
        let token = step["token"].as_str().map(|token| filled_in(token, &self.names));
        let offered = step["protocols"].as_array().into_iter().flatten();
        let offered: Vec<_> = offered
            .map(|protocol| filled_in(protocol.as_str().unwrap(), &self.names))
            .collect();
        match self.world.offering(&path, token.as_deref(), &offered).await {
            Ok((open, chosen)) => {
                assert!(step.get("status").is_none(), "{step}");
                let expected = step["protocol"]
                    .as_str()
                    .map(|protocol| filled_in(protocol, &self.names));
                assert_eq!(chosen, expected, "{step}");
                self.sockets.insert(socket.to_owned(), open);
            }
            Err(status) => assert_eq!(json!(status), step["status"], "{step}"),
        }
    }

    /// Sends a frame, or several that differ in the number in their names.
    async fn send(&mut self, socket: &str, step: &Value) {
        for number in 0..step["times"].as_u64().unwrap_or(1) {
            let bytes = match step["hex"].as_str() {
                Some(hex) => hex::decode(hex).unwrap(),
                None => {
                    let mut frame = step["frame"].clone();
                    if let Some(name) = frame["name"].as_str() {
                        frame["name"] = json!(name.replace("{n}", &number.to_string()));
                    }
                    frame_bytes(&frame, &self.names)
                }
            };
            // The server may cut the connection while it is still sent; the next step sees that.
            self.socket(socket).try_send(bytes).await;
        }
    }

    /// The next message of a socket is this one.
    async fn expect(&mut self, socket: &str, step: &Value) {
        let Received::Frame(frame) = self.sockets.get_mut(socket).unwrap().receive().await else {
            panic!("closed instead of {step}");
        };
        let mut expected = step["frame"].clone();
        if let Some(name) = expected.get("name").and_then(Value::as_str) {
            expected["name"] = json!(filled_in(name, &self.names));
        }
        assert_eq!(show(&self.framing, &frame), expected, "{step}");
    }

    /// Actions outside of the sockets.
    async fn act(&mut self, step: &Value) {
        let (alice, room) = (&self.people["alice"], &self.names["<doc>"]);
        let room = ruma::RoomId::parse(room).unwrap();
        if let Some(who) = step["removes"].as_str() {
            let member = json!({"membership": "leave"});
            let user = self.people[who].user.as_str();
            self.world.state(&room, alice, "m.room.member", user, member).await;
        } else if let Some(who) = step["makes_viewer"].as_str() {
            self.world.set_power(&room, alice, &self.people[who], 0).await;
        } else if let Some(who) = step["signs_out"].as_str() {
            let person = &self.people[who];
            let session = self.world.server.accounts.authenticate(&person.token).await.unwrap();
            let user = &session.user_id;
            self.world
                .server
                .accounts
                .logout(user, &session.device_id)
                .await
                .unwrap();
            self.world
                .server
                .fanout
                .sessions_changed(user, Some(&session.device_id));
        } else if step["store_fails"] == true {
            self.world.server.disk.fail_next_sync();
        } else if step["rebuilds"] == true {
            self.world.server.fanout.deliver(&RoomChange {
                reload: true,
                ..RoomChange::new(&room, weft_store::Lane::FIRST)
            });
        } else {
            assert_eq!(step["stops"], true, "{step}");
            self.world.server.fanout.stop();
        }
    }
}

fn closed(received: &Received) -> Value {
    match received {
        Received::Closed(code) => json!(code),
        Received::Frame(frame) => json!(format!("no, but a frame: {}", hex::encode(frame))),
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_match_the_vectors() {
    let vectors = vectors();
    assert!(vectors.len() >= 85, "vectors are missing: {}", vectors.len());
    let mut failed = Vec::new();
    for (name, vector) in vectors {
        let run = tokio::spawn(async move {
            let mut run = Run::new(vector["framing"].as_str().unwrap()).await;
            for step in vector["steps"].as_array().unwrap() {
                run.step(step).await;
            }
        });
        if run.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
