//! Stock editors of both kinds on two servers type at once and end with the same text.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    editors::{Editor, Provider},
    world::World,
};

/// Everybody types numbered words at changing places; each word is unique, so that nothing can be lost unnoticed.
async fn type_words(editor: &Editor, who: &str, words: usize) -> Result<()> {
    for number in 0..words {
        let word = format!("[{who}{number}]");
        if number % 3 == 0 {
            editor.type_at(0, &word).await?
        } else {
            editor.type_end(&word).await?
        }
    }
    Ok(())
}

#[tokio::test]
async fn four_stock_editors_over_two_servers_end_with_the_same_text() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let editors = [
        world.editors.open("a-plain", Provider::Plain, &alice, &room).await?,
        world
            .editors
            .open("a-hocus", Provider::Hocuspocus, &alice, &room)
            .await?,
        world.editors.open("b-plain", Provider::Plain, &bob, &room).await?,
        world.editors.open("b-hocus", Provider::Hocuspocus, &bob, &room).await?,
    ];
    for editor in &editors {
        editor.synced().await?;
    }
    let words = 25;
    let typing = ["w", "x", "y", "z"]
        .into_iter()
        .zip(&editors)
        .map(|(who, editor)| type_words(editor, who, words));
    futures_util::future::try_join_all(typing).await?;
    for editor in &editors {
        for who in ["w", "x", "y", "z"] {
            for number in 0..words {
                editor.until_contains(&format!("[{who}{number}]")).await?;
            }
        }
    }
    let text = editors[0].text().await?;
    for editor in &editors {
        editor.until_text(&text).await?;
    }
    for (who, server) in [("w", "a"), ("z", "b")] {
        for number in 0..words {
            assert_eq!(text.matches(&format!("[{who}{number}]")).count(), 1, "{server}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn cursors_cross_servers_and_carry_the_identity_that_the_server_knows() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Plain, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.synced().await?;
    his.synced().await?;
    hers.set_awareness(
        "user",
        json!({"name": "Somebody else", "id": "@admin:example", "color": "#0a0"}),
    )
    .await?;
    his.set_awareness("user", json!({"color": "#00a"})).await?;
    his.until_present(&alice.user).await?;
    hers.until_present(&bob.user).await?;
    let states = his.awareness().await?;
    let seen = states
        .as_object()
        .unwrap()
        .values()
        .find(|state| state["user"]["id"] == json!(alice.user))
        .unwrap();
    let name = alice.user.trim_start_matches('@').split(':').next();
    assert_eq!(seen["user"]["name"].as_str(), name);
    assert_eq!(seen["user"]["color"], "#0a0");
    hers.close().await?;
    his.until_gone(&alice.user).await?;
    Ok(())
}

#[tokio::test]
async fn two_documents_share_one_hocuspocus_socket() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let (first, second) = (
        alice.create_document("First").await?,
        alice.create_document("Second").await?,
    );
    let one = world.editors.open("one", Provider::Shared(1), &alice, &first).await?;
    let two = world.editors.open("two", Provider::Shared(1), &alice, &second).await?;
    one.type_end("the first").await?;
    two.type_end("the second").await?;
    one.saved().await?;
    two.saved().await?;
    let again = world.editors.open("again", Provider::Plain, &alice, &second).await?;
    again.until_text("the second").await?;
    assert_eq!(one.text().await?, "the first");
    Ok(())
}
