//! Another server in this process: it has one room, and serves the events that a test allows.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, ServerName, UserId};
use tokio::sync::watch;
use weft_dag::{RoomVersion, Verified, testing};
use weft_room_api::{JoinedRoom, PeerError, Peers, StateIds};

use super::world::World;

pub(crate) const BOB: &str = "@bob:beta.example";

/// The room of [`BOB`]'s server, and the events that the server serves.
pub(crate) struct Peer {
    room: Mutex<testing::World>,
    /// Events that it never serves.
    withheld: Mutex<BTreeSet<OwnedEventId>>,
    /// Whether it serves backfill. Earlier requests wait.
    serves_backfill: watch::Sender<bool>,
    /// Number of backfill requests.
    requests: watch::Sender<usize>,
}

fn refused<T>() -> Result<T, PeerError> {
    Err(PeerError::Unreachable {
        server: "beta.example".to_owned(),
        reason: "this test serves nothing".to_owned(),
    })
}

impl Peer {
    /// A room with the join rule `public`.
    pub(crate) fn new() -> Arc<Self> {
        let room = testing::World::public(&RoomVersionId::V11, BOB, &[]);
        Arc::new(Self {
            room: Mutex::new(room),
            withheld: Mutex::default(),
            serves_backfill: watch::Sender::new(false),
            requests: watch::Sender::new(0),
        })
    }

    pub(crate) fn id(&self) -> OwnedRoomId {
        self.room.lock().unwrap().room_id.clone()
    }

    /// A message by Bob.
    pub(crate) fn send_text(&self, text: &str) -> Verified {
        let mut room = self.room.lock().unwrap();
        let id = room.message(BOB, text).event_id().to_owned();
        room.verified(&id)
    }

    /// From now on this event is not served.
    pub(crate) fn withhold(&self, event: &EventId) {
        self.withheld.lock().unwrap().insert(event.to_owned());
    }

    /// From now on backfill is served.
    pub(crate) fn serve_backfill(&self) {
        self.serves_backfill.send_replace(true);
    }

    /// Waits for a backfill request.
    pub(crate) async fn until_requested(&self) {
        self.requests.subscribe().wait_for(|times| *times > 0).await.unwrap();
    }

    /// A user of the tested server joins through this one.
    pub(crate) async fn admit(&self, world: &World, user: &UserId) {
        let joined = {
            let mut room = self.room.lock().unwrap();
            let ids = Self::state_of(&room, &room.head_list());
            let event = room.member(user.as_str(), user.as_str(), "join");
            let all = |ids: &[OwnedEventId]| ids.iter().map(|id| room.verified(id)).collect();
            JoinedRoom {
                version: RoomVersionId::V11,
                state: all(&ids.state),
                auth_chain: all(&ids.auth_chain),
                event: room.verified(event.event_id()),
                resident: UserId::parse(BOB).unwrap().server_name().to_owned(),
                snapshot: None,
            }
        };
        world.server.rooms.adopt(joined).await.unwrap();
    }

    fn state_of(room: &testing::World, prev: &[OwnedEventId]) -> StateIds {
        let state: Vec<OwnedEventId> = room.view_before(prev).map().0.values().cloned().collect();
        let mut auth_chain = BTreeSet::new();
        let mut work = state.clone();
        while let Some(id) = work.pop() {
            for cited in room.pdu(&id).auth_events() {
                if auth_chain.insert(cited.clone()) {
                    work.push(cited.clone());
                }
            }
        }
        StateIds {
            state,
            auth_chain: auth_chain.into_iter().collect(),
        }
    }

    fn given(&self, ids: &[OwnedEventId]) -> Vec<Verified> {
        let (room, withheld) = (self.room.lock().unwrap(), self.withheld.lock().unwrap());
        let there = ids
            .iter()
            .filter(|id| room.order.contains(id) && !withheld.contains(*id));
        there.map(|id| room.verified(id)).collect()
    }
}

#[async_trait]
impl Peers for Peer {
    async fn missing_events(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        _: &ServerName,
        _: &[OwnedEventId],
        _: &[OwnedEventId],
        _: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        refused()
    }

    async fn event(&self, _: &RoomVersion, _: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        self.given(&[id.to_owned()]).pop().map_or_else(refused, Ok)
    }

    async fn events(&self, _: &RoomVersion, _: &ServerName, ids: &[OwnedEventId]) -> Result<Vec<Verified>, PeerError> {
        Ok(self.given(ids))
    }

    async fn state_ids(&self, _: &RoomId, _: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        let room = self.room.lock().unwrap();
        Ok(Self::state_of(&room, room.pdu(at).prev_events()))
    }

    async fn backfill(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        _: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        self.requests.send_modify(|times| *times += 1);
        let mut gives = self.serves_backfill.subscribe();
        gives.wait_for(|gives| *gives).await.unwrap();
        // The room has one branch.
        let mut past = self.room.lock().unwrap().order.clone();
        let last = past.iter().rposition(|id| before.contains(id));
        past.truncate(last.map_or(0, |last| last + 1));
        past.reverse();
        let mut events = self.given(&past);
        events.truncate(limit);
        Ok(events)
    }
}
