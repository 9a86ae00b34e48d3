//! Tables of documents: the journal, the compacted content, and who made which block. Tags 0x02xx.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::binary::{RowReader, RowWriter};
use crate::value::{Value, ValueError};

crate::tables! {
    JOURNAL: (OwnedRoomId, u64) => JournalRow, Room, Ground, 0x0201,
        "Room, number: edits that are acknowledged and not yet sealed into a signed event.";
    JOURNALED_ROOMS: (OwnedRoomId,) => (), Global, Ground, 0x0202,
        "Rooms whose journal may have rows: what must be sealed after a start.";
    SNAPSHOT: (OwnedRoomId,) => SnapshotRow, Room, Derived, 0x0203,
        "Where the compacted document is: the generation of its parts.";
    SNAPSHOT_TAIL: (OwnedRoomId, u64) => Bytes, Room, Derived, 0x0204,
        "Room, number: merged updates that came after the snapshot, folded into it now and then.";
    SNAPSHOT_PARTS: (OwnedRoomId, u64, u32) => Bytes, Room, Derived, 0x020A,
        "Room, generation, number: the compacted document in parts, so that no batch must hold all of it. Generations that SNAPSHOT doesn't name are left over.";
    CLAIMS: (OwnedRoomId, u64, u32) => ClaimRow, Room, Derived, 0x0205,
        "Room, client id, first clock: which event brought this range of the client's blocks. Decides equal claims, and tells who wrote what.";
    CLIENT_OWNERS: (OwnedRoomId, u64) => ClientOwner, Room, Derived, 0x0206,
        "Room, client id: the user who used it first, and the event that did.";
    VECTORS: (OwnedRoomId, u64) => VectorRow, Room, Derived, 0x0207,
        "Room, vector group: the state vector after an event, as a delta of bounded chain length.";
    EVENT_VECTOR: (OwnedRoomId, OwnedEventId) => u64, Room, Derived, 0x0208,
        "The vector group that is valid after an event.";
    CURRENT_VECTOR: (OwnedRoomId,) => u64, Room, Derived, 0x0209,
        "The vector group of all that is merged into the text from signed events.";
    DISPUTED_ROOMS: (OwnedRoomId,) => DisputeRow, Global, Derived, 0x0210,
        "Documents in which clocks are claimed twice: whether the text is still to be worked out again, and what our next event names.";
}

/// An acknowledged edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Who made it.
    pub author: OwnedUserId,
    /// The update (Yjs v1).
    pub update: Bytes,
}

impl Value for JournalRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(RowWriter::new(2).bytes(self.author.as_bytes())?.finish(&self.update))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = match bytes.first() {
            // With the connection that the edit came by, which means nothing after a restart.
            Some(1) => {
                let mut row = RowReader::new(bytes, 1)?;
                row.u64()?;
                row
            }
            _ => RowReader::new(bytes, 2)?,
        };
        let author = row.text()?;
        let author = OwnedUserId::try_from(author).map_err(|error| ValueError(error.to_string()))?;
        Ok(Self {
            author,
            update: row.rest(),
        })
    }
}

/// The compacted document: one update (Yjs v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRow {
    /// All of it, as it was written before there were parts.
    Whole(Bytes),
    /// In rows of [`SNAPSHOT_PARTS`].
    Parts {
        /// Their generation: another one with each snapshot.
        generation: u64,
        /// How many there are.
        parts: u32,
    },
}

impl Value for SnapshotRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        Ok(match self {
            Self::Whole(update) => RowWriter::new(1).u64(0).finish(update),
            Self::Parts { generation, parts } => RowWriter::new(2).u64(*generation).u32(*parts).finish(&[]),
        })
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        if bytes.first() == Some(&1) {
            let mut row = RowReader::new(bytes, 1)?;
            // A stream position that nobody read.
            row.u64()?;
            return Ok(Self::Whole(row.rest()));
        }
        let mut row = RowReader::new(bytes, 2)?;
        Ok(Self::Parts {
            generation: row.u64()?,
            parts: row.u32()?,
        })
    }
}

/// A range of a client's blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// Clock after the last block.
    pub to: u32,
    /// The event that brought it.
    pub event: OwnedEventId,
}

/// Whose a client id is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOwner {
    /// The user.
    pub user: OwnedUserId,
    /// The first event that used it.
    pub event: OwnedEventId,
}

/// A state vector, as what differs from a parent's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorRow {
    /// The group that this one changes; None: it is whole.
    pub parent: Option<u64>,
    /// How many parents there are up to a whole one.
    pub hops: u8,
    /// Client id and clock, for those that changed.
    pub clients: Vec<(u64, u32)>,
}

/// A document in which two events claim the same clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRow {
    /// Events came since the text was last worked out from all events, and may change what stands.
    pub due: bool,
    /// Updates that stand, have rivals, and are to be named by this server's next update or witness.
    pub to_name: Vec<OwnedEventId>,
}

crate::json_value!(ClaimRow, ClientOwner, VectorRow, DisputeRow);
