//! Copies, templates and the bin over HTTPS, on two servers with real render workers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{client::Client, world::World};

async fn ask(client: &Client, method: Method, room: &str, path: &str, body: Value) -> Result<(StatusCode, Value)> {
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let answer = client.of_document(method, room, path, &[], body).await?;
    let status = answer.status();
    Ok((status, answer.json().await.unwrap_or(Value::Null)))
}

async fn edit(client: &Client, room: &str, changes: Value) -> Result<(StatusCode, Value)> {
    let (_, shown) = ask(client, Method::GET, room, "", Value::Null).await?;
    let body = json!({"changes": changes, "clientVersion": shown["version"]});
    ask(client, Method::PATCH, room, "/edit", body).await
}

async fn rendered(client: &Client, room: &str) -> Result<Value> {
    let (status, shown) = ask(client, Method::GET, room, "?format=json", Value::Null).await?;
    ensure!(status == StatusCode::OK, "{status} {shown}");
    Ok(shown)
}

/// The ids of the documents in a list.
async fn listed(client: &Client, query: &str) -> Result<Vec<String>> {
    let list = client.get(&format!("/_weft/client/v1/documents?{query}")).await?;
    let documents = list["documents"].as_array().context("no documents")?;
    Ok(documents
        .iter()
        .filter_map(|document| Some(document["docId"].as_str()?.to_owned()))
        .collect())
}

async fn created(client: &Client, kind: &str) -> Result<String> {
    let new = json!({"title": "Original", "kind": kind});
    let created = client.post("/_weft/client/v1/documents", new).await?;
    Ok(created["docId"].as_str().context("no id")?.to_owned())
}

#[tokio::test]
async fn a_template_of_another_server_is_duplicated_with_its_formats() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let bold = json!([{"type": "bold"}]);
    let heading = json!({"type": "heading", "attrs": {"level": 2}, "content": [{"type": "text", "text": "Title"}]});
    let text = json!([{"type": "text", "text": "plain "}, {"type": "text", "text": "bold", "marks": bold}]);
    let item = json!({"type": "listItem", "content": [{"type": "paragraph", "content": text}]});
    for (kind, changes) in [
        (
            "text",
            json!([{"type": "insert", "at": 0, "text": "one \u{1f600} two"}, {"type": "delete", "at": 0, "length": 4}]),
        ),
        (
            "rich_text",
            json!([
                {"type": "insertBlock", "path": [0], "node": heading},
                {"type": "insertBlock", "path": [1], "node": {"type": "bulletList", "content": [item]}},
            ]),
        ),
        (
            "canvas",
            json!([
                {"type": "set", "in": {"element": "a"}, "key": "x", "value": 1.5},
                {"type": "set", "in": {"element": "a"}, "key": "points", "value": [[1, 2], {"y": null}]},
                {"type": "set", "in": {"element": "b"}, "key": "text", "value": "note"},
            ]),
        ),
    ] {
        let room = created(&alice, kind).await?;
        let (status, answer) = edit(&alice, &room, changes).await?;
        assert_eq!(status, StatusCode::OK, "{kind}: {answer}");
        ask(&alice, Method::PUT, &room, "/template", Value::Null).await?;
        alice.give_role(&room, &bob.user, "viewer").await?;
        bob.accept_invitation(&room).await?;
        let original = rendered(&alice, &room).await?;
        let is_here = || async {
            let is_listed = listed(&bob, "template=true").await?.contains(&room);
            Ok((is_listed && rendered(&bob, &room).await? == original).then_some(()))
        };
        bob.until("the template", is_here).await?;
        let (status, copy) = ask(&bob, Method::POST, &room, "/duplicate", json!({"title": "Mine"})).await?;
        assert_eq!(status, StatusCode::CREATED, "{kind}: {copy}");
        let copy = copy["docId"].as_str().context("no id")?.to_owned();
        assert_eq!(rendered(&bob, &copy).await?, original, "{kind}");
        let (_, shown) = ask(&bob, Method::GET, &copy, "", Value::Null).await?;
        assert_eq!(
            (
                &shown["title"],
                &shown["role"],
                shown.get("template"),
                &shown["version"]
            ),
            (&json!("Mine"), &json!("owner"), None, &json!(1))
        );
        // Without what was deleted in the original.
        let update = bob.content(&copy).await?;
        assert!(!update.windows(4).any(|part| part == b"one "), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn the_bin_is_the_same_on_both_servers_and_loses_no_edit() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let (status, deleted) = ask(&alice, Method::DELETE, &room, "", Value::Null).await?;
    assert_eq!(status, StatusCode::OK, "{deleted}");
    let in_bin = || async { Ok((listed(&bob, "bin=true").await? == [room.as_str()]).then_some(())) };
    bob.until("the document in the bin", in_bin).await?;
    assert!(!listed(&bob, "").await?.contains(&room));
    let append = json!([{"type": "append", "text": "late"}]);
    let (status, refused) = edit(&bob, &room, append.clone()).await?;
    assert_eq!(
        (status, &refused["errcode"], &refused["inBinSince"]),
        (StatusCode::CONFLICT, &json!("DEV_WEFT_IN_BIN"), &deleted["inBinSince"])
    );
    // An editor that was offline sends what it has: "a" in the text.
    let update = vec![1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];
    let sent = bob.of_document(Method::POST, &room, "/updates", &[], update).await?;
    assert_eq!(sent.status(), StatusCode::OK);
    let (status, _) = ask(&alice, Method::POST, &room, "/undelete", Value::Null).await?;
    assert_eq!(status, StatusCode::OK);
    let is_back = || async { Ok(listed(&bob, "").await?.contains(&room).then_some(())) };
    bob.until("the restored document", is_back).await?;
    assert_eq!(edit(&bob, &room, append).await?.0, StatusCode::OK);
    let both = json!({"kind": "text", "delta": [{"insert": "alate"}]});
    for client in [&alice, &bob] {
        let is_there = || async { Ok((rendered(client, &room).await? == both).then_some(())) };
        client.until("both edits", is_there).await?;
    }
    Ok(())
}
