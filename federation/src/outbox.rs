//! The outbox: a durable queue of events for each other server, sent in order, one transaction at a time.
//!
//! The rows are written by the commit of the event itself; this module reads, sends and acknowledges them. [`queue`]
//! decides and performs no actions; [`sender`] performs actions and decides nothing. Must not delete a row that was
//! not delivered, however long the other server is unreachable.

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
    /// Its number in the outbox. The events of a room are sent in this order; after the last number the order begins
    /// again.
    pub position: u64,
    /// The event.
    pub event_id: OwnedEventId,
    /// In federation format.
    pub pdu: Box<RawValue>,
}

/// The retry state of a failing server: stored across restarts, so that a restart doesn't send to every unreachable
/// server at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// When sending began to fail.
    pub failing_since: MilliSecondsSinceUnixEpoch,
    /// No attempt is made before this time.
    pub until: MilliSecondsSinceUnixEpoch,
}

/// The outbox can't be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the outbox can't be read or written: {0}")]
pub struct OutboxError(pub String);

/// The durable rows, as the tables of the homeserver store them.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// The rows after the last number that was delivered, at most `limit`, in order. Must not return a row while an
    /// earlier one of the same room may still be written.
    async fn pending(&self, server: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError>;
    /// Deletes these rows: they were delivered.
    async fn acknowledge(&self, server: &ServerName, rows: &[u64]) -> Result<(), OutboxError>;
    /// Servers that have rows.
    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError>;
    /// Whether the server has a joined user in the room now.
    async fn is_in(&self, server: &ServerName, room: &RoomId) -> bool;
    /// The retry state that was saved last; `None` if sending did not fail.
    async fn load_retry(&self, server: &ServerName) -> Result<Option<Retry>, OutboxError>;
    /// Saves the retry state.
    async fn save_retry(&self, server: &ServerName, retry: Option<Retry>) -> Result<(), OutboxError>;
}
