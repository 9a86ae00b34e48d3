//! Either server gets a new signing key: what the old ones signed counts also for those who never saw them, and what the
//! new one signs is taken by those who knew the old.

use anyhow::{Context as _, Result};
use serde_json::json;
use weft_conformance_tests::client::Client;

use crate::pair::{Pair, talk, try_join, until_messages};

impl Pair {
    /// Both are stopped, get a new key, and are started again.
    async fn rotate_keys(&mut self) -> Result<()> {
        let server = self.world.servers.first_mut().context("no server")?;
        server.terminate().await?;
        server.command(&["keys", "rotate"])?;
        server.boot().await?;
        self.synapse.rotate_key().await
    }
}

async fn says(client: &Client, room: &str, text: &str, said: &mut Vec<String>) -> Result<()> {
    client.say(room, text).await?;
    said.push(text.to_owned());
    Ok(())
}

#[tokio::test]
async fn old_keys_still_count_and_new_ones_are_taken() -> Result<()> {
    let mut pair = Pair::new().await?;
    let (alice, bob) = (pair.ours.one.clone(), pair.theirs.one.clone());
    let (hers, his) = (
        alice.create_room(json!({"preset": "public_chat"})).await?,
        bob.create_room(json!({"preset": "public_chat"})).await?,
    );
    let (mut in_hers, mut in_his) = (Vec::new(), Vec::new());
    says(&alice, &hers, "by the first key", &mut in_hers).await?;
    says(&bob, &his, "by the first key", &mut in_his).await?;

    // They have not met yet: nobody remembers the first keys.
    pair.rotate_keys().await?;
    says(&alice, &hers, "by the second key", &mut in_hers).await?;
    says(&bob, &his, "by the second key", &mut in_his).await?;
    try_join(&bob, &hers, &pair.ours.server).await?.ok()?;
    try_join(&alice, &his, &pair.theirs.server).await?.ok()?;
    until_messages(&bob, &hers, &in_hers).await?;
    until_messages(&alice, &his, &in_his).await?;
    talk(&alice, &bob, &hers).await?;
    talk(&bob, &alice, &his).await?;

    // And now they remember the second ones.
    pair.rotate_keys().await?;
    says(&alice, &his, "by our third key", &mut in_his).await?;
    says(&bob, &hers, "by their third key", &mut in_hers).await?;
    until_messages(&bob, &his, &in_his).await?;
    until_messages(&alice, &hers, &in_hers).await?;

    // Who comes only now needs every key of both.
    let third = pair.world.add_server("").await?;
    let carol = pair.world.user(third, "carol").await?;
    for (room, via, said) in [
        (&hers, &pair.ours.server, &in_hers),
        (&his, &pair.theirs.server, &in_his),
    ] {
        try_join(&carol, room, via).await?.ok()?;
        until_messages(&carol, room, said).await?;
    }
    Ok(())
}
