//! What these tests begin with: an honest server, a lying one, and a room between them.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    client::Client,
    liar::{Liar, Room},
    server::Server,
    world::World,
};

/// alice on an honest server, and a server that lies.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) liar: Liar,
    pub(crate) alice: Client,
}

impl Stage {
    pub(crate) async fn new() -> Result<Self> {
        Self::with_config("").await
    }

    /// With lines appended to the server's configuration.
    pub(crate) async fn with_config(extra: &str) -> Result<Self> {
        let world = World::with_config(1, extra).await?;
        let liar = Liar::start(&world.authority, "liar").await?;
        let alice = world.user(0, "alice").await?;
        Ok(Self { world, liar, alice })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.world.servers[0]
    }

    /// A room of alice's, of this version, in which the liar's mallory is.
    pub(crate) async fn room_of_alice(&self, version: &str) -> Result<(String, Room, String)> {
        let options = json!({ "preset": "public_chat", "room_version": version });
        let id = self.alice.create_room(options).await?;
        let mallory = self.liar.user("mallory");
        let room = Room::join(&self.liar, self.server(), &id, &mallory).await?;
        self.alice.until_membership(&id, &mallory, "join").await?;
        Ok((id, room, mallory))
    }

    /// Waits until alice sees this message.
    pub(crate) async fn until_said(&self, room: &str, text: &str) -> Result<()> {
        self.alice
            .until(text, || async {
                Ok(self
                    .alice
                    .messages(room)
                    .await?
                    .iter()
                    .any(|said| said == text)
                    .then_some(()))
            })
            .await
    }
}
