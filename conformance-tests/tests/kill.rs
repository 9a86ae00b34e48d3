//! kill -9 at the moment in which an edit counts as saved: no edit is lost, duplicated, or acknowledged before it is
//! durable. A graceful stop seals. Must not use a mock of the store.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::path::Path;

use anyhow::Result;
use rand::RngExt as _;
use weft_conformance_tests::{
    client::Client,
    editors::{Editor, Provider},
    external::needs_own_servers,
    world::World,
};

/// An editor, and the way to see that an edit is durable: Hocuspocus counts unsynced changes; y-websocket 3 doesn't, so
/// there another editor must have received it.
struct Writer {
    editor: Editor,
    /// Another editor on the same server; with y-websocket only.
    watcher: Option<Editor>,
}

impl Writer {
    async fn open(world: &World, name: &str, provider: Provider, client: &Client, room: &str) -> Result<Self> {
        let editor = world.editors.open(name, provider, client, room).await?;
        editor.synced().await?;
        let watcher = if provider == Provider::Plain {
            let watcher = format!("{name}-watcher");
            let watcher = world.editors.open(&watcher, Provider::Plain, client, room).await?;
            watcher.synced().await?;
            Some(watcher)
        } else {
            editor.saved().await?;
            None
        };
        Ok(Self { editor, watcher })
    }

    async fn on_disk(&self, word: &str) -> Result<()> {
        match &self.watcher {
            Some(watcher) => watcher.until_contains(word).await,
            None => self.editor.saved().await,
        }
    }

    async fn close(self) -> Result<()> {
        self.editor.close().await?;
        match self.watcher {
            Some(watcher) => watcher.close().await,
            None => Ok(()),
        }
    }
}

/// Types words one after another; the server is killed at the moment in which the last one is acknowledged. After the
/// restart every acknowledged word is there once. With a shared socket two documents are written over it.
async fn twenty_kills(what: &str, provider: fn(u32) -> Provider) -> Result<()> {
    if needs_own_servers(what) {
        return Ok(());
    }
    let mut world = World::new(1).await?;
    let alice = world.user(0, "alice").await?;
    let mut rooms = vec![alice.create_document("Killed").await?];
    if matches!(provider(0), Provider::Shared(_)) {
        rooms.push(alice.create_document("Killed beside it").await?);
    }
    let mut acknowledged: Vec<(usize, String)> = Vec::new();
    for round in 0..20 {
        // New editors: the unacknowledged edits of the previous ones are lost with them, as with a closed browser.
        let mut writers = Vec::new();
        for (number, room) in rooms.iter().enumerate() {
            let name = format!("writer-{round}-{number}");
            writers.push(Writer::open(&world, &name, provider(round), &alice, room).await?);
        }
        let before_the_kill = rand::rng().random_range(1..8);
        for number in 0..before_the_kill {
            for (document, writer) in writers.iter().enumerate() {
                let word = format!("<{round}.{number}>");
                writer.editor.type_end(&word).await?;
                if number % 2 == 0 || number + 1 == before_the_kill {
                    writer.on_disk(&word).await?;
                    acknowledged.push((document, word));
                }
            }
        }
        world.servers[0].kill();
        for writer in writers {
            writer.close().await?;
        }
        world.servers[0].boot().await?;
        for (document, room) in rooms.iter().enumerate() {
            let text = read(&world, &format!("reader-{round}-{document}"), &alice, room).await?;
            for (_, word) in acknowledged.iter().filter(|(of, _)| *of == document) {
                assert_eq!(text.matches(word).count(), 1, "{word} after kill {round} in {text}");
            }
        }
    }
    Ok(())
}

/// The text in a newly opened editor.
async fn read(world: &World, name: &str, client: &Client, room: &str) -> Result<String> {
    let reader = world.editors.open(name, Provider::Plain, client, room).await?;
    reader.synced().await?;
    let text = reader.text().await?;
    reader.close().await?;
    Ok(text)
}

#[tokio::test]
async fn twenty_kills_lose_no_acknowledged_edit() -> Result<()> {
    twenty_kills("twenty_kills_lose_no_acknowledged_edit", |_| Provider::Hocuspocus).await
}

#[tokio::test]
async fn twenty_kills_lose_no_acknowledged_edit_over_a_shared_socket() -> Result<()> {
    let what = "twenty_kills_lose_no_acknowledged_edit_over_a_shared_socket";
    twenty_kills(what, Provider::Shared).await
}

#[tokio::test]
async fn twenty_kills_lose_no_edit_that_another_editor_received() -> Result<()> {
    twenty_kills("twenty_kills_lose_no_edit_that_another_editor_received", |_| {
        Provider::Plain
    })
    .await
}

/// The commit is held before its fsync: until it continues, the edit stays unacknowledged and no other editor receives
/// it. If the server is killed in that state, the edit is lost: so it must not have been acknowledged or shown.
#[tokio::test]
async fn an_edit_is_not_acknowledged_or_shown_before_its_fsync() -> Result<()> {
    if needs_own_servers("an_edit_is_not_acknowledged_or_shown_before_its_fsync") {
        return Ok(());
    }
    // Nothing is sealed meanwhile: the only commits are those of the edits.
    let mut world = World::with_config(1, "[documents]\nseal_idle = \"60s\"\nseal_max = \"60s\"\n").await?;
    let alice = world.user(0, "alice").await?;
    let room = alice.create_document("Held").await?;
    let folder = tempfile::tempdir()?;
    let (hold, held) = (folder.path().join("hold"), folder.path().join("hold.held"));
    world.servers[0].kill();
    let setting = format!("store::before_write:{}", hold.display());
    world.servers[0].boot_with(&[("WEFT_HOLD_AT", &setting)]).await?;
    let own = Writer::open(&world, "own", Provider::Hocuspocus, &alice, &room).await?;
    let shared = Writer::open(&world, "shared", Provider::Shared(1), &alice, &room).await?;
    let plain = Writer::open(&world, "plain", Provider::Plain, &alice, &room).await?;
    let writers = [("<own>", own), ("<shared>", shared), ("<plain>", plain)];
    for (word, writer) in &writers {
        std::fs::write(&hold, "")?;
        writer.editor.type_end(word).await?;
        until_there(&alice, &held).await?;
        is_not_acknowledged_or_shown(&alice, writer, word, &writers).await?;
        std::fs::remove_file(&hold)?;
        writer.on_disk(word).await?;
        for (_, other) in &writers {
            other.editor.until_contains(word).await?;
        }
        std::fs::remove_file(&held)?;
    }
    std::fs::write(&hold, "")?;
    for (_, writer) in &writers {
        writer.editor.type_end("<never>").await?;
    }
    until_there(&alice, &held).await?;
    world.servers[0].kill();
    for (_, writer) in writers {
        writer.close().await?;
    }
    world.servers[0].boot().await?;
    let text = read(&world, "reader", &alice, &room).await?;
    assert_eq!(text, "<own><shared><plain>");
    Ok(())
}

async fn until_there(client: &Client, file: &Path) -> Result<()> {
    let there = async || Ok(file.exists().then_some(()));
    client.until("a commit that is held", there).await
}

/// Checks during 20 requests to the server, whose responses show that it is running.
async fn is_not_acknowledged_or_shown(
    client: &Client,
    writer: &Writer,
    word: &str,
    all: &[(&str, Writer)],
) -> Result<()> {
    for _ in 0..20 {
        client.get("/_matrix/client/versions").await?;
        if writer.watcher.is_none() {
            assert!(
                writer.editor.state().await?["unsynced"].as_u64() > Some(0),
                "{word} counts as saved"
            );
        }
        let others = all
            .iter()
            .filter(|(other, _)| *other != word)
            .map(|(_, other)| &other.editor);
        for screen in others.chain(&writer.watcher) {
            assert!(
                !screen.text().await?.contains(word),
                "{word} is shown before it is durable"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_graceful_stop_seals_and_closes_sockets_with_a_code_for_reconnecting() -> Result<()> {
    if needs_own_servers("a_graceful_stop_seals_and_closes_sockets_with_a_code_for_reconnecting") {
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
