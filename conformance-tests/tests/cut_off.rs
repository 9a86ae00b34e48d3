//! Editors and servers that were disconnected reconnect, and no edit is lost on either side. Must not depend on which
//! side reconnects first.
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
    external::needs_own_servers,
    live::{LiveEditor, trust},
    world::World,
};

#[tokio::test]
async fn edits_of_both_sides_made_while_disconnected_are_merged() -> Result<()> {
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
    if needs_own_servers("a_server_that_was_down_catches_up_in_both_directions") {
        return Ok(());
    }
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    let his = world.editors.open("his", Provider::Hocuspocus, &bob, &room).await?;
    hers.type_end("before ").await?;
    his.until_text("before ").await?;
    world.servers[1].terminate().await?;
    hers.type_end("while bob was away ").await?;
    hers.saved().await?;
    his.type_end("offline ").await?;
    world.servers[1].boot().await?;
    his.until_contains("while bob was away ").await?;
    hers.until_contains("offline ").await?;
    let text = hers.text().await?;
    his.until_text(&text).await
}

#[tokio::test]
async fn a_new_signing_key_and_events_signed_with_the_old_key_are_accepted() -> Result<()> {
    if needs_own_servers("a_new_signing_key_and_events_signed_with_the_old_key_are_accepted") {
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
    let output = world.servers[0].command(&["keys", "rotate"])?;
    assert!(output.contains("signs with ed25519:"), "{output}");
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

/// Removes bob from the document while the servers are partitioned; then both users write: on bob's server bob is still
/// a member. Returns both editors; the link is still cut.
async fn remove_during_a_partition(
    world: &World,
    alice: &Client,
    bob: &Client,
    room: &str,
) -> Result<(LiveEditor, LiveEditor)> {
    let trust = trust(&world.authority)?;
    let hers = LiveEditor::open(&trust, alice, room, 1)?;
    let his = LiveEditor::open(&trust, bob, room, 2)?;
    hers.type_word(0, "<before>");
    bob.until("alice's text", async || Ok((his.text() == "<before>").then_some(())))
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
async fn edits_that_a_removed_user_made_during_a_partition_are_in_no_document() -> Result<()> {
    if needs_own_servers("edits_that_a_removed_user_made_during_a_partition_are_in_no_document") {
        return Ok(());
    }
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    let options = json!({"preset": "public_chat", "room_version": "12"});
    let elsewhere = alice.create_room(options).await?;
    bob.join(&elsewhere, Some(&world.servers[0].name)).await?;
    let (hers, his) = remove_during_a_partition(&world, &alice, &bob, &room).await?;
    world.heal();
    let error = bob
        .until("the end of bob's editor", async || Ok(his.saved().await.err()))
        .await?;
    assert!(error.to_string().contains("4403"), "{error}");
    for client in [&alice, &bob] {
        client.until_membership(&room, &bob.user, "leave").await?;
    }
    // It is sent on the same path, after bob's edits.
    bob.say(&elsewhere, "<later>").await?;
    let came = async || {
        let messages = alice.messages(&elsewhere).await?;
        Ok(messages.iter().any(|text| text == "<later>").then_some(()))
    };
    alice.until("bob's later message", came).await?;
    let late = LiveEditor::open(&trust(&world.authority)?, &alice, &room, 3)?;
    late.synced().await?;
    assert_eq!(late.text(), "<before><hers>");
    assert_eq!(hers.text(), "<before><hers>");
    Ok(())
}

/// bob's server could not know of the removal. Where another user of that server stays in the document, bob's edits
/// made before the removal arrived count everywhere.
#[tokio::test]
async fn edits_made_before_the_removal_arrives_count_if_the_server_still_has_members() -> Result<()> {
    if needs_own_servers("edits_made_before_the_removal_arrives_count_if_the_server_still_has_members") {
        return Ok(());
    }
    let world = World::with_links(2, "").await?;
    let (alice, bob, room) = world.shared_document().await?;
    let carol = world.user(1, "carol").await?;
    alice.give_role(&room, &carol.user, "viewer").await?;
    carol.accept_invitation(&room).await?;
    let theirs = LiveEditor::open(&trust(&world.authority)?, &carol, &room, 3)?;
    let (hers, his) = remove_during_a_partition(&world, &alice, &bob, &room).await?;
    world.heal();
    for client in [&alice, &carol] {
        client.until_membership(&room, &bob.user, "leave").await?;
    }
    let error = bob
        .until("the end of bob's editor", async || Ok(his.saved().await.err()))
        .await?;
    assert!(error.to_string().contains("4403"), "{error}");
    let merged = async || {
        let (one, other) = (hers.text(), theirs.text());
        let whole = ["<before>", "<hers>", "<his>"].iter().all(|word| one.contains(word));
        Ok((whole && one == other).then_some(()))
    };
    alice.until("one text on both servers", merged).await
}
