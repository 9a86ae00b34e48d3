//! Tables of documents: the journal, the compacted content, and the author of each block. Tags 0x02xx. Must not use
//! tags of other groups.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

mod links;
mod versions;

pub use links::{GuestRow, LinkRow};
pub use versions::VersionRow;

use crate::binary::{RowReader, RowWriter};
use crate::lane::Lane;
use crate::value::{Value, ValueError};

crate::tables! {
    JOURNAL: (OwnedRoomId, u64) => JournalRow, Room, Ground, 0x0201,
        "Room, document version: edits that are acknowledged and not yet sealed into a signed event.";
    JOURNALED_ROOMS: (OwnedRoomId,) => (), Lane(Room), Ground, 0x0202,
        "Rooms whose journal may have rows, which must be sealed after a start.";
    SNAPSHOT: (OwnedRoomId,) => SnapshotRow, Room, Derived, 0x0203,
        "The location of the compacted document: the generation of its parts.";
    SNAPSHOT_TAIL: (OwnedRoomId, u64) => Bytes, Room, Derived, 0x0204,
        "Room, number: merged updates since the snapshot, compacted into it from time to time.";
    SNAPSHOT_PARTS: (OwnedRoomId, u64, u32) => Bytes, Room, Derived, 0x020A,
        "Room, generation, number: the compacted document in parts, so that no batch must hold all of it. Generations that neither SNAPSHOT nor CHECKPOINTS names are unused.";
    CLAIMS: (OwnedRoomId, u64, u32) => ClaimRow, Room, Derived, 0x0205,
        "Room, client id, first clock: the event with this range of the client's blocks. Decides conflicting claims, and gives the author of each block.";
    CLIENT_OWNERS: (OwnedRoomId, u64) => ClientOwner, Room, Derived, 0x0206,
        "Room, client id: the user who used it first, and that event.";
    VECTORS: (OwnedRoomId, u64) => VectorRow, Room, Derived, 0x0207,
        "Room, vector group: the state vector after an event, as a delta of bounded chain length.";
    EVENT_VECTOR: (OwnedRoomId, OwnedEventId) => u64, Room, Derived, 0x0208,
        "The vector group after an event.";
    CURRENT_VECTOR: (OwnedRoomId,) => u64, Room, Derived, 0x0209,
        "The vector group of all signed events that are merged into the document.";
    DOC_SEQ: (OwnedRoomId,) => u64, Room, Ground, 0x020B,
        "Room: the version of the document, which grows by one with each journaled edit and each merged event. A version must not be used twice, and the events don't show how many edits were sealed into them.";
    CHECKPOINTS: (OwnedRoomId, u64) => CheckpointRow, Room, Derived, 0x020C,
        "Room, document version: a snapshot that is kept, and its place in the graph. The text at an event is computed from the nearest one.";
    UNFINISHED_SNAPSHOTS: (OwnedRoomId, u64) => (), Room, Derived, 0x020D,
        "Room, generation: parts of a snapshot that are written and not named yet. After a crash they are deleted with the next snapshot.";
    VERSIONS: (OwnedRoomId, u64, OwnedEventId) => VersionRow, Room, Derived, 0x020E,
        "Room, document version, event: what each version added to the document, in the event that has it. The number is the first of its versions. Edits in the journal are not in it yet.";
    VERSION_OF: (OwnedRoomId, OwnedEventId) => u64, Room, Derived, 0x020F,
        "Room, event: the first version that the event has, which is part of its key in VERSIONS.";
    VERSIONS_FROM: (OwnedRoomId,) => u64, Room, Derived, 0x0214,
        "Room: the document version from which VERSIONS and the journal have every version. What was before it is not in it: the store is older than the index, or the text was replaced.";
    DISPUTED_ROOMS: (OwnedRoomId,) => DisputeRow, Lane(Room), Derived, 0x0210,
        "Documents with conflicting claims: whether the document has to be rebuilt, and the updates that our next event references.";
    DOCUMENTS_OF: (OwnedUserId, OwnedRoomId) => String, User, Derived, 0x0211,
        "Local user, document that the user has joined: the user's role. What changes with the text is in DOCUMENT_CHANGES, so that an edit writes one row and not one for each member.";
    DOCUMENTS: (OwnedRoomId,) => DocumentRow, Room, Derived, 0x0212,
        "What lists show of a document, without the state: title, kind, owner, time of creation, bin, template, lock, the request that created it.";
    DOCUMENT_CHANGES: (OwnedRoomId,) => DocumentChange, Room, Derived, 0x0213,
        "The newest visible event of a document that is not a witness event.";
    EDIT_REQUESTS: (OwnedRoomId, String) => EditRequestRow, Room, Ground, 0x0218,
        "Room, name of a request (user and idempotency key): the answer to an edit that a request made, so that a repetition makes none.";
    EDIT_REQUEST_TIMES: (Lane, u64, OwnedRoomId, String) => (), Lane(Lane), Derived, 0x0219,
        "Lane of the room, time in milliseconds since 1970, room, name of a request: rows of EDIT_REQUESTS by age, so that old ones are deleted.";
    LINKS: (OwnedRoomId, String) => LinkRow, Room, Ground, 0x0240,
        "Room, hash of a secret: a share link, by which users of this server are let in. Secrets themselves are never stored.";
    GUESTS: (OwnedRoomId, String, OwnedUserId) => GuestRow, Lane(Room), Ground, 0x0241,
        "Room, hash of a secret, user: a guest who came by that share link and ends with it. A list, so that all guests can be counted.";
}

/// The answer to an edit that a request made. It is in the batch of the edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditRequestRow {
    /// SHA-256 of what was requested.
    pub body: [u8; 32],
    /// The version of the document after the edit.
    pub version: u64,
    /// The other fields of the answer, as the caller wrote them.
    pub answer: Bytes,
}

impl Value for EditRequestRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let row = RowWriter::new(1).u64(self.version).bytes(&self.body)?;
        Ok(row.finish(&self.answer))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        let version = row.u64()?;
        let body = row.bytes()?;
        let body = <[u8; 32]>::try_from(body.as_ref()).map_err(|error| ValueError(error.to_string()))?;
        Ok(Self {
            body,
            version,
            answer: row.rest(),
        })
    }
}

/// An acknowledged edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// The author.
    pub author: OwnedUserId,
    /// When it was journaled, in milliseconds since 1970. `None` in rows of older versions of the program, whose numbers
    /// are no document versions either.
    pub at: Option<u64>,
    /// The update (Yjs v1).
    pub update: Bytes,
}

impl Value for JournalRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let row = match self.at {
            Some(at) => RowWriter::new(3).u64(at),
            None => RowWriter::new(2),
        };
        Ok(row.bytes(self.author.as_bytes())?.finish(&self.update))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut at = None;
        let mut row = match bytes.first() {
            Some(3) => {
                let mut row = RowReader::new(bytes, 3)?;
                at = Some(row.u64()?);
                row
            }
            // With the connection that sent the edit, which is meaningless after a restart.
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
            at,
            update: row.rest(),
        })
    }
}

/// The compacted document: one update (Yjs v1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRow {
    /// The whole document; written before snapshots had parts.
    Whole(Bytes),
    /// In rows of [`SNAPSHOT_PARTS`].
    Parts {
        /// Their generation: each snapshot has another one.
        generation: u64,
        /// The number of parts.
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
            // An unused stream position.
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

/// A checkpoint of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The forward extremities: the text is that of these events and their ancestors.
    pub heads: Vec<OwnedEventId>,
    /// The stream position of the newest accepted event: all accepted events up to it are part of the text.
    pub position: u64,
    /// The generation of its parts, in rows of [`SNAPSHOT_PARTS`].
    pub generation: u64,
    /// The number of parts.
    pub parts: u32,
    /// Updates that were merged since the room began.
    pub updates: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The state vector of the text, encoded.
    pub state_vector: Bytes,
}

impl Value for CheckpointRow {
    fn encode(&self) -> Result<Bytes, ValueError> {
        let mut row = RowWriter::new(1)
            .u64(self.position)
            .u64(self.generation)
            .u32(self.parts)
            .u64(self.updates)
            .u64(self.bytes);
        row = row.u32(u32::try_from(self.heads.len()).map_err(|error| ValueError(error.to_string()))?);
        for head in &self.heads {
            row = row.bytes(head.as_bytes())?;
        }
        Ok(row.finish(&self.state_vector))
    }

    fn decode(bytes: Bytes) -> Result<Self, ValueError> {
        let mut row = RowReader::new(bytes, 1)?;
        let (position, generation, parts) = (row.u64()?, row.u64()?, row.u32()?);
        let (updates, bytes) = (row.u64()?, row.u64()?);
        let mut heads = Vec::new();
        for _ in 0..row.u32()? {
            heads.push(OwnedEventId::try_from(row.text()?).map_err(|error| ValueError(error.to_string()))?);
        }
        Ok(Self {
            heads,
            position,
            generation,
            parts,
            updates,
            bytes,
            state_vector: row.rest(),
        })
    }
}

/// A range of a client's blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The clock after the last block.
    pub to: u32,
    /// The event with these blocks.
    pub event: OwnedEventId,
}

/// The owner of a client id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOwner {
    /// The user.
    pub user: OwnedUserId,
    /// The first event that used it.
    pub event: OwnedEventId,
}

/// A state vector, as the difference from a parent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorRow {
    /// The group that this one is based on; `None`: it is complete.
    pub parent: Option<u64>,
    /// The number of parents up to a complete one.
    pub hops: u8,
    /// Client id and clock of the clients that changed.
    pub clients: Vec<(u64, u32)>,
}

/// What lists show of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRow {
    /// The title; empty if there is none.
    pub title: String,
    /// The kind of content, as in `dev.weft.document`.
    pub kind: String,
    /// The sender of the create event.
    pub owner: OwnedUserId,
    /// The time of the create event, in milliseconds since 1970.
    pub created_at: u64,
    /// Since when the document is in the bin, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_bin_since: Option<u64>,
    /// The document is a template.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// Nobody can edit the document.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// Key and body of the request that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<(String, String)>,
}

/// The newest change of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChange {
    /// Its `origin_server_ts`, in milliseconds since 1970.
    pub at: u64,
}

/// A document in which two events claim the same clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRow {
    /// Events were received since the document was last rebuilt from all events, and may change which claims count.
    pub due: bool,
    /// Updates that count, have rivals, and are to be referenced by this server's next update or witness event.
    pub to_name: Vec<OwnedEventId>,
}

crate::json_value!(
    ClaimRow,
    ClientOwner,
    VectorRow,
    DisputeRow,
    DocumentRow,
    LinkRow,
    GuestRow,
    DocumentChange
);
