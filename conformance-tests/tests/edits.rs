//! Edits by position over HTTPS, with real servers and render workers: live editors on two servers get them, concurrent live
//! edits stay, and a request with a key edits once, also if its server dies at any step.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client},
    live::{LiveEditor, trust},
    world::World,
};

async fn patch(client: &Client, room: &str, headers: &[(&str, &str)], body: &Value) -> Result<Answer> {
    let answer = client
        .of_document(Method::PATCH, room, "/edit", headers, body.to_string().into_bytes())
        .await?;
    let status = answer.status();
    let body = answer.json().await.unwrap_or(Value::Null);
    Ok(Answer { status, body })
}

/// The text of a document, and its version, which is not a later one.
async fn text_and_version(client: &Client, room: &str) -> Result<(String, u64)> {
    loop {
        let before = version(client, room).await?;
        let answer = client
            .of_document(Method::GET, room, "?format=text", &[], Vec::new())
            .await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let text = answer.text().await?;
        if version(client, room).await? == before {
            return Ok((text, before));
        }
    }
}

async fn version(client: &Client, room: &str) -> Result<u64> {
    let answer = client.of_document(Method::GET, room, "", &[], Vec::new()).await?;
    let document: Value = answer.json().await?;
    document["version"].as_u64().context("no version")
}

fn insert(at: usize, text: &str, version: u64) -> Value {
    json!({"changes": [{"type": "insert", "at": at, "text": text}], "clientVersion": version})
}

async fn until_text(client: &Client, room: &str, text: &str) -> Result<()> {
    let is_there = || async { Ok((text_and_version(client, room).await?.0 == text).then_some(())) };
    client.until(text, is_there).await
}

#[tokio::test]
async fn live_editors_on_two_servers_get_an_edit_by_position() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let trust = trust(&world.authority)?;
    let here = LiveEditor::open(&trust, &alice, &room, 11)?;
    let there = LiveEditor::open(&trust, &bob, &room, 12)?;
    here.synced().await?;
    there.synced().await?;
    let first = patch(&alice, &room, &[], &insert(0, "hello world", 0)).await?.ok()?;
    assert_eq!(first, json!({"newVersion": 1, "conflicts": []}));
    let changes = json!([
        {"type": "replace", "search": "world", "text": "W\u{1f600}rld"},
        {"type": "delete", "at": 0, "length": 1},
        {"type": "insert", "at": 0, "text": "H"},
        {"type": "append", "text": "!"},
    ]);
    let second = patch(&alice, &room, &[], &json!({"changes": changes, "clientVersion": 1}))
        .await?
        .ok()?;
    assert_eq!(second["newVersion"], 2);
    for editor in [&here, &there] {
        alice
            .until("the edit in a live editor", || async {
                Ok((editor.text() == "Hello W\u{1f600}rld!").then_some(()))
            })
            .await?;
    }
    // It is signed as Alice's, and Bob's server renders the same.
    until_text(&bob, &room, "Hello W\u{1f600}rld!").await?;
    let (_, version) = text_and_version(&bob, &room).await?;
    let code_points = json!({
        "changes": [{"type": "insert", "at": 8, "text": "o"}], "clientVersion": version, "unit": "codepoint"
    });
    patch(&bob, &room, &[], &code_points).await?.ok()?;
    until_text(&alice, &room, "Hello W\u{1f600}orld!").await
}

#[tokio::test]
async fn edits_by_position_and_live_edits_at_one_time_all_stay() -> Result<()> {
    const EDITS: usize = 25;
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let trust = trust(&world.authority)?;
    let typist = Arc::new(LiveEditor::open(&trust, &bob, &room, 12)?);
    typist.synced().await?;
    typist.show_cursor();
    let typing = {
        let typist = Arc::clone(&typist);
        tokio::spawn(async move {
            for number in 0..EDITS {
                typist.type_word(u32::try_from(number * 37 % 1_000).unwrap(), &format!("<b{number}>"));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    for number in 0..EDITS {
        // The text may change between the read and the edit: then the client reads again, as it would after a conflict.
        loop {
            let (text, version) = text_and_version(&alice, &room).await?;
            let body = insert(text.encode_utf16().count(), &format!("<a{number}>"), version);
            let answer = patch(&alice, &room, &[], &body).await?;
            if answer.status.is_success() {
                break;
            }
            ensure!(
                answer.status == StatusCode::CONFLICT && answer.errcode() == "DEV_WEFT_UNKNOWN_VERSION",
                "{answer:?}"
            );
        }
    }
    typing.await?;
    typist.saved().await?;
    let (text, _) = alice
        .until("one text on both servers", || async {
            let (here, there) = (
                text_and_version(&alice, &room).await?,
                text_and_version(&bob, &room).await?,
            );
            Ok((here.0 == there.0).then_some(here))
        })
        .await?;
    for word in (0..EDITS).flat_map(|number| [format!("<a{number}>"), format!("<b{number}>")]) {
        ensure!(text.matches(&word).count() == 1, "{word} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_at_an_older_version_is_carried_forward_and_names_conflicts() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    patch(&alice, &room, &[], &insert(0, "The quick fox", 0)).await?.ok()?;
    until_text(&bob, &room, "The quick fox").await?;
    let (_, theirs) = text_and_version(&bob, &room).await?;
    patch(&bob, &room, &[], &insert(10, "brown ", theirs)).await?.ok()?;
    until_text(&alice, &room, "The quick brown fox").await?;
    let edited = patch(&alice, &room, &[], &insert(10, "red ", 1)).await?.ok()?;
    let (text, version) = text_and_version(&alice, &room).await?;
    ensure!(
        text == "The quick brown red fox" || text == "The quick red brown fox",
        "{text}"
    );
    assert_eq!(edited["newVersion"], version);
    let conflict = &edited["conflicts"][0];
    assert_eq!(
        (&conflict["kind"], &conflict["by"]),
        (&json!("inserted"), &json!(bob.user)),
        "{edited}"
    );
    assert_eq!(
        (&conflict["from"], &conflict["to"]),
        (&json!(10), &json!(16)),
        "{edited}"
    );
    ensure!(
        conflict["at"].as_u64().unwrap_or_default() > 1_600_000_000_000,
        "{edited}"
    );
    // At the far end nobody did anything.
    let edited = patch(&alice, &room, &[], &insert(13, ".", 1)).await?.ok()?;
    assert_eq!(edited["conflicts"], json!([]));
    Ok(())
}

#[tokio::test]
async fn versions_and_conditions_that_do_not_hold_are_conflicts() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Text").await?;
    patch(&alice, &room, &[], &insert(0, "abc", 0)).await?.ok()?;
    let read = alice
        .of_document(Method::GET, &room, "?format=text", &[], Vec::new())
        .await?;
    let tag = read.headers()["etag"].to_str()?.to_owned();
    let unknown = patch(&alice, &room, &[], &insert(0, "x", 9)).await?;
    assert_eq!(
        (unknown.status, unknown.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_UNKNOWN_VERSION")
    );
    assert_eq!(unknown.body["version"], 1);
    patch(&alice, &room, &[("if-match", &tag)], &insert(3, "d", 1))
        .await?
        .ok()?;
    let changed = patch(&alice, &room, &[("if-match", &tag)], &insert(3, "e", 2)).await?;
    assert_eq!(
        (changed.status, changed.errcode()),
        (StatusCode::CONFLICT, "DEV_WEFT_DOCUMENT_CHANGED")
    );
    let current = changed.body["etag"].as_str().context("no etag")?.to_owned();
    patch(&alice, &room, &[("if-match", &current)], &insert(4, "e", 2))
        .await?
        .ok()?;
    let outside = patch(&alice, &room, &[], &insert(6, "x", 3)).await?;
    assert_eq!(outside.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        outside.body["problem"],
        json!({"error": "range", "from": 6, "to": 6, "end": 5})
    );
    let picture = json!({
        "changes": [{"type": "insert", "at": 0, "text": "x", "attributes": {"src": "y".repeat(60_000)}}], "clientVersion": 3
    });
    let refused = patch(&alice, &room, &[], &picture).await?;
    assert_eq!(
        (refused.status, refused.errcode()),
        (StatusCode::BAD_REQUEST, "DEV_WEFT_UPDATE_REFUSED"),
        "{refused:?}"
    );
    assert_eq!(text_and_version(&alice, &room).await?, ("abcde".to_owned(), 3));
    Ok(())
}

#[tokio::test]
async fn a_request_with_a_key_edits_once_also_if_the_server_dies() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Text").await?;
    let (mut words, mut unanswered) = (Vec::new(), 0);
    let steps = [
        "room::edit_journaled",
        "store::before_write",
        "store::after_write",
        "room::before_answer",
    ];
    for (step, count) in steps.iter().flat_map(|step| (1..=3).map(move |count| (step, count))) {
        let server = world.servers.first_mut().context("no server")?;
        server.kill();
        let setting = format!("{step}:{count}");
        // It may die before it answers anything.
        server.spawn(&[("WEFT_FAIL_AT", &setting)])?;
        let _ = server.until_ready().await;
        let word = format!("<{setting}>");
        let (body, key) = (
            json!({
                "changes": [{"type": "append", "text": word}], "clientVersion": words.len()
            }),
            [("idempotency-key", setting.as_str())],
        );
        let first = patch(&alice, &room, &key, &body).await;
        unanswered += usize::from(first.is_err());
        let server = world.servers.first_mut().context("no server")?;
        server.kill();
        server.boot().await?;
        words.push(word);
        let again = patch(&alice, &room, &key, &body).await?.ok().context(setting.clone())?;
        assert_eq!(
            again,
            json!({"newVersion": words.len(), "conflicts": []}),
            "{setting}: {first:?}"
        );
        let third = patch(&alice, &room, &key, &body).await?.ok()?;
        assert_eq!(third, again, "{setting}");
        assert_eq!(
            text_and_version(&alice, &room).await?.0,
            words.concat(),
            "{setting}: {first:?}"
        );
    }
    ensure!(
        unanswered >= steps.len(),
        "the server died during {unanswered} requests only"
    );
    Ok(())
}
