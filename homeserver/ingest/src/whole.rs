//! Test support: a room in memory, and the view of a server that has all of its events. Must not be built outside of
//! tests.

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId};
use serde_json::json;
use weft_dag::{ChainCover, EventSource as _, RoomVersion, StateMap, StateView, testing::World};
use weft_room_api::Unavailable;

use crate::graph::{Graph, Incoming, Known};

pub(crate) const ANNA: &str = "@anna:a.example";
pub(crate) const BELA: &str = "@bela:b.example";
pub(crate) const CARA: &str = "@cara:c.example";
/// One version of each kind: their redaction and state resolution rules differ.
pub(crate) const VERSIONS: [RoomVersionId; 3] = [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12];

/// The view of a server that has all events.
pub(crate) struct Whole {
    world: World,
    now: StateView,
}

impl Whole {
    pub(crate) fn new(world: World) -> Self {
        let now = world.current();
        Self { world, now }
    }
}

#[async_trait]
impl Graph for Whole {
    fn room_id(&self) -> &RoomId {
        &self.world.room_id
    }

    fn version(&self) -> &RoomVersion {
        &self.world.version
    }

    fn current(&self) -> &StateView {
        &self.now
    }

    fn extremities(&self) -> Vec<OwnedEventId> {
        self.world.head_list()
    }

    fn cover(&self) -> &ChainCover {
        &self.world.cover
    }

    async fn event(&self, id: &EventId) -> Result<Option<Known>, Unavailable> {
        Ok(self.world.events.event(id).map(|pdu| Known::new(pdu, 0)))
    }

    async fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, Unavailable> {
        Ok(Some(self.world.state_after(id).clone()))
    }

    async fn append(&mut self, _: Incoming) -> Result<(), Unavailable> {
        panic!("this view is read-only");
    }
}

/// Anna's room with Bela and Cara as members, all of whom may edit.
pub(crate) fn room(version: &RoomVersionId) -> World {
    World::public(version, ANNA, &[(BELA, 25), (CARA, 25)])
}

/// Sends a membership event after these events, and returns the new extremity.
pub(crate) fn membership(
    world: &mut World,
    after: &[OwnedEventId],
    sender: &str,
    target: &str,
    membership: &str,
) -> Vec<OwnedEventId> {
    let content = json!({ "membership": membership });
    let event = world.send_after(after, sender, "m.room.member", Some(target), content);
    vec![event.event_id().to_owned()]
}
