//! A third server joins a document with a history: it has the text and its users can edit. Must not use a warm cache.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use weft_conformance_tests::{editors::Provider, world::World};

#[tokio::test]
async fn a_third_server_has_the_text_and_its_users_can_edit() -> Result<()> {
    let world = World::new(3).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Plain, &bob, &room).await?;
    for number in 0..60 {
        hers.type_end(&format!("a{number} ")).await?;
        his.type_at(0, &format!("b{number} ")).await?;
    }
    hers.saved().await?;
    for number in 0..60 {
        hers.until_contains(&format!("b{number} ")).await?;
    }
    let carol = world.user(2, "carol").await?;
    alice.give_role(&room, &carol.user, "editor").await?;
    carol.accept_invitation(&room).await?;
    let theirs = world
        .editors
        .open("theirs", Provider::Hocuspocus, &carol, &room)
        .await?;
    theirs.until_text(&hers.text().await?).await?;
    theirs.type_end("carol was here").await?;
    his.until_contains("carol was here").await?;
    hers.until_contains("carol was here").await?;
    let text = theirs.text().await?;
    his.until_text(&text).await?;
    hers.until_text(&text).await
}
