//! Locks, approvals and access over HTTPS, with two real servers: what one server is told holds on the other.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{
    client::{Answer, Client, segment},
    editors::Provider,
    world::World,
};

/// A request to a document.
async fn ask(client: &Client, method: Method, room: &str, rest: &str, body: Value) -> Result<Answer> {
    let path = format!("/_weft/client/v1/documents/{}{rest}", segment(room));
    client.request(method, &path, Some(body)).await
}

async fn read(client: &Client, room: &str, rest: &str) -> Result<Value> {
    client
        .get(&format!("/_weft/client/v1/documents/{}{rest}", segment(room)))
        .await
}

async fn version(client: &Client, room: &str) -> Result<u64> {
    read(client, room, "").await?["version"].as_u64().context("no version")
}

async fn insert(client: &Client, room: &str, text: &str) -> Result<Answer> {
    let change = json!({"type": "insert", "at": 0, "text": text});
    let body = json!({"changes": [change], "clientVersion": version(client, room).await?});
    ask(client, Method::PATCH, room, "/edit", body).await
}

async fn until_locked(client: &Client, room: &str, locked: bool) -> Result<Value> {
    let is_so = || async {
        let lock = read(client, room, "/lock").await?;
        Ok((lock["locked"] == locked).then_some(lock))
    };
    client.until(&format!("locked: {locked}"), is_so).await
}

#[tokio::test]
async fn a_lock_stops_editors_of_both_servers_and_keeps_their_sockets() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.type_end("text").await?;
    his.until_text("text").await?;
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("read-write"));
        editor.forget_events().await?;
    }
    let lock = ask(&alice, Method::PUT, &room, "/lock", json!({"reason": "Signed"}))
        .await?
        .ok()?;
    let there = until_locked(&bob, &room, true).await?;
    assert_eq!(
        (&there["eventId"], &there["stateHash"]),
        (&lock["eventId"], &lock["stateHash"])
    );
    assert_eq!(there["isPresentText"], json!(true));
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("readonly"));
        editor.forget_events().await?;
    }
    // Neither the creator nor an editor of the other server edits, by whatever way.
    for client in [&alice, &bob] {
        let refused = insert(client, &room, "x").await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::FORBIDDEN, "DEV_WEFT_LOCKED")
        );
        let update = world.editors.update_event(71, "x").await?;
        let refused = client.try_send(&room, "dev.weft.update", update).await?;
        assert_eq!(
            (refused.status, refused.errcode()),
            (StatusCode::FORBIDDEN, "M_FORBIDDEN")
        );
        client.say(&room, "Why is it locked?").await?;
    }
    ask(&alice, Method::DELETE, &room, "/lock", json!({})).await?.ok()?;
    until_locked(&bob, &room, false).await?;
    for editor in [&hers, &his] {
        assert_eq!(editor.until_event("authenticated").await?, json!("read-write"));
        assert!(!editor.has_seen("close").await?);
    }
    his.type_end("!").await?;
    his.saved().await?;
    hers.until_text("text!").await
}

#[tokio::test]
async fn edits_beside_a_lock_are_merged_and_the_lock_shows_that_the_text_is_another() -> Result<()> {
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    insert(&alice, &room, "text").await?.ok()?;
    let has_text = || async { Ok((version(&bob, &room).await? > 0).then_some(())) };
    bob.until("the text", has_text).await?;
    world.cut();
    let lock = ask(&alice, Method::PUT, &room, "/lock", json!({})).await?.ok()?;
    insert(&bob, &room, "late ").await?.ok()?;
    world.heal();
    let both = || async {
        let (one, other) = (
            until_locked(&alice, &room, true).await?,
            until_locked(&bob, &room, true).await?,
        );
        let differs = |lock: &Value| lock["isPresentText"] == json!(false);
        Ok((differs(&one) && differs(&other)).then_some([one, other]))
    };
    for seen in alice.until("the edit beside the lock on both servers", both).await? {
        assert_eq!((&seen["eventId"], &seen["heads"]), (&lock["eventId"], &lock["heads"]));
    }
    for client in [&alice, &bob] {
        let text = async |at: &str| -> Result<String> {
            let answer = client
                .of_document(Method::GET, &room, &format!("?format=text{at}"), &[], Vec::new())
                .await?;
            Ok(answer.text().await?)
        };
        assert_eq!(text("").await?, "late text");
        let head = lock["heads"][0].as_str().context("no head")?;
        assert_eq!(text(&format!("&at={}", segment(head))).await?, "text");
        assert_eq!(insert(client, &room, "x").await?.errcode(), "DEV_WEFT_LOCKED");
    }
    Ok(())
}

#[tokio::test]
async fn approvals_of_both_servers_are_of_one_text() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    insert(&alice, &room, "text").await?.ok()?;
    ask(&alice, Method::PUT, &room, "/lock", json!({})).await?.ok()?;
    until_locked(&bob, &room, true).await?;
    let hers = ask(&alice, Method::POST, &room, "/approvals", json!({})).await?.ok()?;
    let his = ask(&bob, Method::POST, &room, "/approvals", json!({"statement": "Agreed"}))
        .await?
        .ok()?;
    assert_eq!(
        (&hers["stateHash"], &hers["textHash"]),
        (&his["stateHash"], &his["textHash"])
    );
    assert!(his["textHash"].is_string(), "{his}");
    let rendered = bob
        .of_document(Method::GET, &room, "?format=json", &[], Vec::new())
        .await?;
    assert_eq!(
        rendered.headers()["weft-text-hash"],
        *his["textHash"].as_str().context("no hash")?
    );
    let listed = async |client: &Client, present: bool, count: usize| -> Result<()> {
        let is_so = || async {
            let list = read(client, &room, "/approvals").await?;
            let all = list["approvals"].as_array().context("no list")?;
            let as_wanted = all.len() == count && all.iter().all(|one| one["isPresentText"] == json!(present));
            Ok(as_wanted.then_some(()))
        };
        client
            .until(&format!("{count} approvals, present text: {present}"), is_so)
            .await
    };
    for client in [&alice, &bob] {
        listed(client, true, 2).await?;
    }
    ask(&alice, Method::DELETE, &room, "/lock", json!({})).await?.ok()?;
    insert(&alice, &room, "another ").await?.ok()?;
    for client in [&alice, &bob] {
        listed(client, false, 2).await?;
    }
    let of_his = format!("/approvals/{}", segment(his["eventId"].as_str().context("no id")?));
    ask(&bob, Method::DELETE, &room, &of_his, json!({})).await?.ok()?;
    for client in [&alice, &bob] {
        listed(client, false, 1).await?;
    }
    Ok(())
}
