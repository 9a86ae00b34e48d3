//! Both servers get new signing keys: events signed with old keys are accepted by servers that never saw those keys,
//! and events with new keys by servers that knew the old ones. Must not disable verification.

use anyhow::{Context as _, Result};
use serde_json::json;
use weft_conformance_tests::client::Client;

use crate::pair::{Pair, talk, try_join, until_messages};

impl Pair {
    /// Stops both, replaces their keys, and starts them again.
    async fn rotate_keys(&mut self) -> Result<()> {
        let server = self.world.servers.first_mut().context("no server")?;
        server.terminate().await?;
        server.command(&["keys", "rotate"])?;
        server.boot().await?;
        self.synapse.rotate_key().await
    }
}

async fn sends(client: &Client, room: &str, text: &str, sent: &mut Vec<String>) -> Result<()> {
    client.say(room, text).await?;
    sent.push(text.to_owned());
    Ok(())
}

#[tokio::test]
async fn events_with_old_and_new_keys_are_accepted() -> Result<()> {
    let mut pair = Pair::new().await?;
    let (alice, bob) = (pair.ours.one.clone(), pair.theirs.one.clone());
    let (hers, his) = (
        alice.create_room(json!({"preset": "public_chat"})).await?,
        bob.create_room(json!({"preset": "public_chat"})).await?,
    );
    let (mut in_hers, mut in_his) = (Vec::new(), Vec::new());
    sends(&alice, &hers, "by the first key", &mut in_hers).await?;
    sends(&bob, &his, "by the first key", &mut in_his).await?;

    // The servers have had no contact yet: neither has cached the first keys.
    pair.rotate_keys().await?;
    sends(&alice, &hers, "by the second key", &mut in_hers).await?;
    sends(&bob, &his, "by the second key", &mut in_his).await?;
    try_join(&bob, &hers, &pair.ours.server).await?.ok()?;
    try_join(&alice, &his, &pair.theirs.server).await?.ok()?;
    until_messages(&bob, &hers, &in_hers).await?;
    until_messages(&alice, &his, &in_his).await?;
    talk(&alice, &bob, &hers).await?;
    talk(&bob, &alice, &his).await?;

    // Now both have cached the second keys.
    pair.rotate_keys().await?;
    sends(&alice, &his, "by our third key", &mut in_his).await?;
    sends(&bob, &hers, "by their third key", &mut in_hers).await?;
    until_messages(&bob, &his, &in_his).await?;
    until_messages(&alice, &hers, &in_hers).await?;

    // A user who joins only now needs every key of both.
    let third = pair.world.add_server("").await?;
    let carol = pair.world.user(third, "carol").await?;
    for (room, via, sent) in [
        (&hers, &pair.ours.server, &in_hers),
        (&his, &pair.theirs.server, &in_his),
    ] {
        try_join(&carol, room, via).await?.ok()?;
        until_messages(&carol, room, sent).await?;
    }
    Ok(())
}
