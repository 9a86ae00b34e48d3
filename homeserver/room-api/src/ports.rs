//! Dependencies of the rooms, as traits that the program implements.
//!
//! No trait here may name a URL, a table or a socket.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{RoomVersion, Signer, Verified};

use crate::{ChangeBus, Clock};

/// The identity of this server. The signer is read for each signature, because keys rotate.
pub trait Identity: Send + Sync + 'static {
    /// The current signing key.
    fn signer(&self) -> Arc<Signer>;
    /// This server's name.
    fn server_name(&self) -> &ServerName;
}

/// Why a request to another server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It can't be reached now.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// The other server.
        server: String,
        /// The error of the transport.
        reason: String,
    },
    /// It answered, and the answer is invalid or an error.
    #[error("invalid response from {server}: {reason}")]
    Refused {
        /// The other server.
        server: String,
        /// The error code, or what is wrong with the response.
        reason: String,
    },
}

/// Ids of a room's state at an event, from another server (`/state_ids`). Unverified until each event is checked.
#[derive(Debug, Clone, Default)]
pub struct StateIds {
    /// The state before the event.
    pub state: Vec<OwnedEventId>,
    /// The auth chain of that state.
    pub auth_chain: Vec<OwnedEventId>,
}

/// Requests to other servers. The signatures of every returned event were checked.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Events between `earliest` and `latest`, at most `limit`.
    async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError>;
    /// One event.
    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError>;
    /// Several events; those that the other server does not have are left out.
    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError>;
    /// The state before an event.
    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError>;
    /// Events before the given ones, at most `limit`.
    async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError>;
}

/// All dependencies of the rooms except the store.
#[derive(Clone)]
pub struct Ports {
    /// Distributes committed changes.
    pub changes: Arc<dyn ChangeBus>,
    /// Other servers.
    pub peers: Arc<dyn Peers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
