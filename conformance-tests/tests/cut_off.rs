//! An editor that was cut off comes back, and nothing is lost on either side.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use weft_conformance_tests::{editors::Provider, given::cannot_be_put_to_given_servers, world::World};

#[tokio::test]
async fn what_both_sides_wrote_meanwhile_is_merged() -> Result<()> {
    for provider in [Provider::Plain, Provider::Hocuspocus] {
        let world = World::new(2).await?;
        let (alice, bob, room) = world.shared_document().await?;
        let hers = world.editors.open("hers", provider, &alice, &room).await?;
        let his = world.editors.open("his", provider, &bob, &room).await?;
        hers.type_end("start.").await?;
        his.until_text("start.").await?;
        hers.disconnect().await?;
        for number in 0..40 {
            hers.type_end(&format!("a{number}.")).await?;
            his.type_at(0, &format!("b{number}.")).await?;
        }
        hers.delete(0, 3).await?;
        hers.connect().await?;
        for number in 0..40 {
            his.until_contains(&format!("a{number}.")).await?;
            hers.until_contains(&format!("b{number}.")).await?;
        }
        let text = his.text().await?;
        hers.until_text(&text).await?;
        assert!(
            text.contains("rt.") && !text.contains("start."),
            "{provider:?}: the deletion was lost: {text}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_down_catches_up_in_both_directions() -> Result<()> {
    if cannot_be_put_to_given_servers("a_server_that_was_down_catches_up_in_both_directions") {
        return Ok(());
    }
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.type_end("before ").await?;
    his.until_text("before ").await?;
    world.servers[1].terminate().await?;
    hers.type_end("while he was away ").await?;
    hers.saved().await?;
    his.type_end("offline ").await?;
    world.servers[1].boot().await?;
    his.until_contains("while he was away ").await?;
    hers.until_contains("offline ").await?;
    let text = hers.text().await?;
    his.until_text(&text).await
}

#[tokio::test]
async fn a_server_with_a_new_signing_key_is_believed_and_its_old_events_are_too() -> Result<()> {
    if cannot_be_put_to_given_servers("a_server_with_a_new_signing_key_is_believed_and_its_old_events_are_too") {
        return Ok(());
    }
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("old key. ").await?;
    his.until_contains("old key. ").await?;
    hers.close().await?;
    world.servers[0].terminate().await?;
    let said = world.servers[0].command(&["keys", "rotate"])?;
    assert!(said.contains("signs with ed25519:"), "{said}");
    world.servers[0].boot().await?;
    let hers = world
        .editors
        .open("hers-again", Provider::Hocuspocus, &alice, &room)
        .await?;
    hers.until_text("old key. ").await?;
    hers.type_end("new key. ").await?;
    his.until_text("old key. new key. ").await?;
    let carol = world.add_server("").await?;
    let carol = world.user(carol, "carol").await?;
    alice.give_role(&room, &carol.user, "editor").await?;
    carol.accept_invitation(&room).await?;
    let theirs = world.editors.open("theirs", Provider::Plain, &carol, &room).await?;
    theirs.until_text("old key. new key. ").await
}
