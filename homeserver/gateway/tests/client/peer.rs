//! Another server in this process: it has one room, and serves the events that a test allows.

use std::sync::Arc;

use ruma::{EventId, OwnedRoomId, RoomVersionId, UserId};
use weft_dag::{Verified, testing};
use weft_testkit::WorldPeers;

use super::world::World;

pub(crate) const BOB: &str = "@bob:beta.example";

/// The room of [`BOB`]'s server, which serves no history before [`Peer::serve_backfill`].
pub(crate) struct Peer(pub(crate) Arc<WorldPeers>);

impl Peer {
    /// A room with the join rule `public`.
    pub(crate) fn new() -> Self {
        let peers = WorldPeers::new(testing::World::public(&RoomVersionId::V11, BOB, &[]));
        peers.serve_backfill(false);
        Self(Arc::new(peers))
    }

    pub(crate) fn id(&self) -> OwnedRoomId {
        self.0.world().room_id.clone()
    }

    /// A message by Bob.
    pub(crate) fn send_text(&self, text: &str) -> Verified {
        let mut room = self.0.world();
        let id = room.message(BOB, text).event_id().to_owned();
        room.verified(&id)
    }

    /// From now on this event is not served.
    pub(crate) fn withhold(&self, event: &EventId) {
        self.0.withhold(event);
    }

    /// From now on backfill is served.
    pub(crate) fn serve_backfill(&self) {
        self.0.serve_backfill(true);
    }

    /// Waits for a backfill request.
    pub(crate) async fn until_requested(&self) {
        self.0.until_requested().await;
    }

    /// A user of the tested server joins through this one.
    pub(crate) async fn admit(&self, world: &World, user: &UserId) {
        world.server.rooms.adopt(self.0.admit(user)).await.unwrap();
    }
}
