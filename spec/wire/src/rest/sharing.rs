//! Bodies about who may join a document, who owns it, and which servers have it (`spec/docs/documents-api.md`, "Access").

use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Role;

/// `POST /documents/{id}/owner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransferDocument {
    /// The new owner, a member of the document.
    #[schemars(with = "crate::schema::UserId")]
    pub user: OwnedUserId,
    /// The caller leaves the document.
    #[serde(default)]
    pub leave: bool,
}

/// Who may join a document without an invitation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nobody.
    #[default]
    Private,
    /// Nobody, but everybody may ask.
    Request,
    /// Members of a space.
    Space,
    /// Members of a space; everybody else may ask.
    #[serde(rename = "space_or_request")]
    SpaceOrRequest,
    /// Everybody, and everybody may read.
    Public,
}

/// `GET` and `PUT /documents/{id}/access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentAccess {
    /// Who may join.
    pub access: Access,
    /// The space whose members may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::RoomId>")]
    pub space: Option<OwnedRoomId>,
    /// The role of those who join and were not given another one.
    #[serde(default = "viewer")]
    pub role: Role,
}

const fn viewer() -> Role {
    Role::Viewer
}

impl Default for DocumentAccess {
    fn default() -> Self {
        Self {
            access: Access::Private,
            space: None,
            role: Role::Viewer,
        }
    }
}

/// `GET /documents/{id}/access-requests`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessRequests {
    /// The newest first.
    pub requests: Vec<AccessRequest>,
}

/// A user who asks for access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRequest {
    /// The user.
    #[schemars(with = "crate::schema::UserId")]
    pub user_id: OwnedUserId,
    /// Their name.
    pub display_name: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, milliseconds since 1970.
    pub at: u64,
}

/// `POST /documents/{id}/access-requests`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskForAccess {
    /// Why, for those who decide. At most [`MAX_REQUEST_REASON_BYTES`](crate::limits::MAX_REQUEST_REASON_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Servers that have the document, if this one does not. At most
    /// [`MAX_VIA`](crate::limits::MAX_VIA) are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::ServerName>")]
    pub via: Vec<OwnedServerName>,
}

/// The answer to [`AskForAccess`], 201.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskedForAccess {
    /// The room id of the document.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
}

/// `GET /access-requests`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnAccessRequests {
    /// By document.
    pub requests: Vec<OwnAccessRequest>,
}

/// A request of the caller that nobody has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnAccessRequest {
    /// The room id of the document.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// Its title, as its server showed it; empty if it has none.
    pub title: String,
    /// What the caller wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /documents/{id}/servers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentServers {
    /// Servers with members, by name: each has the whole document.
    pub servers: Vec<DocumentServer>,
    /// Servers with invited users and without members: they know the title and who invited.
    #[schemars(with = "Vec<crate::schema::ServerName>")]
    pub invited: Vec<OwnedServerName>,
    /// Servers whose users left, were removed or declined: they keep what they received.
    #[schemars(with = "Vec<crate::schema::ServerName>")]
    pub former: Vec<OwnedServerName>,
    /// The names of `servers` once a user has accepted an invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<crate::schema::ServerName>>")]
    pub after: Option<Vec<OwnedServerName>>,
}

/// A server with a copy of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentServer {
    /// Its name.
    #[schemars(with = "crate::schema::ServerName")]
    pub server_name: OwnedServerName,
    /// Members who are its users.
    pub users: u64,
}
