//! Bodies of folders (`spec/docs/documents-api.md`, "Folders").

use ruma::OwnedRoomId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /folders`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MakeFolder {
    /// The displayed title; may be empty.
    #[serde(default)]
    pub title: String,
}

/// The answer to [`MakeFolder`], 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderMade {
    /// The room id of the space.
    #[schemars(with = "crate::schema::RoomId")]
    pub folder_id: OwnedRoomId,
}

/// `GET /folders`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FolderList {
    /// By id.
    pub folders: Vec<Folder>,
}

/// A folder of which the caller is a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Folder {
    /// The room id of the space.
    #[schemars(with = "crate::schema::RoomId")]
    pub folder_id: OwnedRoomId,
    /// Its title; empty if it has none.
    pub title: String,
}
