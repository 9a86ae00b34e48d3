//! `GET /_weft/federation/v1/document/{roomId}`: the compacted document for a server that has just joined
//! (`spec/docs/federation.md`).
//!
//! It is a promise, not a proof: the receiver shows it at once and checks it against the signed events it backfills.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

/// Body of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSnapshot {
    /// The document.
    pub room_id: OwnedRoomId,
    /// The events whose ancestors, themselves included, the snapshot holds.
    pub at: Vec<OwnedEventId>,
    /// The compacted Yjs v1 update, unpadded standard base64.
    pub update: String,
}
