//! Tables of read receipts. Tags 0x05xx. Must not use tags of other groups.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

crate::tables! {
    RECEIPTS: (OwnedRoomId, String, String, OwnedUserId) => ReceiptRow, Room, Ground, 0x0501,
        "Room, receipt type, thread (empty: none), user: the event up to which the user has read.";
    RECEIPT_STREAM: (OwnedRoomId, u64) => ReceiptChange, Room, Derived, 0x0502,
        "Room, position: the receipt that changed there; only the newest row of a receipt is kept.";
    RECEIPT_THREADS: (OwnedRoomId, OwnedUserId) => ReceiptThreads, Room, Derived, 0x0503,
        "Room, user: receipt types and threads of the user's threaded receipts, the oldest first, so that they can be bounded.";
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// The event up to which the user has read.
    pub event: OwnedEventId,
    /// The time, in milliseconds since 1970.
    pub at: u64,
    /// Position of the change.
    pub position: u64,
}

/// Identifies a changed receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptChange {
    /// Receipt type (m.read, m.read.private).
    pub kind: String,
    /// Thread, or empty.
    pub thread: String,
    /// The user.
    pub user: OwnedUserId,
}

/// Threaded receipts of a user: receipt type and thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptThreads(pub Vec<(String, String)>);

crate::json_value!(ReceiptRow, ReceiptChange, ReceiptThreads);
