//! kill -9 in the middle of typing: no acknowledged edit is lost, none is there twice. And a graceful stop seals.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use rand::RngExt as _;
use weft_conformance_tests::{editors::Provider, given::cannot_be_put_to_given_servers, world::World};

/// Words are typed one after another; the oracle is which of them the provider saw acknowledged before each kill.
#[tokio::test]
async fn twenty_kills_lose_nothing_that_was_acknowledged() -> Result<()> {
    if cannot_be_put_to_given_servers("twenty_kills_lose_nothing_that_was_acknowledged") {
        return Ok(());
    }
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Killed").await?;
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..20 {
        // A fresh editor: what the one before had not been told is gone with it, as with a closed browser.
        let writer = world
            .editors
            .open(&format!("writer-{round}"), Provider::Hocuspocus, &alice, &room)
            .await?;
        writer.synced().await?;
        writer.saved().await?;
        let before_the_kill = rand::rng().random_range(1..12);
        for number in 0..before_the_kill {
            let word = format!("<{round}.{number}>");
            writer.type_end(&word).await?;
            if number % 2 == 0 {
                writer.saved().await?;
                acknowledged.push(word);
            }
        }
        world.servers[0].kill();
        writer.close().await?;
        world.servers[0].boot().await?;
        let reader = world
            .editors
            .open(&format!("reader-{round}"), Provider::Plain, &alice, &room)
            .await?;
        reader.synced().await?;
        let text = reader.text().await?;
        for word in &acknowledged {
            assert_eq!(text.matches(word).count(), 1, "{word} after kill {round} in {text}");
        }
        reader.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_graceful_stop_seals_and_closes_sockets_with_a_code_that_means_again() -> Result<()> {
    if cannot_be_put_to_given_servers("a_graceful_stop_seals_and_closes_sockets_with_a_code_that_means_again") {
        return Ok(());
    }
    let mut world = World::with_config(1, "[documents]\nseal_idle = \"60s\"\nseal_max = \"60s\"\n").await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Stopped").await?;
    let editor = world
        .editors
        .open("editor", Provider::Hocuspocus, &alice, &room)
        .await?;
    editor.type_end("pending").await?;
    editor.saved().await?;
    editor.forget_events().await?;
    world.servers[0].terminate().await?;
    assert_eq!(editor.until_event("close").await?["code"], serde_json::json!(4500));
    world.servers[0].boot().await?;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=10&filter={}",
        weft_conformance_tests::client::segment(&room),
        weft_conformance_tests::client::segment(r#"{"types":["dev.weft.update"]}"#),
    );
    let sealed = alice.get(&path).await?;
    assert_eq!(sealed["chunk"].as_array().map(Vec::len), Some(1), "{sealed}");
    Ok(())
}
