//! Search over HTTPS, on two servers with real render workers: scripts, places, rights at the time of the search, redactions, and
//! an index that is built again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Client, segment},
    world::World,
};

async fn search(client: &Client, query: &str) -> Result<Vec<Value>> {
    let answer = client.get(&format!("/_weft/client/v1/search?{query}")).await?;
    Ok(answer["results"].as_array().context("no results")?.clone())
}

/// Waits until a query has this number of results.
async fn until_found(client: &Client, query: &str, count: usize) -> Result<Vec<Value>> {
    let found = || async {
        let results = search(client, query).await?;
        Ok((results.len() == count).then_some(results))
    };
    client.until(&format!("{count} results of {query}"), found).await
}

async fn write(client: &Client, room: &str, text: &str) -> Result<()> {
    let path = "/import?format=text";
    let sent = client
        .of_document(Method::POST, room, path, &[], text.as_bytes().to_vec())
        .await?;
    ensure!(sent.status() == StatusCode::OK, "{}", sent.text().await?);
    Ok(())
}

#[tokio::test]
async fn members_on_both_servers_find_what_they_may_read() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    write(
        &alice,
        &room,
        "Protokoll über Äpfel\nПротокол заседания\n東京都の議事録\n회의록입니다",
    )
    .await?;
    let message = alice.say(&room, "Remember the agenda").await?;
    for client in [&alice, &bob] {
        for query in ["äpfel", "ПРОТОКОЛ", "東京", "議事録", "회의록", "protokoll 都"] {
            let results = until_found(client, &format!("q={}", segment(query)), 1).await?;
            assert_eq!(
                (&results[0]["docId"], &results[0]["in"], &results[0]["title"]),
                (&json!(room), &json!("text"), &json!("Shared plans")),
                "{query}"
            );
            assert!(!results[0]["matches"].as_array().unwrap().is_empty(), "{query}");
        }
        let results = until_found(client, "q=agenda", 1).await?;
        assert_eq!(
            (&results[0]["eventId"], &results[0]["in"], &results[0]["sender"]),
            (&json!(message), &json!("chat"), &json!(alice.user))
        );
        assert_eq!(results[0]["snippet"], "Remember the agenda");
        assert_eq!(until_found(client, "q=plans", 1).await?[0]["in"], "title");
        assert!(search(client, "q=plans&in=text,chat").await?.is_empty());
        assert!(search(client, "q=agenda%20missing").await?.is_empty());
    }
    // Who is in no document finds nothing, and who leaves one finds nothing more.
    let carol = world.user(1, "carol").await?;
    assert!(search(&carol, "q=agenda").await?.is_empty());
    alice
        .request(
            Method::DELETE,
            &format!(
                "/_weft/client/v1/documents/{}/members/{}",
                segment(&room),
                segment(&bob.user)
            ),
            None,
        )
        .await?
        .ok()?;
    until_found(&bob, "q=agenda", 0).await?;
    assert_eq!(search(&alice, "q=agenda").await?.len(), 1);

    let path = format!(
        "/_matrix/client/v3/rooms/{}/redact/{}/1",
        segment(&room),
        segment(&message)
    );
    alice.put(&path, json!({})).await?;
    assert!(
        search(&alice, "q=agenda").await?.is_empty(),
        "a redacted message is not shown"
    );
    Ok(())
}

#[tokio::test]
async fn malformed_searches_are_refused() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    for query in [
        "q=",
        "q=%2B%2A",
        "q=a&limit=0",
        "q=a&limit=51",
        "q=a&from=1001",
        "q=a&in=everything",
    ] {
        let refused = alice
            .request(Method::GET, &format!("/_weft/client/v1/search?{query}"), None)
            .await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
            "{query}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn edited_and_deleted_text_is_not_found_by_its_old_words() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Draft").await?;
    write(&alice, &room, "zebra crossing").await?;
    until_found(&alice, "q=zebra", 1).await?;
    let change = json!({"changes": [{"type": "replace", "search": "zebra", "text": "giraffe"}], "clientVersion": 1});
    let edited = alice
        .of_document(Method::PATCH, &room, "/edit", &[], change.to_string().into_bytes())
        .await?;
    assert_eq!(edited.status(), StatusCode::OK);
    until_found(&alice, "q=giraffe", 1).await?;
    assert!(search(&alice, "q=zebra").await?.is_empty());

    let message = alice.say(&room, "first wording").await?;
    until_found(&alice, "q=wording", 1).await?;
    let edit = json!({
        "msgtype": "m.text", "body": "* second phrase", "m.new_content": {"msgtype": "m.text", "body": "second phrase"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": message},
    });
    ensure!(alice.try_send(&room, "m.room.message", edit).await?.status == StatusCode::OK);
    assert_eq!(until_found(&alice, "q=phrase", 1).await?[0]["eventId"], json!(message));
    assert!(search(&alice, "q=wording").await?.is_empty());

    let pages = alice.get("/_weft/client/v1/search?q=draft&limit=1").await?;
    assert_eq!(pages["results"].as_array().unwrap().len(), 1);
    Ok(())
}

#[tokio::test]
async fn the_index_continues_after_a_crash_and_is_built_again_on_request() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Ledger").await?;
    write(&alice, &room, "first entry").await?;
    alice.say(&room, "before the crash").await?;
    let server = world.servers.first_mut().context("no server")?;
    server.kill();
    server.boot().await?;
    for query in ["q=entry", "q=crash", "q=ledger"] {
        until_found(&alice, query, 1).await?;
    }
    let server = world.servers.first().context("no server")?;
    let built = || server.log().matches("the search index is built").count();
    let before = built();
    server.command(&["search-rebuild"])?;
    let is_built = || async { Ok((built() > before).then_some(())) };
    alice.until("a new index", is_built).await?;
    assert!(!server.data().join("search").join("rebuild").exists());
    for query in ["q=entry", "q=crash", "q=ledger"] {
        until_found(&alice, query, 1).await?;
    }
    Ok(())
}
