//! Requests of the rooms to other servers, made by federation and measured. Must not choose the server: the room does.

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{RoomVersion, Verified};
use weft_federation::{EventsError, RemoteEvents};
use weft_room_api::{PeerError, Peers, StateIds};
use weft_telemetry::PeerCalls;

/// Implements the rooms' port with federation.
pub(crate) struct FederationPeers {
    pub(crate) events: RemoteEvents,
    pub(crate) calls: PeerCalls,
}

impl FederationPeers {
    async fn call<T>(
        &self,
        operation: &'static str,
        server: &ServerName,
        request: impl Future<Output = Result<T, EventsError>>,
    ) -> Result<T, PeerError> {
        let answer = self.calls.measure(operation, server, request).await;
        answer.map_err(|error| failed(server, &error))
    }
}

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
        let request = self.events.missing_events(room, version, from, earliest, latest, limit);
        self.call("missing_events", from, request).await
    }

    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        self.call("event", from, self.events.event(version, from, id)).await
    }

    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        self.call("events", from, self.events.events(version, from, ids)).await
    }

    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        let ids = self
            .call("state_ids", from, self.events.state_ids(room, from, at))
            .await?;
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
        let request = self.events.backfill(room, version, from, before, limit);
        self.call("backfill", from, request).await
    }
}

fn failed(from: &ServerName, error: &EventsError) -> PeerError {
    let (server, reason) = (from.to_string(), error.to_string());
    match error {
        EventsError::Call(error) if error.unreachable().is_some() => PeerError::Unreachable { server, reason },
        _ => PeerError::Refused { server, reason },
    }
}
