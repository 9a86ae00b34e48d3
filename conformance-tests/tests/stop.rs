//! A graceful stop does not wait for those who only wait for news.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use weft_conformance_tests::{given::cannot_be_put_to_given_servers, world::World};

/// The server would let a request of 5 seconds end, and these wait for a minute: that it ends them itself shows in
/// their answers, which an abandoned connection would not give.
#[tokio::test]
async fn waiting_syncs_are_answered_when_the_server_stops() -> Result<()> {
    if cannot_be_put_to_given_servers("waiting_syncs_are_answered_when_the_server_stops") {
        return Ok(());
    }
    let mut world = World::new(1).await?;
    let mut waiting = Vec::new();
    let mut tokens = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let client = world.user(0, name).await?;
        // Unseen, so that the token says of itself whether anything was new.
        let sync = "/_matrix/client/v3/sync?set_presence=offline";
        let first = client.get(sync).await?;
        let since = first["next_batch"].as_str().context("no next_batch")?.to_owned();
        let path = format!("{sync}&timeout=60000&since={since}");
        tokens.push(since);
        waiting.push(tokio::spawn(async move { client.get(&path).await }));
    }
    // Nobody outside can see whether a request is waiting already.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.servers[0].terminate().await?;
    for (waiting, since) in waiting.into_iter().zip(tokens) {
        assert_eq!(waiting.await??["next_batch"], since.as_str(), "nothing was new");
    }
    Ok(())
}
