//! Streams of events over HTTPS: a program on another server follows a document, goes on after a restart without a loss or a
//! repetition, and is cut off with its right; streams that nobody reads do not fill the memory of a server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use weft_conformance_tests::{client::segment, editors::Provider, event_stream::EventStream, world::World};

#[tokio::test]
async fn a_program_on_another_server_follows_a_document_and_loses_nothing_in_a_restart() -> Result<()> {
    let mut world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let mut stream = EventStream::open(&bob, &room, None).await?;
    let hers = world.editors.open("hers", Provider::Hocuspocus, &alice, &room).await?;
    hers.set_awareness("user", json!({"name": "Alice"})).await?;
    hers.type_end("typed on the other server").await?;
    hers.saved().await?;
    let edit = stream.until("edit").await?;
    assert_eq!(edit["author"], json!(alice.user), "{edit}");
    let chat = format!("/_weft/client/v1/documents/{}/chat", segment(&room));
    alice.post(&chat, json!({"message": "seen?"})).await?;
    assert_eq!(stream.until("chat").await?["content"]["body"], json!("seen?"));

    let seen = stream.last_id.clone();
    drop(stream);
    for number in 0..20 {
        alice
            .post(&chat, json!({"message": format!("missed {number}")}))
            .await?;
    }
    for server in &mut world.servers {
        server.terminate().await?;
        server.boot().await?;
    }
    let mut stream = EventStream::open(&bob, &room, Some(&seen)).await?;
    alice.post(&chat, json!({"message": "after"})).await?;
    for number in 0..20 {
        let missed = stream.until("chat").await?;
        assert_eq!(missed["content"]["body"], json!(format!("missed {number}")), "{missed}");
    }
    assert_eq!(stream.until("chat").await?["content"]["body"], json!("after"));

    let member = format!(
        "/_weft/client/v1/documents/{}/members/{}",
        segment(&room),
        segment(&bob.user)
    );
    alice.request(Method::DELETE, &member, None).await?.ok()?;
    while let Some(sent) = stream.next().await? {
        assert!(sent.name != "chat" && sent.name != "edit", "{sent:?}");
    }
    let refused = bob.of_document(Method::GET, &room, "/events", &[], Vec::new()).await?;
    assert_eq!(refused.status().as_u16(), 404);
    Ok(())
}

/// Each of 100 streams could queue 18 MB of missed messages.
#[tokio::test]
async fn streams_that_nobody_reads_do_not_fill_the_memory() -> Result<()> {
    const MESSAGES: usize = 300;
    const STREAMS: usize = 100;
    /// The bytes of unread data that a user may have, and buffers of 100 connections.
    const MOST_BYTES: u64 = 300 * 1024 * 1024;
    let world = World::new(1).await?;
    let (alice, mallory) = (world.user(0, "alice").await?, world.user(0, "mallory").await?);
    let room = alice.create_document("Followed by many").await?;
    alice.give_role(&room, &mallory.user, "viewer").await?;
    mallory.accept_invitation(&room).await?;
    let start = EventStream::open(&mallory, &room, None).await?.last_id;
    let message = "x".repeat(60_000);
    for _ in 0..MESSAGES {
        alice.say(&room, &message).await?;
    }
    let before = world.servers[0].resident_bytes()?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        // Refused when the account's bytes are used up.
        streams.extend(EventStream::unread(&mallory, &room, Some(&start)).await.ok());
    }
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(world.servers[0].resident_bytes()?);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    println!(
        "{} streams open, {} MB more",
        streams.len(),
        most.saturating_sub(before) / 1_000_000
    );
    assert!(
        most.saturating_sub(before) < MOST_BYTES,
        "{before} bytes before, {most} bytes after"
    );
    // Nobody else is refused.
    alice.say(&room, "still here").await?;
    let mut own = EventStream::open(&alice, &room, None).await?;
    alice.say(&room, "live").await?;
    assert_eq!(own.until("chat").await?["content"]["body"], json!("live"));
    Ok(())
}
