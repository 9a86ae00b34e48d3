//! T64: redacted content is returned by no endpoint and is in no log. Must not test only one endpoint.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    editors::Provider,
};

use crate::stage::Stage;

const REDACTED: &str = "never-should-have-sent-that";

async fn redact(alice: &Client, room: &str, event: &str) -> Result<()> {
    let path = Client::in_room(room, &format!("redact/{}/r-{}", segment(event), segment(event)));
    alice.put(&path, json!({ "reason": "oops" })).await.map(drop)
}

#[tokio::test]
async fn t64_redacted_text_is_returned_by_no_endpoint_and_not_logged() -> Result<()> {
    let stage = Stage::with_config("[log]\nfilter = \"debug\"\n").await?;
    let alice = &stage.alice;
    let (room, mut his, mallory) = stage.room_of_alice("11").await?;
    let thread = alice.say(&room, "what do you think?").await?;
    let relation = json!({ "rel_type": "m.thread", "event_id": thread });
    let content = json!({ "msgtype": "m.text", "body": REDACTED, "m.relates_to": relation });
    let message = alice.try_send(&room, "m.room.message", content).await?.ok()?;
    let message = message["event_id"].as_str().unwrap().to_owned();
    alice
        .put(
            &Client::in_room(&room, "state/m.room.topic/"),
            json!({ "topic": REDACTED }),
        )
        .await?;
    let topics = alice.get(&Client::in_room(&room, "messages?dir=b&limit=1")).await?;
    let topic = topics["chunk"][0]["event_id"].as_str().unwrap().to_owned();
    his.catch_up(&stage.malicious, stage.server(), &mallory).await?;
    let content = json!({ "msgtype": "m.text", "body": REDACTED });
    let theirs = his.event(&stage.malicious, &mallory, "m.room.message", None, content)?;
    let of_mallory = his.take(&theirs)?;
    stage
        .malicious
        .transaction(stage.server(), &[theirs], &[])
        .await?
        .ok()?;
    stage.until_said(&room, REDACTED).await?;
    for event in [&message, &topic, &of_mallory] {
        redact(alice, &room, event).await?;
    }
    let by_user = asked_as_a_user(alice, &room, &thread, &[&message, &topic, &of_mallory]).await?;
    for (path, body) in &by_user {
        assert!(!body.to_string().contains(REDACTED), "{path}: {body}");
    }
    let mut by_server = Vec::new();
    for event in [&message, &topic, &of_mallory] {
        by_server.push(format!("/_matrix/federation/v1/event/{}", segment(event)));
        by_server.push(format!(
            "/_matrix/federation/v1/backfill/{}?v={}&limit=50",
            segment(&room),
            segment(event)
        ));
        by_server.push(format!(
            "/_matrix/federation/v1/state/{}?event_id={}",
            segment(&room),
            segment(event)
        ));
    }
    for path in by_server {
        let answer = stage.malicious.get(stage.server(), &path).await?;
        assert!(!answer.to_string().contains(REDACTED), "{path}: {answer}");
    }
    let log = stage.server().log();
    assert!(log.contains("DEBUG"), "the log has the most detailed level");
    assert!(!log.contains(REDACTED), "content of messages is in the log");
    Ok(())
}

/// Every request of a client that could return these events.
async fn asked_as_a_user(alice: &Client, room: &str, thread: &str, events: &[&str]) -> Result<Vec<(String, Value)>> {
    let thread = segment(thread);
    let mut paths = vec![
        "/_matrix/client/v3/sync?timeout=0".to_owned(),
        "/_matrix/client/v3/sync?timeout=0&full_state=true".to_owned(),
        Client::in_room(room, "messages?dir=b&limit=100"),
        Client::in_room(room, "messages?dir=f&limit=100"),
        Client::in_room(room, "state"),
        Client::in_room(room, "state/m.room.topic/"),
        format!("/_matrix/client/v1/rooms/{}/relations/{thread}", segment(room)),
        format!("/_matrix/client/v1/rooms/{}/threads", segment(room)),
        "/_matrix/client/v3/publicRooms".to_owned(),
        "/_weft/client/v1/documents".to_owned(),
    ];
    for event in events {
        paths.push(Client::in_room(room, &format!("event/{}", segment(event))));
        paths.push(Client::in_room(room, &format!("context/{}?limit=20", segment(event))));
    }
    let mut answers = Vec::new();
    for path in paths {
        let answer = alice.request(Method::GET, &path, None).await?;
        answers.push((path, answer.body));
    }
    Ok(answers)
}

/// A document's text is in signed events and in no log, at any level.
#[tokio::test]
async fn t64_typed_text_is_not_logged() -> Result<()> {
    let stage =
        Stage::with_config("[log]\nfilter = \"trace,hyper=info,h2=info,rustls=info,tungstenite=info\"\n").await?;
    let document = stage.alice.create_document("Plans").await?;
    let editor = stage
        .world
        .editors
        .open("alice", Provider::Hocuspocus, &stage.alice, &document)
        .await?;
    editor.type_end(REDACTED).await?;
    editor.set_awareness("user", json!({ "name": REDACTED })).await?;
    editor.saved().await?;
    stage.alice.say(&document, REDACTED).await?;
    let log = stage.server().log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"));
    assert!(
        !log.contains(REDACTED) && !log.contains(&stage.alice.token),
        "the log contains text or tokens"
    );
    Ok(())
}
