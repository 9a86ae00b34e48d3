//! A request to create a room. Must not decide which events the room begins with.

use std::sync::Arc;

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weft_dag::{Pdu, RoomVersion};
use weft_wire::document::DocumentKind;

use crate::event_forms::NewRoomForm;

/// Presets of a room's rules. Source: client-server API, createRoom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preset {
    /// By invitation; history for members.
    #[default]
    PrivateChat,
    /// The same, and invited users have the creator's power level.
    TrustedPrivateChat,
    /// Anybody may join.
    PublicChat,
}

/// A state event that the creator adds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitialState {
    /// Event type.
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// Content.
    pub content: Value,
}

/// All options of a new room. `Default` is a private room of the default version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CreateRoom {
    /// Room version; the server's default (12) where absent.
    pub version: Option<RoomVersionId>,
    /// The room id, of this server, in versions in which the server chooses it (up to 11); a new one if absent. With a
    /// given id, a run is reproducible event for event.
    pub room_id: Option<OwnedRoomId>,
    /// Preset; if absent, it follows from `public`.
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
    /// Users to invite. Those of this server are invited in the same commit. Those of other servers get their power
    /// level here, if the preset gives one; their invitations follow by `Rooms::draft` and their server's signature.
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

/// A room to create: its create event is signed, because in version 12 it determines the room id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "NewRoomForm", try_from = "NewRoomForm")]
pub struct NewRoom {
    /// The signed create event.
    pub create: Arc<Pdu>,
    /// The room's version.
    pub version: RoomVersion,
    /// The options.
    pub request: CreateRoom,
    /// A user of this server.
    pub creator: OwnedUserId,
}
