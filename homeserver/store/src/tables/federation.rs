//! Tables of federation: outboxes and the keys of other servers. Tags 0x03xx. Must not use tags of other groups.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde::{Deserialize, Serialize};

crate::tables! {
    OUTBOX: (OwnedServerName, u64) => OutboxRow, Server, Ground, 0x0301,
        "Destination, position: events to be sent to this server. Written with the event, deleted when acknowledged.";
    OUTBOX_STATE: (OwnedServerName,) => OutboxState, Global, Ground, 0x0302,
        "The retry state of a failing destination; no row if it does not fail.";
    REMOTE_KEYS: (OwnedServerName,) => Bytes, Server, Derived, 0x0303,
        "Signing keys of another server and the response in which it published them, as `weft_federation` encodes it (JSON).";
    OUTBOX_SERVERS: (OwnedServerName,) => (), Global, Ground, 0x0306,
        "Every destination that ever had an outbox row, so that the outboxes can be found after a restart.";
}

/// An event to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its room.
    pub room: OwnedRoomId,
    /// The event.
    pub event: OwnedEventId,
}

/// The retry state of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// When sending started to fail, in milliseconds since 1970. Older rows have 0: long ago.
    #[serde(default)]
    pub failing_since: u64,
    /// When to retry, in milliseconds since 1970.
    pub retry_at: u64,
}

crate::json_value!(OutboxRow, OutboxState);
