//! `GET /_weft/federation/v1/document/{roomId}`: the compacted document for a server that has just joined
//! (`spec/docs/federation.md`).
//!
//! A snapshot is unverified: the receiver shows it at once and compares it with the signed events that it backfills.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

/// Body of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentSnapshot {
    /// The document.
    pub room_id: OwnedRoomId,
    /// The snapshot contains these events and their ancestors.
    pub at: Vec<OwnedEventId>,
    /// The compacted Yjs v1 update, unpadded standard base64.
    pub update: String,
}
