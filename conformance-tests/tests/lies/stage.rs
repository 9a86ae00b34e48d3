//! The fixture of these tests: an honest server, a malicious one, and rooms that both are in. Must not attack by
//! itself.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use reqwest::Method;
use ruma::RoomVersionId;
use serde_json::json;
use weft_conformance_tests::{
    client::{Client, segment},
    malicious::{MaliciousServer, Room},
    server::Server,
    world::World,
};

/// alice on an honest server, and a malicious server.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) malicious: MaliciousServer,
    pub(crate) alice: Client,
}

impl Stage {
    pub(crate) async fn new() -> Result<Self> {
        Self::with_config("").await
    }

    /// With additional lines in the server's configuration.
    pub(crate) async fn with_config(extra: &str) -> Result<Self> {
        let world = World::with_config(1, extra).await?;
        let malicious = MaliciousServer::start(&world.authority, "malicious").await?;
        let alice = world.user(0, "alice").await?;
        Ok(Self {
            world,
            malicious,
            alice,
        })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.world.servers[0]
    }

    /// A room of alice's, of this version, which the malicious server's mallory has joined.
    pub(crate) async fn room_of_alice(&self, version: &str) -> Result<(String, Room, String)> {
        let options = json!({ "preset": "public_chat", "room_version": version });
        let id = self.alice.create_room(options).await?;
        let mallory = self.malicious.user("mallory");
        let room = Room::join(&self.malicious, self.server(), &id, &mallory).await?;
        self.alice.until_membership(&id, &mallory, "join").await?;
        Ok((id, room, mallory))
    }

    /// A public room of mallory's, served by the malicious server.
    pub(crate) fn room_of_mallory(&self, version: &RoomVersionId) -> Result<(String, Arc<Mutex<Room>>, String)> {
        let mallory = self.malicious.user("mallory");
        let room = Room::create(&self.malicious, version, &mallory)?;
        let id = room.id.clone();
        Ok((id, self.malicious.host(room), mallory))
    }

    /// Whether alice's server returns the event.
    pub(crate) async fn has(&self, room: &str, event: &str) -> Result<bool> {
        let path = Client::in_room(room, &format!("event/{}", segment(event)));
        let to_alice = self.alice.request(Method::GET, &path, None).await?;
        let path = format!("/_matrix/federation/v1/event/{}", segment(event));
        let to_mallory = self.malicious.ask(self.server(), Method::GET, &path, None).await?;
        Ok(to_alice.status.is_success() || to_mallory.status.is_success())
    }

    /// Sends a valid message of mallory's and waits until alice receives it.
    pub(crate) async fn goes_on(&self, room: &mut Room, mallory: &str) -> Result<()> {
        let text = format!("the room goes on {}", room.order.len());
        let content = json!({ "msgtype": "m.text", "body": text });
        room.send(&self.malicious, mallory, "m.room.message", None, content)?;
        let event = room.events[room.order.last().unwrap()].clone();
        let answer = self.malicious.transaction(self.server(), &[event], &[]).await?.ok()?;
        assert!(
            answer["pdus"]
                .as_object()
                .unwrap()
                .values()
                .all(|result| result == &json!({})),
            "{answer}"
        );
        self.until_said(&room.id.clone(), &text).await
    }

    /// Waits until alice receives this message.
    pub(crate) async fn until_said(&self, room: &str, text: &str) -> Result<()> {
        self.alice
            .until(text, || async {
                Ok(self
                    .alice
                    .messages(room)
                    .await?
                    .iter()
                    .any(|body| body == text)
                    .then_some(()))
            })
            .await
    }
}
