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

/// An event about the present text, such as a lock or an approval. The room adds `heads` and `state_hash` to its content:
/// only there, no edit comes in between.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventOfText {
    /// The event, without these fields.
    pub event: NewEvent,
    /// What must still be so.
    pub conditions: Vec<StateCondition>,
    /// The version that the document must have.
    pub version: Option<u64>,
    /// The state hash that the text must have, in unpadded URL-safe base64.
    pub state_hash: Option<String>,
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
