//! Edits by position: versions, conditions, idempotency keys, refusals.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_crdt::Update;

use crate::world::{Person, Sent, World};

fn insert(at: u64, text: &str, version: u64) -> Value {
    json!({"changes": [{"type": "insert", "at": at, "text": text}], "clientVersion": version})
}

async fn patch(world: &World, person: &Person, doc: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let sent = Sent {
        token: Some(&person.token),
        headers,
        body: Some(body.as_bytes().to_vec()),
    };
    let answer = world.call("PATCH", &format!("/documents/{doc}/edit"), sent).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

async fn edit(world: &World, person: &Person, doc: &str, body: Value) -> u64 {
    let (status, answer) = patch(world, person, doc, &[], &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    answer["newVersion"].as_u64().unwrap()
}

async fn text(world: &World, person: &Person, doc: &str) -> String {
    let path = format!("/documents/{doc}?format=text");
    let answer = world.ask(Some(&person.token), "GET", &path, None).await;
    String::from_utf8(answer.body).unwrap()
}

async fn content(world: &World, person: &Person, doc: &str) -> (String, Update) {
    let path = format!("/documents/{doc}/content");
    let answer = world.ask(Some(&person.token), "GET", &path, None).await;
    (answer.etag.unwrap(), Update::parse(answer.body.into()).unwrap())
}

#[tokio::test]
async fn edits_of_one_user_follow_each_other_under_one_client_id() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Text").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "editor").await.0, 200);
    world.join(&doc, &bob).await;
    let mut version = 0;
    for (at, letter) in ["a", "b", "c", "d"].iter().enumerate() {
        let next = edit(&world, &alice, &doc, insert(at as u64, letter, version)).await;
        assert_eq!(next, version + 1);
        version = next;
    }
    let version = edit(&world, &bob, &doc, insert(0, "> ", version)).await;
    edit(&world, &alice, &doc, insert(6, ".", version)).await;
    assert_eq!(text(&world, &alice, &doc).await, "> abcd.");
    let clients: BTreeSet<u64> = content(&world, &alice, &doc)
        .await
        .1
        .ranges()
        .keys()
        .map(|id| id.get())
        .collect();
    assert_eq!(clients.len(), 2, "one client id for each user: {clients:?}");
}

#[tokio::test]
async fn an_edit_of_an_unknown_version_or_another_text_is_a_conflict() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    edit(&world, &alice, &doc, insert(0, "a", 0)).await;
    let (tag, _) = content(&world, &alice, &doc).await;
    let conflict = |code: &str| json!({"errcode": code, "version": 1, "etag": tag});
    let got = |mut answer: Value| {
        let more = ["error", "type", "title", "status", "detail"];
        answer
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !more.contains(&key.as_str()));
        answer
    };
    for version in [2, u64::MAX] {
        let (status, answer) = patch(&world, &alice, &doc, &[], &insert(0, "b", version).to_string()).await;
        assert_eq!(
            (status, got(answer)),
            (409, conflict("DEV_WEFT_UNKNOWN_VERSION")),
            "{version}"
        );
    }
    let body = insert(0, "b", 1).to_string();
    for other in ["W/\"AAAA\"", "\"AAAA\", \"BBBB\""] {
        let (status, answer) = patch(&world, &alice, &doc, &[("if-match", other)], &body).await;
        assert_eq!(
            (status, got(answer)),
            (409, conflict("DEV_WEFT_DOCUMENT_CHANGED")),
            "{other}"
        );
    }
    assert_eq!(text(&world, &alice, &doc).await, "a");
    let (status, answer) = patch(&world, &alice, &doc, &[("if-match", &tag)], &body).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = patch(
        &world,
        &alice,
        &doc,
        &[("if-match", "*")],
        &insert(0, "c", 2).to_string(),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(text(&world, &alice, &doc).await, "cba");
}

#[tokio::test]
async fn of_concurrent_edits_with_one_condition_one_is_made() {
    let world = World::new().await;
    let people = join_all(["alice", "bob", "carol"].map(|name| world.person(name))).await;
    let doc = world.create(&people[0], "Text").await;
    for other in &people[1..] {
        assert_eq!(world.give(&people[0], &doc, &other.user, "editor").await.0, 200);
        world.join(&doc, other).await;
    }
    edit(&world, &people[0], &doc, insert(0, "-", 0)).await;
    let (tag, _) = content(&world, &people[0], &doc).await;
    let (headers, body) = ([("if-match", tag.as_str())], insert(1, "x", 1).to_string());
    let edits = people.iter().map(|person| patch(&world, person, &doc, &headers, &body));
    let mut statuses: Vec<u16> = join_all(edits).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409]);
    assert_eq!(text(&world, &people[0], &doc).await, "-x");
}

#[tokio::test]
async fn the_same_request_again_edits_once_whatever_happened_since() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let doc = world.create(&alice, "Text").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "editor").await.0, 200);
    world.join(&doc, &bob).await;
    let key = [("idempotency-key", "one")];
    let body = insert(0, "a", 0).to_string();
    let at_once = join_all((0..8).map(|_| patch(&world, &alice, &doc, &key, &body))).await;
    let first = (200, json!({"newVersion": 1, "conflicts": []}));
    assert!(at_once.iter().all(|answer| *answer == first), "{at_once:?}");
    assert_eq!(text(&world, &alice, &doc).await, "a");

    // The position would be another one now, and the version an older one.
    edit(&world, &alice, &doc, insert(0, "b", 1)).await;
    let written_differently =
        r#"{ "clientVersion": 0, "unit": "utf16", "changes": [{"text": "a", "at": 0, "type": "insert"}] }"#;
    for same in [&*body, written_differently] {
        assert_eq!(patch(&world, &alice, &doc, &key, same).await, first);
    }
    let (status, answer) = patch(&world, &alice, &doc, &key, &insert(0, "b", 0).to_string()).await;
    assert_eq!((status, &answer["errcode"]), (422, &json!("DEV_WEFT_KEY_REUSED")));
    let (status, answer) = patch(&world, &bob, &doc, &key, &insert(0, "c", 2).to_string()).await;
    assert_eq!(status, 200, "another user's key is another one: {answer}");
    let other = world.create(&alice, "Other").await;
    let (status, _) = patch(&world, &alice, &other, &key, &insert(0, "d", 0).to_string()).await;
    assert_eq!(status, 200, "a key is one of a document");
    assert_eq!(text(&world, &alice, &doc).await, "cba");

    let world = world.restarted().await;
    assert_eq!(patch(&world, &alice, &doc, &key, &body).await, first, "after a restart");

    // A refused request leaves nothing: it may be repeated once it is possible.
    let (later, body) = ([("idempotency-key", "two")], insert(3, "!", 4).to_string());
    assert_eq!(patch(&world, &alice, &doc, &later, &body).await.0, 409);
    edit(&world, &alice, &doc, insert(0, "d", 3)).await;
    assert_eq!(patch(&world, &alice, &doc, &later, &body).await.0, 200);
    assert_eq!(text(&world, &alice, &doc).await, "dcb!a");
}

#[tokio::test]
async fn an_edit_needs_the_right_to_edit() {
    let world = World::new().await;
    let (alice, bob, mallory) = (
        world.person("alice").await,
        world.person("bob").await,
        world.person("mallory").await,
    );
    let doc = world.create(&alice, "Text").await;
    assert_eq!(world.give(&alice, &doc, &bob.user, "commenter").await.0, 200);
    world.join(&doc, &bob).await;
    for (person, status, code) in [(&bob, 403, "M_FORBIDDEN"), (&mallory, 404, "M_NOT_FOUND")] {
        let (got, answer) = patch(&world, person, &doc, &[], &insert(0, "a", 0).to_string()).await;
        assert_eq!((got, answer["errcode"].as_str()), (status, Some(code)), "{answer}");
    }
    assert_eq!(text(&world, &alice, &doc).await, "");
}

/// Bodies, with the status and code of their answer.
fn hostile_bodies() -> Vec<(String, u16, &'static str)> {
    let many = vec![json!({"type": "insert", "at": 0, "text": "a"}); 10_001];
    let deep = format!(
        r#"{{"clientVersion": 0, "changes": [{{"type": "set", "key": "k", "value": {}1{}}}]}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let change = |fields: &str| format!(r#"{{"clientVersion": 0, "changes": [{{{fields}}}]}}"#);
    vec![
        (
            json!({"changes": many, "clientVersion": 0}).to_string(),
            413,
            "M_TOO_LARGE",
        ),
        (
            json!({"changes": [], "clientVersion": 0}).to_string(),
            400,
            "M_INVALID_PARAM",
        ),
        (
            json!({"changes": [{"type": "insert", "at": 0, "text": "a"}]}).to_string(),
            400,
            "M_MISSING_PARAM",
        ),
        (deep, 400, "M_NOT_JSON"),
        (
            change(r#""type": "insert", "at": 4294967296, "text": "a""#),
            400,
            "M_BAD_JSON",
        ),
        (
            change(r#""type": "insert", "at": 4294967295, "text": "a""#),
            400,
            "M_INVALID_PARAM",
        ),
        (change(r#""type": "insert", "at": -1, "text": "a""#), 400, "M_BAD_JSON"),
        (change(r#""type": "insert", "at": 0.5, "text": "a""#), 400, "M_BAD_JSON"),
        (change(r#""type": "insert", "at": NaN, "text": "a""#), 400, "M_NOT_JSON"),
        (
            change(r#""type": "insert", "at": 0, "text": "\ud800""#),
            400,
            "M_NOT_JSON",
        ),
        (change(r#""type": "insert", "at": 0"#), 400, "M_MISSING_PARAM"),
        (change(r#""type": "explode""#), 400, "M_BAD_JSON"),
        ("[]".to_owned(), 400, "M_BAD_JSON"),
        (String::new(), 400, "M_NOT_JSON"),
        ("a".repeat((1 << 20) + 1), 413, "M_TOO_LARGE"),
    ]
}

#[tokio::test]
async fn hostile_bodies_are_errors_of_the_client_and_change_nothing() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    for (body, status, code) in hostile_bodies() {
        let (got, answer) = patch(&world, &alice, &doc, &[], &body).await;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(
            (got, answer["errcode"].as_str()),
            (status, Some(code)),
            "{shown}: {answer}"
        );
    }
    assert_eq!(text(&world, &alice, &doc).await, "");
}

#[tokio::test]
async fn a_position_outside_is_refused_with_the_right_range() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let doc = world.create(&alice, "Text").await;
    let (status, answer) = patch(&world, &alice, &doc, &[], &insert(1, "a", 0).to_string()).await;
    assert_eq!(status, 400);
    assert_eq!(
        answer["problem"],
        json!({"error": "range", "from": 1, "to": 1, "end": 0})
    );
    assert_eq!(answer["change"], json!(0));
    assert_eq!(text(&world, &alice, &doc).await, "");
}
