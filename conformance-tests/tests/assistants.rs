//! `weft mcp` with real servers: what an assistant reads and writes is what its account may, and others see it as that
//! account's, also on another server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use weft_conformance_tests::{
    assistant::Assistant,
    client::{Client, segment},
    editors::Provider,
    world::World,
};

#[tokio::test]
async fn an_assistant_reads_and_edits_as_its_account() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("The meeting is on Monday 🙂.").await?;
    hers.saved().await?;
    let mut assistant = Assistant::start(&world.authority, &bob, "edit").await?;
    let listed = assistant.call("list_documents", json!({"title": "shared"})).await?;
    assert_eq!(listed["documents"][0]["docId"], json!(room), "{listed}");
    let fresh = world.editors.open("fresh", Provider::Plain, &bob, &room).await?;
    fresh.until_contains("Monday").await?;
    let read = assistant
        .call("read_document", json!({"document": room, "format": "text"}))
        .await?;
    assert_eq!(read["text"], json!("The meeting is on Monday 🙂."));
    let part = json!({"document": room, "format": "text", "offset": 4, "characters": 7});
    let part = assistant.call("read_document", part).await?;
    assert_eq!((&part["text"], &part["nextOffset"]), (&json!("meeting"), &json!(11)));

    let change = json!({"type": "replace", "search": "Monday", "count": 1, "text": "Tuesday"});
    let mut edit = json!({"document": room, "changes": [change], "version": read["version"]});
    let edited = assistant.call("edit_document", edit.clone()).await?;
    assert_eq!(edited["conflicts"], json!([]), "{edited}");
    hers.until_text("The meeting is on Tuesday 🙂.").await?;
    // The new text has no Monday: a refusal that the assistant can read.
    edit["version"] = edited["newVersion"].clone();
    let again = assistant.call("edit_document", edit).await.map(|_| ()).unwrap_err();
    assert!(again.to_string().contains("M_INVALID_PARAM"), "{again}");

    let blame = format!("/_weft/client/v1/documents/{}/blame", segment(&room));
    let runs = alice
        .until("the blame on alice's server", || async {
            let runs = alice.get(&blame).await?["runs"].as_array().cloned().unwrap_or_default();
            let signed = runs
                .iter()
                .find(|run| run["text"].as_str().is_some_and(|text| text.contains("Tues")));
            Ok(signed.filter(|run| run.get("eventId").is_some()).cloned())
        })
        .await?;
    assert_eq!(
        runs["author"],
        json!(bob.user),
        "the history says which account wrote it"
    );
    let history = assistant
        .call("document_history", json!({"document": room, "author": bob.user}))
        .await?;
    assert_eq!(history["entries"][0]["author"], json!(bob.user), "{history}");
    assistant.close().await
}

#[tokio::test]
async fn an_assistant_comments_and_suggests_and_an_editor_decides() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, robot) = (world.user(0, "alice").await?, world.user(1, "robot").await?);
    let room = alice.create_document("Draft").await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("🙂 The price is 10 pounds.").await?;
    hers.saved().await?;
    alice.give_role(&room, &robot.user, "commenter").await?;
    robot.accept_invitation(&room).await?;
    let fresh = world.editors.open("fresh", Provider::Plain, &robot, &room).await?;
    fresh.until_contains("10 pounds").await?;
    let mut assistant = Assistant::start(&world.authority, &robot, "suggest").await?;

    let comment = json!({"document": room, "quote": "10 pounds", "body": "Euros?"});
    let comment = assistant.call("comment", comment).await?;
    assert_eq!(comment["quote"], json!("10 pounds"), "{comment}");
    assert_eq!(comment["range"], json!({"from": 16, "to": 25}), "in UTF-16 code units");
    let twice = json!({"document": room, "quote": "e", "body": "which one?"});
    let twice = assistant.call("comment", twice).await.map(|_| ()).unwrap_err();
    assert!(twice.to_string().contains("occurs"), "{twice}");
    let listed = assistant
        .call("list_comments", json!({"document": room, "resolved": false}))
        .await?;
    assert_eq!(listed["comments"].as_array().map(Vec::len), Some(1), "{listed}");
    let reply = json!({"document": room, "event": comment["eventId"], "body": "Better ask."});
    assistant.call("reply", reply).await?;

    let read = assistant
        .call("read_document", json!({"document": room, "format": "text"}))
        .await?;
    let change = json!({"type": "replace", "search": "pounds", "count": 1, "text": "euros"});
    let suggestion = json!({
        "document": room, "changes": [change], "version": read["version"], "summary": "one currency",
    });
    let suggestion = assistant.call("suggest_edit", suggestion).await?;
    assert_eq!(suggestion["state"], json!("open"), "{suggestion}");
    let path = format!(
        "/_weft/client/v1/documents/{}/suggestions/{}",
        segment(&room),
        segment(suggestion["eventId"].as_str().unwrap())
    );
    alice
        .until("the suggestion on alice's server", || async {
            let answer = alice.request(Method::GET, &path, None).await?;
            Ok(answer.status.is_success().then_some(()))
        })
        .await?;
    hers.until_text("🙂 The price is 10 pounds.").await?;
    alice.post(&format!("{path}/accept"), json!({})).await?;
    hers.until_text("🙂 The price is 10 euros.").await?;

    robot
        .until("the new text in the index", || async {
            Ok(found(&robot, "euros").await?.then_some(()))
        })
        .await?;
    let hits = assistant.call("search", json!({"query": "euros"})).await?;
    assert_eq!(hits["results"][0]["docId"], json!(room), "{hits}");
    assistant.close().await
}

/// Whether a search of the user finds anything.
async fn found(user: &Client, query: &str) -> Result<bool> {
    let answer = user.get(&format!("/_weft/client/v1/search?in=text&q={query}")).await?;
    Ok(answer["results"].as_array().is_some_and(|results| !results.is_empty()))
}

#[tokio::test]
async fn an_assistant_has_the_tools_of_its_access_and_no_right_beyond_its_account() -> Result<()> {
    let world = World::new(1).await?;
    let (alice, carol) = (world.user(0, "alice").await?, world.user(0, "carol").await?);
    let room = alice.create_document("To be read").await?;
    let reading = [
        "document_history",
        "list_comments",
        "list_documents",
        "read_document",
        "search",
    ];
    let suggesting = ["comment", "reply", "suggest_edit"];
    for (access, more) in [
        ("read", vec![]),
        ("suggest", suggesting.to_vec()),
        ("edit", [&suggesting[..], &["edit_document"]].concat()),
    ] {
        let mut assistant = Assistant::start(&world.authority, &carol, access).await?;
        let mut expected: Vec<&str> = reading.iter().copied().chain(more).collect();
        expected.sort_unstable();
        assert_eq!(assistant.tools().await?, expected, "{access}");
        assistant.close().await?;
    }
    let mut assistant = Assistant::start(&world.authority, &carol, "edit").await?;
    let stranger = assistant
        .call("read_document", json!({"document": room}))
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(stranger.to_string().contains("M_NOT_FOUND"), "{stranger}");
    alice.give_role(&room, &carol.user, "viewer").await?;
    carol.accept_invitation(&room).await?;
    let read = assistant.call("read_document", json!({"document": room})).await?;
    let edit = json!({"document": room, "changes": [{"type": "append", "text": "x"}], "version": read["version"]});
    let viewer = assistant.call("edit_document", edit).await.map(|_| ()).unwrap_err();
    assert!(viewer.to_string().contains("M_FORBIDDEN"), "{viewer}");
    // What is no call of a tool does not stop the program.
    assert!(
        assistant
            .request("tools/call", json!({"name": "delete_everything", "arguments": {}}))
            .await
            .is_err()
    );
    assert!(assistant.request("no/method", json!({})).await.is_err());
    assert!(assistant.call("read_document", json!({"document": 7})).await.is_err());
    assert!(!assistant.tools().await?.is_empty());
    assistant.close().await
}
