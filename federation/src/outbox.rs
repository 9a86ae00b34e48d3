//! What is still to be sent to other servers: a durable queue each, emptied in order, one transaction at a time.
//!
//! The rows are written by the commit of the event itself; this module reads them, sends them and acknowledges them.
//! [`queue`] decides and does nothing; [`sender`] does and decides nothing. Must not drop a row that was not
//! delivered, however long the other server is away.

mod edus;
pub mod queue;
mod sender;

use async_trait::async_trait;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;

pub use edus::{Edu, EduQueue};
pub use sender::{Sender, SenderConfig, Transport};

/// One event for one server.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its place in the stream of this server; rows go out in this order.
    pub position: u64,
    /// The event.
    pub event_id: OwnedEventId,
    /// In the federation's format.
    pub pdu: Box<RawValue>,
}

/// How sending to a server that fails fares: kept over a restart, so that a start doesn't call everybody who is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// When it began to fail.
    pub failing_since: MilliSecondsSinceUnixEpoch,
    /// Not tried again before.
    pub until: MilliSecondsSinceUnixEpoch,
}

/// The outbox couldn't be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the outbox can't be used: {0}")]
pub struct OutboxError(pub String);

/// The durable rows, as the program's tables keep them.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// The first rows after a position, at most `limit`, in order.
    async fn pending(&self, server: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError>;
    /// Forgets the rows up to a position: they were delivered.
    async fn acknowledge(&self, server: &ServerName, through: u64) -> Result<(), OutboxError>;
    /// Servers for which there are rows.
    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError>;
    /// Whether the server has anybody in the room at this moment.
    async fn is_in(&self, server: &ServerName, room: &RoomId) -> bool;
    /// The retry state that was saved last; None where sending did not fail.
    async fn load_retry(&self, server: &ServerName) -> Result<Option<Retry>, OutboxError>;
    /// Keeps the retry state.
    async fn save_retry(&self, server: &ServerName, retry: Option<Retry>) -> Result<(), OutboxError>;
}
