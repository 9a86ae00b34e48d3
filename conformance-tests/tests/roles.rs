//! Roles: a viewer's edits are rejected by both servers, and a revoked role takes effect in open sockets. Must not
//! reconnect an editor to see a change.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use reqwest::{Method, StatusCode};
use serde_json::json;
use weft_conformance_tests::{client::segment, editors::Provider, world::World};

#[tokio::test]
async fn a_viewers_edits_are_rejected_by_both_servers() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let carol = world.user(0, "carol").await?;
    let room = alice.create_document("To be read").await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.type_end("text").await?;
    hers.saved().await?;
    for viewer in [&bob, &carol] {
        alice.give_role(&room, &viewer.user, "viewer").await?;
        viewer.accept_invitation(&room).await?;
    }
    for (name, viewer, provider) in [
        ("bob-hocus", &bob, Provider::Hocuspocus),
        ("bob-plain", &bob, Provider::Plain),
        ("carol-hocus", &carol, Provider::Hocuspocus),
        ("carol-plain", &carol, Provider::Plain),
    ] {
        let editor = world.editors.open(name, provider, viewer, &room).await?;
        editor.until_text("text").await?;
        if provider == Provider::Hocuspocus {
            assert_eq!(editor.until_event("authenticated").await?, json!("readonly"));
        }
        editor.type_end(" forged").await?;
        // A response to a later request shows that the edit was handled.
        let refused = viewer
            .try_send(&room, "dev.weft.update", json!({"update": "AAA", "clients": {}}))
            .await?;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
        assert_eq!(refused.errcode(), "M_FORBIDDEN");
    }
    hers.type_end("!").await?;
    hers.saved().await?;
    assert_eq!(hers.text().await?, "text!");
    let fresh = world.editors.open("fresh", Provider::Plain, &alice, &room).await?;
    fresh.until_text("text!").await
}

#[tokio::test]
async fn removal_and_a_change_to_viewer_reach_the_open_socket() -> Result<()> {
    let world = World::new(1).await?;
    let (alice, dave, erin) = (
        world.user(0, "alice").await?,
        world.user(0, "dave").await?,
        world.user(0, "erin").await?,
    );
    let room = alice.create_document("Rights").await?;
    for user in [&dave, &erin] {
        alice.give_role(&room, &user.user, "editor").await?;
        user.accept_invitation(&room).await?;
    }
    let his = world.editors.open("his", Provider::Hocuspocus, &dave, &room).await?;
    let hers = world.editors.open("hers", Provider::Plain, &erin, &room).await?;
    his.synced().await?;
    hers.synced().await?;
    his.forget_events().await?;
    alice.give_role(&room, &dave.user, "viewer").await?;
    assert_eq!(his.until_event("authenticated").await?, json!("readonly"));
    let path = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(&room),
        segment(&erin.user)
    );
    alice.request(Method::DELETE, &path, None).await?.ok()?;
    assert_eq!(hers.until_event("close").await?["code"], json!(4403));
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_and_a_non_member_are_denied() -> Result<()> {
    let world = World::new(1).await?;
    let (alice, mallory) = (world.user(0, "alice").await?, world.user(0, "mallory").await?);
    let room = alice.create_document("Private").await?;
    let wrong = world
        .editors
        .open_with_token("wrong", Provider::Hocuspocus, &alice.url, &room, "wft_not_a_token")
        .await?;
    assert_eq!(wrong.until_event("denied").await?, json!("unauthorized"));
    let stranger = world
        .editors
        .open("stranger", Provider::Hocuspocus, &mallory, &room)
        .await?;
    assert_eq!(stranger.until_event("denied").await?, json!("forbidden"));
    let plain = world.editors.open("plain", Provider::Plain, &mallory, &room).await?;
    plain.until_event("error").await?;
    let path = format!("/_weft/client/v1/documents/{}", segment(&room));
    let hidden = mallory.request(Method::GET, &path, None).await?;
    assert_eq!(
        (hidden.status, hidden.errcode()),
        (StatusCode::NOT_FOUND, "M_NOT_FOUND")
    );
    Ok(())
}

/// One socket per server with four documents: one to write, one to read, one that is refused, and one with a wrong
/// token.
#[tokio::test]
async fn a_shared_socket_carries_documents_with_different_rights() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob) = (world.user(0, "alice").await?, world.user(1, "bob").await?);
    let carol = world.user(0, "carol").await?;
    let written = alice.create_document("To be written").await?;
    let readable = alice.create_document("To be read").await?;
    let secret = alice.create_document("Secret").await?;
    let other = alice.create_document("Another").await?;
    let hers = world.editors.open("hers", Provider::Plain, &alice, &readable).await?;
    hers.type_end("text").await?;
    let mut writers = Vec::new();
    // bob's server does not have documents that bob is not in.
    for (name, client, refusal) in [("bob", &bob, "no such document"), ("carol", &carol, "forbidden")] {
        for (room, role) in [(&written, "editor"), (&readable, "viewer")] {
            alice.give_role(room, &client.user, role).await?;
            client.accept_invitation(room).await?;
        }
        let open = async |what: &str, room: &str, token: &str| {
            let what = format!("{name}-{what}");
            let process = &world.editors;
            process
                .open_with_token(&what, Provider::Shared(1), &client.url, room, token)
                .await
        };
        let writer = open("writes", &written, &client.token).await?;
        let reader = open("reads", &readable, &client.token).await?;
        let stranger = open("secret", &secret, &client.token).await?;
        let wrong = open("wrong", &other, "wft_not_a_token").await?;
        assert_eq!(writer.until_event("authenticated").await?, json!("read-write"));
        assert_eq!(reader.until_event("authenticated").await?, json!("readonly"));
        assert_eq!(stranger.until_event("denied").await?, json!(refusal));
        assert_eq!(wrong.until_event("denied").await?, json!("unauthorized"));
        reader.until_text("text").await?;
        reader.type_end(" forged").await?;
        writer.type_end(&format!("<{name}>")).await?;
        // The writer's edit follows the forged one on the same socket, so both are handled.
        writer.saved().await?;
        writers.push((name, writer, reader));
    }
    for (_, writer, reader) in &writers {
        for (name, _, _) in &writers {
            writer.until_contains(&format!("<{name}>")).await?;
        }
        // A viewer's edits never count as saved.
        assert!(reader.state().await?["unsynced"].as_u64() > Some(0));
    }
    hers.type_end("!").await?;
    for (name, client) in [("fresh-a", &alice), ("fresh-b", &bob)] {
        let fresh = world.editors.open(name, Provider::Plain, client, &readable).await?;
        fresh.until_text("text!").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_session_closes_its_sockets() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Signed out").await?;
    let editor = world.editors.open("plain", Provider::Plain, &alice, &room).await?;
    editor.synced().await?;
    alice.post("/_matrix/client/v3/logout", json!({})).await?;
    assert_eq!(editor.until_event("close").await?["code"], json!(4401));
    Ok(())
}
