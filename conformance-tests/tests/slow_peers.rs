//! Clients that don't read, and a server that responds with a byte a second: memory stays within the limits, no other
//! client is delayed, and everything arrives in the end. Must not assert a duration.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and tell their figures"
)]

use std::{convert::Infallible, time::Duration};

use anyhow::{Result, ensure};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_conformance_tests::{
    authority::Authority,
    client::Client,
    external::needs_own_servers,
    live::{LiveEditor, trust},
    malicious::{MaliciousServer, Room, json_reply},
    server::Server,
};
use weft_wire::limits::MAX_QUEUE_BYTES_PER_SOCKET;

const STALLED: usize = 100;
const EDITS: usize = 50;
const EDIT_BYTES: usize = 400_000;
/// Deadline; a loaded machine is slow.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Memory for the document itself, independent of the readers: its bytes several times over while it is merged, sealed
/// and written, and the store's buffers.
const FOR_THE_DOCUMENT: usize = 12 * EDITS * EDIT_BYTES + (256 << 20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_for_stalled_readers_is_limited_and_they_get_everything_later() -> Result<()> {
    if needs_own_servers("readers_that_take_nothing") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let authority = Authority::new(folder.path())?;
    let trust = trust(&authority)?;
    let server = Server::start(&authority, folder.path(), "server", "").await?;
    let alice = Client::register(&authority.http()?, &server.url, "alice").await?;
    let room = alice.create_document("Long").await?;
    let (files, mut readers) = (server.open_files()?, Vec::new());
    for number in 0..STALLED {
        let reader = LiveEditor::open(&trust, &alice, &room, 100 + number as u64)?;
        reader.synced().await?;
        reader.set_reading(false);
        readers.push(reader);
    }
    ensure!(server.open_files()? >= files + STALLED, "each has a socket of its own");
    let writer = LiveEditor::open(&trust, &alice, &room, 1)?;
    writer.synced().await?;
    let before = server.resident_bytes()?;
    let mut most = before;
    for number in 0..EDITS {
        writer.type_word(1_000, &format!("<{number} {}>", "x".repeat(EDIT_BYTES)));
        let deadline = Instant::now() + TIMEOUT;
        while writer.waiting() > 0 {
            most = most.max(server.resident_bytes()?);
            ensure!(Instant::now() < deadline, "edit {number} is not acknowledged");
            sleep(Duration::from_millis(5)).await;
        }
    }
    most = most.max(server.resident_bytes()?);
    let grown = usize::try_from(most.saturating_sub(before))?;
    // The room's queues are shared; the write buffers are not, and one message may exceed them.
    let bound = STALLED * (MAX_QUEUE_BYTES_PER_SOCKET + EDIT_BYTES) + FOR_THE_DOCUMENT;
    eprintln!(
        "{STALLED} stalled readers, {} MB of edits: the server has grown by {} MB, the limits allow {}",
        EDITS * EDIT_BYTES / 1_000_000,
        grown / 1_000_000,
        bound / 1_000_000
    );
    ensure!(grown < bound, "the server has grown by {grown} bytes of {bound}");

    let text = writer.text();
    let resumed: Vec<LiveEditor> = readers.drain(..3).collect();
    for reader in &resumed {
        reader.set_reading(true);
        let deadline = Instant::now() + TIMEOUT;
        while reader.text() != text {
            ensure!(
                Instant::now() < deadline,
                "a reader that resumes does not get everything"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }
    are_disconnected(&server, files + STALLED / 5).await
}

/// A client that reads nothing for a minute, plus the time that a slow connection needs for the kernel's buffer, is
/// disconnected.
async fn are_disconnected(server: &Server, files: usize) -> Result<()> {
    let deadline = Instant::now() + 2 * TIMEOUT;
    while server.open_files()? > files {
        ensure!(
            Instant::now() < deadline,
            "{} files are still open",
            server.open_files()?
        );
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// A response that never ends and never stops.
fn a_byte_a_second() -> Response {
    let bytes = stream::unfold((), |()| async {
        sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    });
    Response::new(Body::from_stream(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_responds_with_a_byte_a_second_delays_no_other_and_gets_everything() -> Result<()> {
    if needs_own_servers("a_server_that_answers_a_byte_a_second") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let authority = Authority::new(folder.path())?;
    let one = Server::start(&authority, folder.path(), "one", "").await?;
    let two = Server::start(&authority, folder.path(), "two", "").await?;
    let alice = Client::register(&authority.http()?, &one.url, "alice").await?;
    let bob = Client::register(&authority.http()?, &two.url, "bob").await?;
    let options = json!({"preset": "public_chat", "room_version": "11"});
    let room = alice.create_room(options).await?;
    bob.join(&room, Some(&one.name)).await?;
    let slow = MaliciousServer::start(&authority, "slow").await?;
    Room::join(&slow, &one, &room, &slow.user("sam")).await?;

    slow.answers("/_matrix/federation/v1/send/", |_| a_byte_a_second());
    let sent = "/_matrix/federation/v1/send/";
    alice.say(&room, "first").await?;
    slow.until_asked(sent, |asked| asked.body.to_string().contains("first"))
        .await?;
    // The response is in progress until the sender ends it.
    for number in 0..20 {
        let text = format!("meanwhile {number}");
        alice.say(&room, &text).await?;
        let deadline = Instant::now() + TIMEOUT;
        while !bob.messages(&room).await?.contains(&text) {
            ensure!(Instant::now() < deadline, "{text} does not reach the other server");
            sleep(Duration::from_millis(20)).await;
        }
    }
    ensure!(slow.asked(sent).len() == 1, "one at a time to one server");

    slow.answers(sent, |_| json_reply(&json!({"pdus": {}})));
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let asked = slow.asked(sent);
        let bodies: String = asked.iter().map(|asked| asked.body.to_string()).collect();
        if bodies.matches("\"first\"").count() >= 2
            && (0..20).all(|number| bodies.contains(&format!("meanwhile {number}")))
        {
            break;
        }
        ensure!(Instant::now() < deadline, "the slow server does not get everything");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
