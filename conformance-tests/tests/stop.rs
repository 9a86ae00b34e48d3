//! A graceful stop ends waiting syncs. Must not kill the server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use weft_conformance_tests::{external::needs_own_servers, world::World};

/// A request of 5 seconds would be allowed to end, and these wait for a minute: the server ends them itself, which
/// their responses show; an aborted connection would give none.
#[tokio::test]
async fn a_graceful_stop_answers_waiting_syncs() -> Result<()> {
    if needs_own_servers("a_graceful_stop_answers_waiting_syncs") {
        return Ok(());
    }
    let mut world = World::new(1).await?;
    let mut waiting = Vec::new();
    let mut tokens = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let client = world.user(0, name).await?;
        // Offline presence, so that the token alone shows whether anything was new.
        let sync = "/_matrix/client/v3/sync?set_presence=offline";
        let first = client.get(sync).await?;
        let since = first["next_batch"].as_str().context("no next_batch")?.to_owned();
        let path = format!("{sync}&timeout=60000&since={since}");
        tokens.push(since);
        waiting.push(tokio::spawn(async move { client.get(&path).await }));
    }
    // From outside it can't be observed whether a request is waiting already.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.servers[0].terminate().await?;
    for (waiting, since) in waiting.into_iter().zip(tokens) {
        assert_eq!(waiting.await??["next_batch"], since.as_str(), "nothing was new");
    }
    Ok(())
}
