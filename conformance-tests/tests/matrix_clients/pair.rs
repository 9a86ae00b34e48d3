//! The fixture of each walk: two servers, a stock client on each, and a room that both are in. Must not make
//! assumptions about one of the clients.

use anyhow::Result;
use serde_json::json;
use weft_conformance_tests::{
    client::Client,
    matrix::{Kind, Stock, text},
    world::World,
};

/// The host is on the first server, the guest on the second.
pub(crate) struct Pair {
    pub(crate) world: World,
    /// The accounts of host and guest, each with the device of its registration.
    pub(crate) owners: [Client; 2],
    pub(crate) host: Stock,
    pub(crate) guest: Stock,
}

impl Pair {
    pub(crate) async fn new(host: Kind, guest: Kind) -> Result<Self> {
        let world = World::new(2).await?;
        let (hers, his) = (world.user(0, "hanna").await?, world.user(1, "gustav").await?);
        let few = json!({"limit": 5});
        let (host, guest) = tokio::try_join!(
            Stock::start(&world.authority, host, &hers, few.clone()),
            Stock::start(&world.authority, guest, &his, few)
        )?;
        Ok(Self {
            world,
            owners: [hers, his],
            host,
            guest,
        })
    }

    /// The host creates a room and invites the guest, who joins when the invitation arrives.
    pub(crate) async fn room(&self) -> Result<String> {
        let options = json!({"name": "A room", "topic": "To talk", "invite": [self.guest.user]});
        let room = text(
            &self.host.ask("create_room", json!({"options": options})).await?,
            "room_id",
        )?;
        self.enter(&room).await?;
        Ok(room)
    }

    /// The guest accepts an invitation that has been sent.
    pub(crate) async fn enter(&self, room: &str) -> Result<()> {
        self.guest.until_membership(room, "invite").await?;
        self.guest.ask("join", json!({"room": room})).await?;
        self.guest.until_membership(room, "join").await?;
        let joined = json!({"type": "m.room.member", "state_key": self.guest.user, "room_id": room,
            "content": {"membership": "join"}});
        self.host.until_seen(joined).await.map(drop)
    }
}
