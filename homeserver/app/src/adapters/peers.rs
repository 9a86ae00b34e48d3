//! Requests of the rooms to other servers, made by federation. Must not choose the server: the room does.

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{RoomVersion, Verified};
use weft_federation::{EventsError, RemoteEvents};
use weft_room_api::{PeerError, Peers, StateIds};

/// Implements the rooms' port with federation.
pub(crate) struct FederationPeers(pub(crate) RemoteEvents);

#[async_trait]
impl Peers for FederationPeers {
    async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        self.0
            .missing_events(room, version, from, earliest, latest, limit)
            .await
            .map_err(|error| failed(from, &error))
    }

    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        self.0
            .event(version, from, id)
            .await
            .map_err(|error| failed(from, &error))
    }

    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        self.0
            .events(version, from, ids)
            .await
            .map_err(|error| failed(from, &error))
    }

    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        let ids = self
            .0
            .state_ids(room, from, at)
            .await
            .map_err(|error| failed(from, &error))?;
        Ok(StateIds {
            state: ids.state,
            auth_chain: ids.auth_chain,
        })
    }

    async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        self.0
            .backfill(room, version, from, before, limit)
            .await
            .map_err(|error| failed(from, &error))
    }
}

fn failed(from: &ServerName, error: &EventsError) -> PeerError {
    let (server, reason) = (from.to_string(), error.to_string());
    match error {
        EventsError::Call(error) if error.unreachable().is_some() => PeerError::Unreachable { server, reason },
        _ => PeerError::Refused { server, reason },
    }
}
