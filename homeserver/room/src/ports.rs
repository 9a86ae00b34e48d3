//! What the rooms need from outside, as traits that the program supplies.
//!
//! No trait here names a URL, a table or a socket.

use std::sync::Arc;

use async_trait::async_trait;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use weft_dag::{RoomVersion, Signer, Verified};

use crate::{Clock, Committed};

/// Who this server is. The signer is asked for at each signature, because keys rotate.
pub trait Identity: Send + Sync + 'static {
    /// The current signing key.
    fn signer(&self) -> Arc<Signer>;
    /// This server's name.
    fn server_name(&self) -> &ServerName;
}

/// Where committed changes go.
pub trait CommitSink: Send + Sync + 'static {
    /// Called once for each commit, in the room's order, after the batch is on disk. Must not block.
    fn committed(&self, change: Arc<Committed>);
}

/// Why another server could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It can't be reached now.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        server: String,
        /// What the transport said.
        reason: String,
    },
    /// It answered, and the answer is of no use.
    #[error("{server} gave an answer that can't be used: {reason}")]
    Refused {
        /// Who was asked.
        server: String,
        /// Error code, or what is wrong with the answer.
        reason: String,
    },
}

/// Ids of a room's state at an event, as another server tells it. Nothing of it is believed before each event is checked.
#[derive(Debug, Clone, Default)]
pub struct StateIds {
    /// The state before the event.
    pub state: Vec<OwnedEventId>,
    /// The auth chain of that state.
    pub auth_chain: Vec<OwnedEventId>,
}

/// Questions to other servers. Every event in an answer has had its signatures checked.
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
    /// Several events; those that the other server hasn't are left out.
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

/// Everything the rooms need from outside, less the store.
#[derive(Clone)]
pub struct Ports {
    /// Where changes go.
    pub sink: Arc<dyn CommitSink>,
    /// Other servers.
    pub peers: Arc<dyn Peers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}
