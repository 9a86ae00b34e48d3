//! Events that users of this server send: messages, state, redactions, their own membership.

use std::sync::Arc;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId, RoomId, RoomVersionId};
use serde_json::{Map, Value};
use weft_dag::Pdu;

use crate::{Rooms, Unavailable};

/// An event to send.
#[derive(Debug, Clone)]
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

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The room is unknown here.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// Against the room's rules.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// The event to redact is not known in this room.
    #[error("event {0} is not known in this room")]
    UnknownEvent(OwnedEventId),
    /// The content can't be part of an event: floats, or integers out of range.
    #[error("content can't be canonical JSON: {reason}")]
    BadContent {
        /// What is wrong.
        reason: String,
    },
    /// Over 65,536 bytes, or a field over 255.
    #[error("the event is too large: {reason}")]
    TooLarge {
        /// Which limit.
        reason: String,
    },
    /// An update of the text that is not admissible.
    #[error("the update is not admissible: {reason}")]
    Inadmissible {
        /// The rule.
        reason: String,
    },
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An event that is signed and allowed but not in the room yet: an invitation for another server to sign.
#[derive(Debug, Clone)]
pub struct Drafted {
    /// The room's version.
    pub version: RoomVersionId,
    /// The signed event.
    pub event: Arc<Pdu>,
    /// Stripped state for the invited user.
    pub stripped: Vec<Value>,
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// Sends an event; returns when it is on disk.
    ///
    /// # Errors
    /// When the room's rules forbid it, or it can't be built.
    pub async fn send(&self, _room: &RoomId, _event: NewEvent) -> Result<OwnedEventId, SendError> {
        unimplemented!()
    }

    /// Builds, signs and authorises an event without putting it into the room. Used to invite a user of another server:
    /// that server signs the event too, and it then comes back by [`Rooms::accept_membership`].
    ///
    /// # Errors
    /// As [`Rooms::send`].
    pub async fn draft(&self, _room: &RoomId, _event: NewEvent) -> Result<Drafted, SendError> {
        unimplemented!()
    }
}
