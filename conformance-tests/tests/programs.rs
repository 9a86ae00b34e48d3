//! What a script does with a document, over HTTPS with real servers and render workers: it writes, reads the rendered
//! content here and on another server, and goes on when a render worker dies.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weft_conformance_tests::{client::Client, world::World};

/// "a" in the text `body`, by client 1.
const LETTER: &[u8] = &[1, 1, 1, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];

async fn rendered(client: &Client, room: &str, query: &str) -> Result<(StatusCode, String)> {
    let answer = client.of_document(Method::GET, room, query, &[], Vec::new()).await?;
    Ok((answer.status(), answer.text().await?))
}

/// The ETag and the text hash, once the text is "a".
async fn text_and_tag(client: &Client, room: &str) -> Result<Option<(String, String)>> {
    let answer = client
        .of_document(Method::GET, room, "?format=text", &[], Vec::new())
        .await?;
    let tag = answer.headers()["etag"].to_str()?.to_owned();
    let hash = answer.headers()["weft-text-hash"].to_str()?.to_owned();
    Ok((answer.text().await? == "a").then_some((tag, hash)))
}

#[tokio::test]
async fn a_document_is_written_and_read_in_all_formats_on_two_servers() -> Result<()> {
    let world = World::new(2).await?;
    let (alice, bob, room) = world.shared_document().await?;
    let empty = rendered(&alice, &room, "?format=text").await?;
    assert_eq!(empty, (StatusCode::OK, String::new()));

    let sent = alice
        .of_document(Method::POST, &room, "/updates", &[], LETTER.to_vec())
        .await?;
    assert_eq!(sent.status(), StatusCode::OK);
    for (format, kind, content) in [
        ("text", "text/plain; charset=utf-8", "a"),
        ("markdown", "text/markdown; charset=utf-8", "a"),
        (
            "json",
            "application/json",
            r#"{"delta":[{"insert":"a"}],"kind":"text"}"#,
        ),
    ] {
        let answer = alice
            .of_document(Method::GET, &room, &format!("?format={format}"), &[], Vec::new())
            .await?;
        assert_eq!(answer.headers()["content-type"], kind);
        assert_eq!(
            answer.headers()["content-security-policy"],
            "sandbox; default-src 'none'"
        );
        assert_eq!(answer.text().await?, content);
    }
    let (status, html) = rendered(&alice, &room, "?format=html").await?;
    assert!(status.is_success() && html.contains('a'), "{html}");

    let there = bob
        .until("the text on the other server", || text_and_tag(&bob, &room))
        .await?;
    let known = [("if-none-match", there.0.as_str())];
    let here = alice.of_document(Method::GET, &room, "?format=text", &known, Vec::new());
    assert_eq!(
        here.await?.status(),
        StatusCode::NOT_MODIFIED,
        "both servers have the same text"
    );
    let here = alice
        .of_document(Method::GET, &room, "?format=json", &[], Vec::new())
        .await?;
    assert_eq!(
        here.headers()["weft-text-hash"],
        there.1,
        "the hash is of the text, whatever the format"
    );
    Ok(())
}

#[tokio::test]
async fn the_content_at_an_event_stays_as_it_was() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Minutes").await?;
    let before = alice.say(&room, "nothing is written yet").await?;
    let sent = alice
        .of_document(Method::POST, &room, "/updates", &[], LETTER.to_vec())
        .await?;
    assert_eq!(sent.status(), StatusCode::OK);
    // A message seals the edits before it.
    let after = alice.say(&room, "now there is a letter").await?;
    for (event, content) in [(&before, ""), (&after, "a")] {
        let at = format!("?format=text&at={}", weft_conformance_tests::client::segment(event));
        assert_eq!(
            rendered(&alice, &room, &at).await?,
            (StatusCode::OK, content.to_owned())
        );
    }
    for (query, errcode) in [
        ("?format=pdf", "M_INVALID_PARAM"),
        ("?at=$x", "M_MISSING_PARAM"),
        ("?format=text&at=yesterday", "M_INVALID_PARAM"),
    ] {
        let (status, body) = rendered(&alice, &room, query).await?;
        let body: Value = serde_json::from_str(&body)?;
        assert_eq!(
            (status, &body["errcode"]),
            (StatusCode::BAD_REQUEST, &json!(errcode)),
            "{query}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_render_worker_is_replaced() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Text").await?;
    let sent = alice
        .of_document(Method::POST, &room, "/updates", &[], LETTER.to_vec())
        .await?;
    assert_eq!(sent.status(), StatusCode::OK);
    let server = world.servers[0].pid().context("no process")?;
    for _ in 0..3 {
        assert_eq!(
            rendered(&alice, &room, "?format=text").await?,
            (StatusCode::OK, "a".to_owned())
        );
        let workers = children(server)?;
        assert!(
            !workers.is_empty(),
            "the worker of the last request is kept for the next one"
        );
        for worker in workers {
            kill(worker)?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The child processes of a process.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task"))? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for child in children.split_whitespace() {
            found.push(child.parse()?);
        }
    }
    Ok(found)
}

fn kill(process: u32) -> Result<()> {
    let status = std::process::Command::new("kill")
        .args(["-9", &process.to_string()])
        .status()?;
    anyhow::ensure!(status.success(), "kill -9 {process} failed");
    Ok(())
}

#[tokio::test]
async fn render_workers_end_with_a_killed_server() -> Result<()> {
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Killed").await?;
    let (status, _) = rendered(&alice, &room, "?format=text").await?;
    assert_eq!(status, StatusCode::OK);
    let server = world.servers.first_mut().context("no server")?;
    let workers = children(server.pid().context("no process")?)?;
    assert_eq!(workers.len(), 1);
    // Killed, so that it can't end them itself: their input ends.
    server.kill();
    while workers.iter().any(|worker| is_running(*worker)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A further thread could begin when the sandbox is closed already, and its first system call would end the worker.
#[tokio::test]
async fn a_render_worker_has_no_other_thread_than_its_own_two() -> Result<()> {
    let world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Threads").await?;
    let (status, _) = rendered(&alice, &room, "?format=text").await?;
    assert_eq!(status, StatusCode::OK);
    for worker in children(world.servers[0].pid().context("no process")?)? {
        let threads = fs::read_dir(format!("/proc/{worker}/task"))?.count();
        assert_eq!(threads, 2, "the one that waits, and the one that renders");
    }
    Ok(())
}

/// Whether a process has not ended; a zombie has no command line.
fn is_running(process: u32) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
}
