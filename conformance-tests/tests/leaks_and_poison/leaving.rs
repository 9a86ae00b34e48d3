//! T62: a user who left a document, and their server, receive nothing of it: no edit, no cursor, no typing, no event,
//! through any endpoint. Must not test only one endpoint.

use anyhow::Result;
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    editors::{Editor, Provider},
    malicious::Room,
};

use crate::stage::Stage;

const SECRET: &str = "after-they-had-gone";

/// Content from before the removal. It must arrive: otherwise the absence of the later content would prove nothing.
const OPEN: &str = "while-all-were-there";

/// A document of alice's with bob (of the same server) and mallory (of the malicious server), and a room of the three:
/// a message sent there afterwards shows that everything before it has arrived.
async fn with_witnesses(stage: &Stage, bob: &Client) -> Result<(String, String, String)> {
    let mallory = stage.malicious.user("mallory");
    let document = stage.alice.create_document("Plans").await?;
    stage.alice.give_role(&document, &bob.user, "editor").await?;
    bob.accept_invitation(&document).await?;
    stage.alice.give_role(&document, &mallory, "editor").await?;
    Room::join(&stage.malicious, stage.server(), &document, &mallory).await?;
    stage.alice.until_membership(&document, &mallory, "join").await?;
    let (witness, ..) = stage.room_of_alice("12").await?;
    bob.join(&witness, None).await?;
    Ok((document, witness, mallory))
}

/// Sends this word through everything that a member of a document receives.
async fn send_through_every_channel(alice: &Client, room: &str, editor: &Editor, word: &str) -> Result<()> {
    editor.type_end(word).await?;
    editor.set_awareness("user", json!({ "name": word })).await?;
    editor.saved().await?;
    alice.say(room, word).await?;
    alice
        .put(&Client::in_room(room, "state/m.room.topic/"), json!({ "topic": word }))
        .await?;
    let typing = format!("typing/{}", segment(&alice.user));
    alice
        .put(
            &Client::in_room(room, &typing),
            json!({ "typing": true, "timeout": 30_000 }),
        )
        .await?;
    let last = alice.say(room, word).await?;
    let receipt = format!("receipt/m.read/{}", segment(&last));
    alice.post(&Client::in_room(room, &receipt), json!({})).await?;
    Ok(())
}

/// The EDUs about a room that the malicious server received.
fn edus_about(stage: &Stage, room: &str) -> Vec<Value> {
    let transactions = stage.malicious.asked("/_matrix/federation/v1/send/");
    let edus = transactions.iter().filter_map(|asked| asked.body["edus"].as_array());
    let about = edus.flatten().filter(|edu| edu.to_string().contains(room));
    about.cloned().collect()
}

#[tokio::test]
async fn t62_sync_socket_and_federation_end_with_a_kick() -> Result<()> {
    let stage = Stage::new().await?;
    let bob = stage.world.user(0, "bob").await?;
    let (document, witness, mallory) = with_witnesses(&stage, &bob).await?;
    let editors = &stage.world.editors;
    let hers = editors
        .open("alice", Provider::Hocuspocus, &stage.alice, &document)
        .await?;
    let his = editors.open("bob", Provider::Plain, &bob, &document).await?;
    hers.type_end("before ").await?;
    his.until_text("before ").await?;
    let mut since = None;
    send_through_every_channel(&stage.alice, &document, &hers, OPEN).await?;
    let mut before_kick = String::new();
    bob.sync_until("everything that a member receives", &mut since, |sync| {
        before_kick.push_str(&sync["rooms"]["join"][&document].to_string());
        let all = ["m.typing", "m.receipt", "m.room.topic", OPEN];
        all.iter().all(|what| before_kick.contains(what)).then_some(())
    })
    .await?;
    for kind in ["m.typing", "m.receipt", "dev.weft.awareness"] {
        let is_it = |edu: &Value| edu["edu_type"] == kind && edu.to_string().contains(&document);
        stage
            .malicious
            .until_asked("/_matrix/federation/v1/send/", |asked| {
                asked.body["edus"].as_array().is_some_and(|edus| edus.iter().any(is_it))
            })
            .await?;
    }
    his.until_contains(OPEN).await?;

    his.forget_events().await?;
    for user in [&bob.user, &mallory] {
        stage
            .alice
            .post(&Client::in_room(&document, "kick"), json!({ "user_id": user }))
            .await?;
    }
    // The server closes the socket; reconnecting is refused.
    let closed = his.until_event("close").await?;
    assert!(closed.to_string().contains("4403"), "{closed}");
    stage
        .malicious
        .until_asked("/_matrix/federation/v1/send/", |asked| {
            let text = asked.body.to_string();
            text.contains("\"leave\"") && text.contains(&mallory)
        })
        .await?;
    stage.malicious.forget();

    send_through_every_channel(&stage.alice, &document, &hers, SECRET).await?;
    stage.alice.say(&witness, "that was all").await?;

    let mut after_kick = String::new();
    bob.sync_until("the end", &mut since, |sync| {
        after_kick.push_str(&sync.to_string());
        sync.to_string().contains("that was all").then_some(())
    })
    .await?;
    assert!(!after_kick.contains(SECRET), "{after_kick}");
    let asked = stage
        .malicious
        .until_asked("/_matrix/federation/v1/send/", |asked| {
            asked.body.to_string().contains("that was all")
        })
        .await?;
    let all = json!(stage.malicious.received_events()).to_string();
    assert!(!all.contains(SECRET) && !all.contains(&document), "{all}");
    assert_eq!(edus_about(&stage, &document), Vec::<Value>::new(), "{asked:?}");
    assert!(!his.text().await?.contains(SECRET));

    requests_from_outside_are_refused(&stage, &bob, &document).await
}

/// Requests from outside the room, as a user and as a server.
async fn requests_from_outside_are_refused(stage: &Stage, bob: &Client, document: &str) -> Result<()> {
    let room = segment(document);
    for path in [
        Client::in_room(document, "messages?dir=b&limit=100"),
        Client::in_room(document, "state"),
        Client::in_room(document, "members"),
        "/_matrix/client/v3/sync?timeout=0&full_state=true".to_owned(),
        "/_matrix/client/v3/sync?timeout=0&filter=%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D".to_owned(),
        "/_weft/client/v1/documents".to_owned(),
        format!("/_weft/client/v1/documents/{room}"),
        format!("/_weft/client/v1/documents/{room}/members"),
        format!("/_weft/client/v1/documents/{room}/content"),
    ] {
        let answer = bob.request(reqwest::Method::GET, &path, None).await?;
        assert!(!answer.body.to_string().contains(SECRET), "{path}: {}", answer.body);
    }
    assert!(bob.content(document).await.is_err(), "the text is for members");
    for path in [
        format!("/_matrix/federation/v1/state/{room}?event_id=%24x"),
        format!("/_matrix/federation/v1/state_ids/{room}?event_id=%24x"),
        format!("/_matrix/federation/v1/backfill/{room}?v=%24x&limit=100"),
        format!("/_weft/federation/v1/document/{room}"),
    ] {
        let answer = stage
            .malicious
            .ask(stage.server(), reqwest::Method::GET, &path, None)
            .await?;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    Ok(())
}

/// Leaving has the same effect as a kick.
#[tokio::test]
async fn t62_the_socket_ends_when_its_user_leaves() -> Result<()> {
    let stage = Stage::new().await?;
    let bob = stage.world.user(0, "bob").await?;
    let (document, ..) = with_witnesses(&stage, &bob).await?;
    let editors = &stage.world.editors;
    let hers = editors
        .open("alice", Provider::Hocuspocus, &stage.alice, &document)
        .await?;
    let his = editors.open("bob", Provider::Hocuspocus, &bob, &document).await?;
    his.type_end("mine ").await?;
    his.saved().await?;
    hers.until_contains("mine ").await?;
    bob.post(&Client::in_room(&document, "leave"), json!({})).await?;
    his.until_event("close").await?;
    hers.type_end(SECRET).await?;
    hers.saved().await?;
    assert!(bob.content(&document).await.is_err());
    assert!(!his.text().await?.contains(SECRET));
    Ok(())
}
