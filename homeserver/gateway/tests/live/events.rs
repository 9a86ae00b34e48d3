//! Streams of events: what they send, how they go on, and when they end.

use std::time::Duration;

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt as _;
use ruma::RoomId;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use weft_testkit::{Editor, text_of};
use weft_wire::limits::MAX_QUEUE_PER_SOCKET;

use crate::world::{Person, World};

/// A stream of events.
struct Events {
    body: Body,
    text: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    name: String,
    id: String,
    data: Value,
}

async fn request(world: &World, room: &str, token: Option<&str>, since: Option<&str>) -> axum::response::Response {
    let mut request = http::Request::get(format!("/_weft/client/v1/documents/{room}/events"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(since) = since {
        request = request.header("last-event-id", since);
    }
    world
        .api
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

impl Events {
    /// Opens a stream, and returns the id at its beginning.
    async fn open(world: &World, room: &RoomId, person: &Person, since: Option<&str>) -> (Self, String) {
        let answer = request(world, room.as_str(), Some(&person.token), since).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = Self {
            body: answer.into_body(),
            text: String::new(),
        };
        let begin = events.part().await.unwrap();
        let id = begin.strip_prefix("retry: 2000\nid: ").unwrap();
        (events, id.to_owned())
    }

    /// The next part, up to an empty line; `None` at the end.
    async fn part(&mut self) -> Option<String> {
        loop {
            if let Some((part, rest)) = self.text.split_once("\n\n") {
                let part = part.to_owned();
                self.text = rest.to_owned();
                return Some(part);
            }
            let frame = tokio::time::timeout(Duration::from_secs(60), self.body.frame())
                .await
                .expect("no event");
            let bytes = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next event.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            let part = self.part().await?;
            if part == ":" {
                continue;
            }
            let field = |line: &str, name: &str| line.strip_prefix(&format!("{name}: ")).unwrap().to_owned();
            let lines: Vec<&str> = part.lines().collect();
            let [name, id, data] = lines[..] else { panic!("{part}") };
            return Some(Sent {
                name: field(name, "event"),
                id: field(id, "id"),
                data: serde_json::from_str(&field(data, "data")).unwrap(),
            });
        }
    }

    async fn named(&mut self, name: &str) -> Sent {
        let sent = self.next().await.expect("the stream has ended");
        assert_eq!(sent.name, name, "{sent:?}");
        sent
    }
}

async fn type_letter(world: &World, room: &RoomId, person: &Person, editor: &mut Editor) {
    let edit = weft_room_api::Edit {
        user: person.user.clone(),
        session: weft_room_api::ConnectionId::REQUEST,
        update: editor.append("x"),
    };
    world.server.rooms.edit(room, edit).await.unwrap();
}

async fn send(world: &World, room: &RoomId, person: &Person, kind: &str, content: Value) {
    let event = weft_testkit::new_event(&person.user, kind, None, content);
    world.server.rooms.send(room, event).await.unwrap();
}

async fn locks_are_sent(world: &World, room: &RoomId, alice: &Person, events: &mut Events) {
    world
        .state(room, alice, "dev.weft.lock", "", json!({"reason": "Final"}))
        .await;
    let lock = events.named("lock").await;
    assert_eq!(lock.data["content"]["reason"], "Final");
    let approval = json!({"heads": [], "state_hash": "AAAA"});
    world
        .state(room, alice, "dev.weft.approval", alice.user.as_str(), approval)
        .await;
    assert_eq!(events.named("approval").await.data["content"]["state_hash"], "AAAA");
    let id = lock.data["eventId"].as_str().unwrap();
    world.state(room, alice, "dev.weft.unlock", id, json!({})).await;
    assert_eq!(events.named("unlock").await.data["lock"], lock.data["eventId"]);
}

async fn suggestions_are_sent(world: &World, room: &RoomId, alice: &Person, events: &mut Events) {
    let suggestion = json!({"update": "AAA", "summary": "nothing"});
    send(world, room, alice, "dev.weft.suggestion", suggestion).await;
    let suggestion = events.named("suggestion").await;
    assert_eq!(suggestion.data["type"], "dev.weft.suggestion");
    for (outcome, name) in [("withdrawn", "suggestion"), ("resolved", "comment")] {
        let relation = json!({"rel_type": "m.reference", "event_id": suggestion.data["eventId"]});
        let decision = json!({"outcome": outcome, "m.relates_to": relation});
        send(world, room, alice, "dev.weft.resolution", decision).await;
        let seen = events.named(name).await;
        assert_eq!(
            (&seen.data["type"], &seen.data["content"]["outcome"]),
            (&json!("dev.weft.resolution"), &json!(outcome))
        );
    }
}

#[tokio::test]
async fn a_stream_has_edits_messages_comments_members_versions_and_locks() {
    let world = World::in_memory().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.document(&alice).await;
    let (mut events, _) = Events::open(&world, &room, &alice, None).await;
    let mut editor = Editor::new(1);
    type_letter(&world, &room, &alice, &mut editor).await;
    let edit = events.named("edit").await;
    assert_eq!(
        (&edit.data["version"], &edit.data["author"]),
        (&json!(1), &json!(alice.user))
    );
    let update = STANDARD.decode(edit.data["update"].as_str().unwrap()).unwrap();
    assert_eq!(text_of(&update), "x");

    send(
        &world,
        &room,
        &alice,
        "m.room.message",
        json!({"msgtype": "m.text", "body": "hello"}),
    )
    .await;
    let chat = events.named("chat").await;
    assert_eq!(chat.data["content"]["body"], "hello");
    assert_eq!(chat.data["sender"], json!(alice.user));
    let root = chat.data["eventId"].clone();
    let reply = json!({
        "msgtype": "m.text", "body": "why?", "m.relates_to": {"rel_type": "m.thread", "event_id": root}
    });
    send(&world, &room, &alice, "m.room.message", reply).await;
    assert_eq!(events.named("comment").await.data["content"]["body"], "why?");
    send(&world, &room, &alice, "dev.weft.version", json!({"name": "first"})).await;
    assert_eq!(events.named("version").await.data["content"]["name"], "first");
    locks_are_sent(&world, &room, &alice, &mut events).await;
    suggestions_are_sent(&world, &room, &alice, &mut events).await;
    world.admit(&room, &alice, &bob, 25).await;
    let mut memberships = Vec::new();
    for _ in 0..2 {
        let member = events.named("member").await;
        assert_eq!(member.data["userId"], json!(bob.user));
        memberships.push(member.data["membership"].clone());
    }
    assert_eq!(memberships, ["invite", "join"]);
}

#[tokio::test]
async fn the_stream_of_a_removed_member_ends_at_once() {
    let world = World::in_memory().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = world.document(&alice).await;
    world.admit(&room, &alice, &bob, 25).await;
    let (mut events, _) = Events::open(&world, &room, &bob, None).await;
    let content = json!({"membership": "ban"});
    world
        .state(&room, &alice, "m.room.member", bob.user.as_str(), content)
        .await;
    type_letter(&world, &room, &alice, &mut Editor::new(1)).await;
    assert_eq!(events.next().await, None);
    let answer = request(&world, room.as_str(), Some(&bob.token), None).await;
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn only_members_of_documents_get_a_stream() {
    let world = World::in_memory().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let room = world.document(&alice).await;
    for (room, token, status) in [
        (room.as_str(), None, 401),
        (room.as_str(), Some("nonsense"), 401),
        (room.as_str(), Some(&*mallory.token), 404),
        ("!nowhere:alpha.example", Some(&*alice.token), 404),
    ] {
        assert_eq!(
            request(&world, room, token, None).await.status(),
            status,
            "{room} {token:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_goes_on_from_the_last_event() {
    let world = World::in_memory().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let message = |body: &str| json!({"msgtype": "m.text", "body": body});
    let (mut events, _) = Events::open(&world, &room, &alice, None).await;
    send(&world, &room, &alice, "m.room.message", message("one")).await;
    let one = events.named("chat").await;
    drop(events);
    send(&world, &room, &alice, "m.room.message", message("two")).await;
    let (mut events, begin) = Events::open(&world, &room, &alice, Some(&one.id)).await;
    assert_eq!(begin, one.id);
    let two = events.named("chat").await;
    assert_eq!(two.data["content"]["body"], "two");
    drop(events);

    type_letter(&world, &room, &alice, &mut Editor::new(1)).await;
    send(&world, &room, &alice, "m.room.message", message("three")).await;
    let (mut events, _) = Events::open(&world, &room, &alice, Some(&two.id)).await;
    // The missing edit, if the text at the earlier version is known, or a notice that the reader must read it again.
    let missing = events.next().await.unwrap();
    assert!(["edit", "resync"].contains(&&*missing.name), "{missing:?}");
    assert_eq!(missing.data["version"], 1);
    assert_eq!(events.named("chat").await.data["content"]["body"], "three");
    drop(events);

    for foreign in ["nonsense", "1.999999999999"] {
        let (mut events, _) = Events::open(&world, &room, &alice, Some(foreign)).await;
        events.named("resync").await;
        send(&world, &room, &alice, "m.room.message", message("on")).await;
        assert_eq!(events.named("chat").await.data["content"]["body"], "on");
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_and_loses_no_message() {
    let world = World::in_memory().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let (mut events, _) = Events::open(&world, &room, &alice, None).await;
    let mut editor = Editor::new(1);
    send(
        &world,
        &room,
        &alice,
        "m.room.message",
        json!({"msgtype": "m.text", "body": "before"}),
    )
    .await;
    for _ in 0..=MAX_QUEUE_PER_SOCKET {
        type_letter(&world, &room, &alice, &mut editor).await;
    }
    let resync = events.named("resync").await;
    assert_eq!(resync.data["version"], json!(MAX_QUEUE_PER_SOCKET + 1));
    assert_eq!(events.named("chat").await.data["content"]["body"], "before");
    type_letter(&world, &room, &alice, &mut editor).await;
    assert_eq!(
        events.named("edit").await.data["version"],
        json!(MAX_QUEUE_PER_SOCKET + 2)
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_has_a_comment_every_twenty_seconds() {
    let world = World::in_memory().await;
    let alice = world.person("alice").await;
    let room = world.document(&alice).await;
    let (mut events, _) = Events::open(&world, &room, &alice, None).await;
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(events.part().await.unwrap(), ":");
    }
    assert_eq!(began.elapsed().as_secs(), 60);
}
