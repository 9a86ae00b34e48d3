//! Tables of federation: outboxes and the keys of others. Tags 0x03xx.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use serde::{Deserialize, Serialize};

crate::tables! {
    OUTBOX: (OwnedServerName, u64) => OutboxRow, Server, Ground, 0x0301,
        "Destination, position: events that this server still has to be sent. Written with the event, deleted when acknowledged.";
    OUTBOX_STATE: (OwnedServerName,) => OutboxState, Global, Ground, 0x0302,
        "How sending to a destination that fails fares; no row where it doesn't fail.";
    REMOTE_KEYS: (OwnedServerName,) => Bytes, Server, Derived, 0x0303,
        "Signing keys of another server and the answer in which it published them, as `weft_federation` writes it (JSON).";
    OUTBOX_SERVERS: (OwnedServerName,) => (), Global, Ground, 0x0306,
        "Every destination that an outbox row was ever written for, so that the outboxes can be found after a restart.";
}

/// An event that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its room.
    pub room: OwnedRoomId,
    /// The event.
    pub event: OwnedEventId,
}

/// How a destination fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// When sending began to fail, in milliseconds since 1970. Rows of before this was kept say 0: long ago.
    #[serde(default)]
    pub failing_since: u64,
    /// When to try again, in milliseconds since 1970.
    pub retry_at: u64,
}

crate::json_value!(OutboxRow, OutboxState);
