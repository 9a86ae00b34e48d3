//! The lines of an audit file: the signed log of a document, for `weft verify` and other verifiers (`spec/docs/audit.md`).
//!
//! Shapes only. Must not check signatures or rules: `weft-verify` does, and a server must not be trusted about them.

use std::collections::BTreeMap;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId, UInt};
use serde::{Deserialize, Serialize};

/// The version of the format, in the field `weft_audit` of the first line.
pub const AUDIT_FORMAT: u32 = 1;

/// The event type whose level in `m.room.power_levels` a user needs to export the log, as if they sent it as a state
/// event: `state_default` (50, a manager) unless the room names it. No such event is ever sent.
pub const AUDIT_RIGHT: &str = "dev.weft.audit";

/// Keys of servers, by server and key id (`ed25519:...`).
pub type AuditKeys = BTreeMap<OwnedServerName, BTreeMap<String, AuditKey>>;

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditKey {
    /// 32 bytes in unpadded standard base64.
    pub key: String,
    /// A current key: valid for events up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<MilliSecondsSinceUnixEpoch>,
    /// A key that its server no longer uses: valid for events up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<MilliSecondsSinceUnixEpoch>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeader {
    /// [`AUDIT_FORMAT`].
    pub weft_audit: u32,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub room_version: RoomVersionId,
    /// When the export began, by the clock of its server.
    pub exported_at: MilliSecondsSinceUnixEpoch,
    /// The server that exported it.
    pub server: OwnedServerName,
    /// Keys; more may follow in lines of their own.
    #[serde(default)]
    pub keys: AuditKeys,
    /// The event with which the export begins; absent if it is of the whole log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<OwnedEventId>,
}

/// Keys that the events after this line need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditKeysLine {
    /// The keys.
    pub keys: AuditKeys,
}

/// Events that the file does not have, and the state after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCut {
    /// The absent events.
    pub cut: Vec<OwnedEventId>,
    /// The state after them: events of earlier lines.
    pub state: Vec<OwnedEventId>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnd {
    /// The events that no event of the file references, sorted.
    pub heads: Vec<OwnedEventId>,
    /// The number of events, without those before a cut.
    pub events: UInt,
    /// The hash of the text at the heads, unpadded URL-safe base64; absent if the server can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// The hash of the rendered text; absent if the server did not render it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_hash: Option<String>,
}
