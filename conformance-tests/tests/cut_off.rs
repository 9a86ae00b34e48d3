//! An editor that was cut off comes back, and nothing is lost on either side.
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
    client::{Client, segment},
    editors::Provider,
    given::cannot_be_put_to_given_servers,
    live::{LiveEditor, trust},
    world::World,
};

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

/// alice puts bob out of the document while no server hears the other, and both go on writing: to bob's server he is still
/// in it. The editors of both, and the link still cut.
async fn put_out_behind_a_cut(
    world: &World,
    alice: &Client,
    bob: &Client,
    room: &str,
) -> Result<(LiveEditor, LiveEditor)> {
    let trust = trust(&world.authority)?;
    let hers = LiveEditor::open(&trust, alice, room, 1)?;
    let his = LiveEditor::open(&trust, bob, room, 2)?;
    hers.type_word(0, "<before>");
    bob.until("what she wrote", async || Ok((his.text() == "<before>").then_some(())))
        .await?;
    world.cut();
    let member = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(room),
        segment(&bob.user)
    );
    alice.request(Method::DELETE, &member, None).await?.ok()?;
    for (editor, word) in [(&hers, "<hers>"), (&his, "<his>")] {
        editor.type_word(1_000, word);
        editor.saved().await?;
    }
    Ok((hers, his))
}

#[tokio::test]
async fn what_somebody_writes_who_was_put_out_behind_a_cut_is_in_no_document() -> Result<()> {
    if cannot_be_put_to_given_servers("what_somebody_writes_who_was_put_out_behind_a_cut_is_in_no_document") {
        return Ok(());
    }
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    let options = json!({"preset": "public_chat", "room_version": "12"});
    let elsewhere = alice.create_room(options).await?;
    bob.join(&elsewhere, Some(&world.servers[0].name)).await?;
    let (hers, his) = put_out_behind_a_cut(&world, &alice, &bob, &room).await?;
    world.heal();
    let told = bob
        .until("the end of his editor", async || Ok(his.saved().await.err()))
        .await?;
    assert!(told.to_string().contains("4403"), "{told}");
    for client in [&alice, &bob] {
        client.until_membership(&room, &bob.user, "leave").await?;
    }
    // It takes the way that his words have taken, behind them.
    bob.say(&elsewhere, "<later>").await?;
    let came = async || {
        let messages = alice.messages(&elsewhere).await?;
        Ok(messages.iter().any(|text| text == "<later>").then_some(()))
    };
    alice.until("what he said later", came).await?;
    let late = LiveEditor::open(&trust(&world.authority)?, &alice, &room, 3)?;
    late.synced().await?;
    assert_eq!(late.text(), "<before><hers>");
    assert_eq!(hers.text(), "<before><hers>");
    Ok(())
}

/// His server could not know. Where somebody of it stays in the document, what he wrote before it heard counts for all.
#[tokio::test]
async fn what_somebody_wrote_before_his_server_heard_that_he_is_out_counts_where_others_of_it_stay() -> Result<()> {
    if cannot_be_put_to_given_servers("what_somebody_wrote_before_his_server_heard_that_he_is_out_counts") {
        return Ok(());
    }
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    let carol = world.user(1, "carol").await?;
    alice.give_role(&room, &carol.user, "viewer").await?;
    carol.accept_invitation(&room).await?;
    let theirs = LiveEditor::open(&trust(&world.authority)?, &carol, &room, 3)?;
    let (hers, his) = put_out_behind_a_cut(&world, &alice, &bob, &room).await?;
    world.heal();
    for client in [&alice, &carol] {
        client.until_membership(&room, &bob.user, "leave").await?;
    }
    let told = bob
        .until("the end of his editor", async || Ok(his.saved().await.err()))
        .await?;
    assert!(told.to_string().contains("4403"), "{told}");
    let merged = async || {
        let (one, other) = (hers.text(), theirs.text());
        let whole = ["<before>", "<hers>", "<his>"].iter().all(|word| one.contains(word));
        Ok((whole && one == other).then_some(()))
    };
    alice.until("one text on both servers", merged).await
}
