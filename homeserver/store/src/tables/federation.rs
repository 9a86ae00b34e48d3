//! Tables of federation: outboxes, keys of others and our own, transactions that were answered. Tags 0x03xx.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedServerSigningKeyId, OwnedTransactionId};
use serde::{Deserialize, Serialize};

crate::tables! {
    OUTBOX: (OwnedServerName, u64) => OutboxRow, Server, Ground, 0x0301,
        "Destination, position: events that this server still has to be sent. Written with the event, deleted when acknowledged.";
    OUTBOX_STATE: (OwnedServerName,) => OutboxState, Global, Ground, 0x0302,
        "Each destination that we ever sent to: up to where it has acknowledged, and how sending fares.";
    REMOTE_KEYS: (OwnedServerName, OwnedServerSigningKeyId) => RemoteKeyRow, Server, Derived, 0x0303,
        "Signing keys of other servers, as they or a notary published them.";
    SIGNING_KEYS: (OwnedServerSigningKeyId,) => SigningKeyRow, Global, Ground, 0x0304,
        "Public halves of our own signing keys, old ones with their end, which are published for ever.";
    TRANSACTIONS_SEEN: (OwnedServerName, OwnedTransactionId) => SeenTransaction, Server, Ground, 0x0305,
        "What we answered to a server's transaction, so that its retry gets the same answer.";
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
    /// All rows up to this position are acknowledged.
    pub acknowledged: u64,
    /// Since when it fails, in milliseconds since 1970; None: it doesn't.
    #[serde(default)]
    pub failing_since: Option<u64>,
    /// Failures in a row.
    #[serde(default)]
    pub failures: u32,
    /// When to try again, in milliseconds since 1970.
    #[serde(default)]
    pub retry_at: u64,
}

/// A key of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteKeyRow {
    /// The public key, in unpadded base64.
    pub public_key: String,
    /// Until when it may be used, in milliseconds since 1970, for a key in use.
    #[serde(default)]
    pub valid_until: Option<u64>,
    /// Since when it is no longer used, in milliseconds since 1970, for an old key.
    #[serde(default)]
    pub expired_at: Option<u64>,
    /// When we fetched it, in milliseconds since 1970.
    pub fetched_at: u64,
}

/// The public half of a key of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeyRow {
    /// The public key, in unpadded base64.
    pub public_key: String,
    /// Since when it is no longer used, in milliseconds since 1970; None: it is in use.
    #[serde(default)]
    pub expired_at: Option<u64>,
}

/// A transaction that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTransaction {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The body of the answer (JSON).
    pub answer: String,
}

crate::json_value!(OutboxRow, OutboxState, RemoteKeyRow, SigningKeyRow, SeenTransaction);
