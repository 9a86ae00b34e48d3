//! Another server that has one room of signed events ([`World`]) and serves those that the test allows. Must not take part in
//! the room.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName, UserId};
use tokio::sync::watch;
use weft_dag::{RoomVersion, Verified, testing::World};
use weft_room_api::{JoinedRoom, PeerError, Peers, StateIds};

/// See the module.
pub struct WorldPeers {
    world: Mutex<World>,
    /// Events that it never serves.
    withheld: Mutex<BTreeSet<OwnedEventId>>,
    /// Whether it serves backfill. Earlier requests wait.
    serves_backfill: watch::Sender<bool>,
    /// Number of backfill requests.
    requests: watch::Sender<usize>,
}

/// The state before an event that follows these, and its auth chain.
fn state_before(world: &World, prev_events: &[OwnedEventId]) -> StateIds {
    let state: Vec<OwnedEventId> = world.view_before(prev_events).map().0.values().cloned().collect();
    let mut auth_chain = BTreeSet::new();
    let mut work = state.clone();
    while let Some(id) = work.pop() {
        for cited in world.pdu(&id).auth_events() {
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

/// What a server receives that joins by this event through the resident server, without a text.
///
/// # Panics
/// If it is not an event of the world.
#[must_use]
pub fn joined_world(world: &World, join: &EventId, resident: &ServerName) -> JoinedRoom {
    let ids = state_before(world, world.pdu(join).prev_events());
    let all = |ids: &[OwnedEventId]| ids.iter().map(|id| world.verified(id)).collect();
    JoinedRoom {
        version: world.version.id().clone(),
        state: all(&ids.state),
        auth_chain: all(&ids.auth_chain),
        event: world.verified(join),
        resident: resident.to_owned(),
        snapshot: None,
    }
}

#[allow(clippy::missing_panics_doc, reason = "no lock is poisoned")]
impl WorldPeers {
    /// Serves all events of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            world: Mutex::new(world),
            withheld: Mutex::default(),
            serves_backfill: watch::Sender::new(true),
            requests: watch::Sender::new(0),
        }
    }

    /// The room.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// From now on this event is not served.
    pub fn withhold(&self, event: &EventId) {
        self.withheld.lock().unwrap().insert(event.to_owned());
    }

    /// Whether backfill is served. Requests wait until it is.
    pub fn serve_backfill(&self, serves: bool) {
        self.serves_backfill.send_replace(serves);
    }

    /// Waits for a backfill request.
    pub async fn until_requested(&self) {
        let mut requests = self.requests.subscribe();
        requests.wait_for(|times| *times > 0).await.unwrap();
    }

    /// A user joins, through the server of the room's creator.
    pub fn admit(&self, user: &UserId) -> JoinedRoom {
        let mut world = self.world();
        let resident = world.pdu(&world.order[0]).sender().server_name().to_owned();
        let join = world.member(user.as_str(), user.as_str(), "join");
        joined_world(&world, join.event_id(), &resident)
    }

    fn serve(&self, id: &EventId) -> Option<Verified> {
        let world = self.world();
        let is_served = world.events.0.contains_key(id) && !self.withheld.lock().unwrap().contains(id);
        is_served.then(|| world.verified(id))
    }
}

fn refused<T>(server: &ServerName) -> Result<T, PeerError> {
    Err(crate::peers::refused(server))
}

#[async_trait]
impl Peers for WorldPeers {
    async fn missing_events(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        from: &ServerName,
        _: &[OwnedEventId],
        _: &[OwnedEventId],
        _: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        refused(from)
    }

    async fn event(&self, _: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        self.serve(id).map_or_else(|| refused(from), Ok)
    }

    async fn events(&self, _: &RoomVersion, _: &ServerName, ids: &[OwnedEventId]) -> Result<Vec<Verified>, PeerError> {
        Ok(ids.iter().filter_map(|id| self.serve(id)).collect())
    }

    async fn state_ids(&self, _: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        if self.serve(at).is_none() {
            return refused(from);
        }
        let world = self.world();
        Ok(state_before(&world, world.pdu(at).prev_events()))
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
        let mut serves = self.serves_backfill.subscribe();
        serves.wait_for(|serves| *serves).await.unwrap();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        let mut work: Vec<OwnedEventId> = before.to_vec();
        while let Some(id) = work.pop().filter(|_| found.len() < limit) {
            if let Some(event) = self.serve(&id).filter(|_| seen.insert(id)) {
                work.extend(event.pdu().prev_events().to_vec());
                found.push(event);
            }
        }
        Ok(found)
    }
}
