//! The live half of a document: edits, state vectors and differences.

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use weft_wire::Role;

use crate::{Rooms, SessionId, Unavailable};

/// An edit from a live connection.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Who wrote it.
    pub user: OwnedUserId,
    /// The connection.
    pub session: SessionId,
    /// A Yjs v1 update, at most `MAX_LIVE_FRAME_BYTES`.
    pub update: Bytes,
}

/// What became of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditOutcome {
    /// It is on disk.
    Journaled,
    /// All of it was known and is on disk.
    NothingNew,
    /// It builds on blocks that the server hasn't: the client must send what is after this state vector.
    Missing {
        /// The server's state vector, encoded.
        server_vector: Bytes,
    },
}

/// Why an edit was not taken.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The room is unknown here.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// The room is no document.
    #[error("room {0} is not a document")]
    NotADocument(OwnedRoomId),
    /// The user is not joined.
    #[error("the user is not in the room")]
    NotJoined,
    /// The user's role is too low.
    #[error("a {} may not edit", role.name())]
    Forbidden {
        /// The user's role.
        role: Role,
    },
    /// Not a Yjs v1 update.
    #[error("not an update: {0}")]
    Malformed(#[from] weft_crdt::ParseError),
    /// Against the admission rules.
    #[error("the update is not admissible: {0}")]
    Refused(#[from] weft_crdt::Refusal),
    /// The frame or the document would be too large.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Size.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// The document has had so many client ids that no new one is taken.
    #[error("the document has {0} client ids, no new one is taken")]
    TooManyClients(usize),
    /// The store or the worker. The edit may or may not be on disk: send it again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An open document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDocument {
    /// State vector of all that was acknowledged, encoded.
    pub state_vector: Bytes,
}

/// Why a document could not be opened or compared.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The room is unknown here.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// The room is no document.
    #[error("room {0} is not a document")]
    NotADocument(OwnedRoomId),
    /// The caller's state vector can't be read.
    #[error("not a state vector: {0}")]
    Vector(#[from] weft_crdt::ParseError),
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why the content at an event could not be given.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The room is unknown here.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// The room is no document.
    #[error("room {0} is not a document")]
    NotADocument(OwnedRoomId),
    /// An event that is not in the room, or that this server hasn't.
    #[error("event {0} is not known in this room")]
    UnknownEvent(OwnedEventId),
    /// Stored updates could not be put together.
    #[error("the stored updates don't fit together: {0}")]
    Damaged(String),
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// Takes an edit; returns when it is on disk.
    ///
    /// # Errors
    /// When the user may not edit, or the update is not admissible.
    pub async fn edit(&self, _room: &RoomId, _edit: Edit) -> Result<EditOutcome, EditError> {
        unimplemented!()
    }

    /// Opens a document for a live connection. Rights are the caller's to check ([`Rooms::access`]).
    ///
    /// # Errors
    /// When the room is no document here.
    pub async fn open(&self, _room: &RoomId) -> Result<OpenDocument, OpenError> {
        unimplemented!()
    }

    /// What somebody with this state vector lacks, of all that was acknowledged.
    ///
    /// # Errors
    /// When the vector can't be read or the room is no document here.
    pub async fn diff(&self, _room: &RoomId, _vector: &[u8]) -> Result<Bytes, OpenError> {
        unimplemented!()
    }

    /// The merged update: at given events (themselves included), or of all that was acknowledged.
    ///
    /// # Errors
    /// When an event is unknown or the room is no document here.
    pub async fn content(&self, _room: &RoomId, _at: Option<&[OwnedEventId]>) -> Result<Bytes, ContentError> {
        unimplemented!()
    }

    /// Tells that somebody on another server is live in the document: for a minute, seals follow edits within
    /// `seal_remote`. Cheap; may be called for each EDU.
    pub fn remote_presence(&self, _room: &RoomId) {}
}
