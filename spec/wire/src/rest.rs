//! Bodies of the document API under `/_weft/client/v1` (`spec/docs/documents-api.md`).
//!
//! Field names are part of the protocol. Times are milliseconds since 1970.

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use crate::{Role, document::DocumentKind};

/// `POST /documents`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateDocument {
    /// What people see in lists; may be empty.
    #[serde(default)]
    pub title: String,
    /// What it holds.
    pub kind: DocumentKind,
    /// Where given, the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<OwnedUserId>,
}

/// Answer to [`CreateDocument`], 201.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The room id.
    pub doc_id: OwnedRoomId,
    /// When its create event was made.
    pub created_at: u64,
}

/// A document as `GET /documents/{id}` and the list show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The room id.
    pub doc_id: OwnedRoomId,
    /// Title, empty where none was given.
    pub title: String,
    /// What it holds.
    pub kind: DocumentKind,
    /// The room's creator.
    pub owner_id: OwnedUserId,
    /// Grows with each change of the text; an opaque number to compare for equality and order.
    pub version: u64,
    /// The caller's role.
    pub role: Role,
    /// When it was created.
    pub created_at: u64,
    /// When the text or the state last changed.
    pub last_modified: u64,
}

/// An invitation that the caller hasn't answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// The room id; `POST /_matrix/client/v3/join/{docId}` accepts.
    pub doc_id: OwnedRoomId,
    /// Title as the inviting server says it.
    pub title: String,
    /// Who invited.
    pub inviter: OwnedUserId,
}

/// `GET /documents`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DocumentList {
    /// Documents that the caller has joined, last modified first.
    pub documents: Vec<Document>,
    /// Documents that the caller is invited to.
    pub invites: Vec<Invitation>,
}

/// `PATCH /documents/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PatchDocument {
    /// The new title.
    pub title: String,
}

/// Membership as the members list shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Has joined.
    Join,
    /// Is invited.
    Invite,
    /// Asks to be let in.
    Knock,
}

/// One row of `GET /documents/{id}/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who.
    pub user_id: OwnedUserId,
    /// The name they have in this document.
    pub display_name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Joined, invited or knocking.
    pub membership: MemberState,
}

/// `GET /documents/{id}/members`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MemberList {
    /// Owner first, then by role and id.
    pub members: Vec<Member>,
}

/// `PUT /documents/{id}/members/{userId}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetRole {
    /// The role to give; who isn't a member yet is invited.
    pub role: Role,
}

/// The name that is shown for somebody without a display name.
#[must_use]
pub fn name_of(user: &UserId) -> &str {
    user.localpart()
}
