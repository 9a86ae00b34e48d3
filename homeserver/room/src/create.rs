//! createRoom: which state events a new room begins with, and in which order.

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value};
use weft_wire::document::DocumentKind;

use crate::{Rooms, SendError, Unavailable};

/// Starting points of a room's rules. Source: client-server API, createRoom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// By invitation; history for members.
    #[default]
    PrivateChat,
    /// The same, and those invited have the creator's power.
    TrustedPrivateChat,
    /// Anybody may join.
    PublicChat,
}

/// A state event that the creator asks for.
#[derive(Debug, Clone)]
pub struct InitialState {
    /// Event type.
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// Content.
    pub content: Value,
}

/// Everything that can be asked of a new room. `Default` is a private room of the default version.
#[derive(Debug, Clone, Default)]
pub struct CreateRoom {
    /// Room version; the server's default (12) where absent.
    pub version: Option<RoomVersionId>,
    /// Starting rules; where absent, as `public` says.
    pub preset: Option<Preset>,
    /// List the room in this server's directory.
    pub public: bool,
    /// Extra fields of `m.room.create`.
    pub creation_content: Map<String, Value>,
    /// State events after those of the preset.
    pub initial_state: Vec<InitialState>,
    /// `m.room.name`.
    pub name: Option<String>,
    /// `m.room.topic`.
    pub topic: Option<String>,
    /// Users of this server to invite in the same commit. Users of other servers are invited by
    /// [`Rooms::draft`] and their server's signature afterwards; only their power is set here.
    pub invite: Vec<OwnedUserId>,
    /// Mark invitations as a direct chat.
    pub is_direct: bool,
    /// Fields that replace those of the preset's power levels.
    pub power_level_content_override: Option<Map<String, Value>>,
    /// An alias of this server to create with the room.
    pub alias: Option<OwnedRoomAliasId>,
    /// Make it a document of this kind: room type, `dev.weft.document`, power levels by role.
    pub document: Option<DocumentKind>,
    /// Display name and avatar for the creator's member event.
    pub profile: Map<String, Value>,
}

/// Why a room was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The version is not supported.
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// The alias belongs to another room.
    #[error("alias {0} is taken")]
    AliasTaken(OwnedRoomAliasId),
    /// A field can't be used.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// One of the room's first events is not allowed or can't be built.
    #[error("{kind} was not accepted: {source}")]
    Event {
        /// Type of the event.
        kind: String,
        /// Why.
        source: Box<SendError>,
    },
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Rooms {
    /// Creates a room; all its first events are one commit.
    ///
    /// # Errors
    /// When an option can't be used, or the store fails.
    #[expect(clippy::unimplemented, reason = "signatures first")]
    pub async fn create(&self, _creator: &UserId, _request: CreateRoom) -> Result<OwnedRoomId, CreateError> {
        unimplemented!()
    }
}
