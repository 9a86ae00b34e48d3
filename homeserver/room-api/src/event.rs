//! Events that users of this server send. Must not decide what is allowed.

use std::sync::Arc;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedTransactionId, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weft_dag::Pdu;

use crate::event_forms::UnsentForm;

/// An event to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewEvent {
    /// A user of this server.
    pub sender: OwnedUserId,
    /// Event type.
    pub kind: String,
    /// State key; None for message events.
    pub state_key: Option<String>,
    /// Content.
    pub content: Map<String, Value>,
    /// The event that an `m.room.redaction` redacts.
    pub redacts: Option<OwnedEventId>,
    /// Device and transaction id: the same pair gives the same event id, also after a restart.
    pub txn: Option<(OwnedDeviceId, OwnedTransactionId)>,
    /// The event's time; now where absent.
    pub timestamp: Option<MilliSecondsSinceUnixEpoch>,
}

/// A state entry as a caller read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCondition {
    /// Event type.
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// The event; `None` if there is none.
    pub event: Option<OwnedEventId>,
}

/// An event that is signed and allowed but not persisted: an invitation that another server must sign.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "UnsentForm", try_from = "UnsentForm")]
pub struct UnsentEvent {
    /// The room's version.
    pub version: RoomVersionId,
    /// The signed event.
    pub event: Arc<Pdu>,
    /// Stripped state for the invited user.
    pub stripped: Vec<Value>,
}
