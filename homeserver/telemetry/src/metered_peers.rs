//! Measures requests to other servers for events that a room lacks. Each has a span. Must not record events.

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use tracing::{Instrument as _, Span};
use weft_dag::{RoomVersion, Verified};
use weft_room_api::{PeerError, Peers, StateIds};

use crate::{Metrics, calls::Calls};

/// See the module.
pub struct MeteredPeers<P> {
    peers: P,
    calls: Calls,
}

impl<P> MeteredPeers<P> {
    /// Measures the requests.
    pub fn new(peers: P, metrics: &Metrics) -> Self {
        Self {
            peers,
            calls: metrics.peers.clone(),
        }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        server: &ServerName,
        request: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        self.calls
            .measure(operation, request.instrument(span(operation, server)))
            .await
    }
}

fn span(operation: &'static str, server: &ServerName) -> Span {
    tracing::debug_span!("peer_request", operation, %server)
}

#[async_trait]
impl<P: Peers> Peers for MeteredPeers<P> {
    async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let request = self.peers.missing_events(room, version, from, earliest, latest, limit);
        self.measure("missing_events", from, request).await
    }

    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        self.measure("event", from, self.peers.event(version, from, id)).await
    }

    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        self.measure("events", from, self.peers.events(version, from, ids))
            .await
    }

    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        self.measure("state_ids", from, self.peers.state_ids(room, from, at))
            .await
    }

    async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let request = self.peers.backfill(room, version, from, before, limit);
        self.measure("backfill", from, request).await
    }
}
