//! Bodies of the document API under `/_weft/client/v1` (`spec/docs/documents-api.md`).
//!
//! Field names are part of the protocol. Times are milliseconds since 1970.

mod comments;
mod errors;
mod folders;
mod history;
mod links;
mod lock;
mod media;
mod sharing;
mod suggestions;
mod webhooks;

pub use comments::{Comment, CommentList, CommentRange, CommentResolved, CommentThread, SendReply, ThreadMessage};
pub use errors::{Done, ErrorBody};
pub use folders::{Folder, FolderList, FolderMade, MakeFolder};
pub use history::{
    ActiveDay, Activity, Attribution, Blame, BlamedRun, DocumentDiff, DocumentDiffRun, History, HistoryEdit,
    HistoryEntry, NameVersion, NamedVersion, RestoreVersion, RestoredPoint, RollBack, RolledBackEdits, VersionRestored,
    WorkSession,
};
pub use links::{FollowLink, FollowedLink, GuestJoined, JoinAsGuest, LinkMade, MakeLink, ShareLink, ShareLinks};
pub use lock::{Approval, ApprovalList, ApproveDocument, DocumentLock, Lock, LockDocument};
pub use media::{MediaFile, MediaList, MediaUsage};
pub use sharing::{
    Access, AccessRequest, AccessRequests, AskForAccess, AskedForAccess, DocumentAccess, DocumentServer,
    DocumentServers, OwnAccessRequest, OwnAccessRequests, TransferDocument,
};

pub use suggestions::{
    AcceptSuggestion, AcceptedPart, RestOfSuggestion, Suggestion, SuggestionDecided, SuggestionList, SuggestionShown,
    SuggestionState,
};
pub use webhooks::{
    ChangeWebhook, CreateWebhook, Webhook, WebhookDeliveries, WebhookDelivery, WebhookFailing, WebhookList,
    WebhookMade, WebhookPause, WebhookSecret, WebhookTest,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId, presence::PresenceState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Role, document::DocumentKind};

/// `POST /documents`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateDocument {
    /// The displayed title; may be empty.
    #[serde(default)]
    #[schemars(length(max = crate::limits::MAX_TITLE_BYTES))]
    pub title: String,
    /// The kind of content.
    pub kind: DocumentKind,
    /// If present, must be the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub owner_id: Option<OwnedUserId>,
}

/// Answer to [`CreateDocument`], 201.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The room id.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// `origin_server_ts` of the create event.
    pub created_at: u64,
}

/// A document in the answers to `GET /documents/{id}` and `GET /documents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The room id.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// The title; empty if the document has none.
    pub title: String,
    /// The kind of content.
    pub kind: DocumentKind,
    /// The room's creator.
    #[schemars(with = "crate::schema::UserId")]
    pub owner_id: OwnedUserId,
    /// Grows by one with each edit that this server acknowledges, and with each event of another server that changes the
    /// text. It has no meaning on another server.
    pub version: u64,
    /// The caller's role.
    pub role: Role,
    /// `origin_server_ts` of the create event.
    pub created_at: u64,
    /// `origin_server_ts` of the newest event, except `dev.weft.witness`.
    pub last_modified: u64,
    /// Since when the document is in the bin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_bin_since: Option<u64>,
    /// The document is a template.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// The document is locked: nobody can edit it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// What the caller has not read; only if the list was requested with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<UnreadMarks>,
}

/// Events of a document or a thread that the caller has not read, as in Matrix' `unread_notifications`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadMarks {
    /// Messages and comments that notify.
    pub notifications: u64,
    /// Those of them that mention the caller.
    pub highlights: u64,
}

/// `POST /documents/{id}/duplicate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct DuplicateDocument {
    /// The title of the copy; that of the document if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Answer to [`DuplicateDocument`], 201.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Duplicated {
    /// The copy.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// `origin_server_ts` of its create event.
    pub created_at: u64,
    /// Its version.
    pub version: u64,
}

/// Content of one kind that an import left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// What it is, such as `image` or `style`.
    pub kind: String,
    /// How often it was left out.
    pub count: u64,
    /// The beginning of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// Answer to `POST /documents/import`, 201.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedDocument {
    /// The new document.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// `origin_server_ts` of its create event.
    pub created_at: u64,
    /// Its version.
    pub version: u64,
    /// What was left out.
    pub lost: Vec<Lost>,
}

/// Answer to `POST /documents/{id}/import`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ImportedInto {
    /// The version of the document: at least the one that has the import.
    pub version: u64,
    /// False if the same was imported before, or if there was nothing to import.
    pub changed: bool,
    /// What was left out.
    pub lost: Vec<Lost>,
}

/// Something that a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchResult {
    /// The document.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// Its title.
    pub title: String,
    /// Where it was found: `title`, `text`, `comments` or `chat`.
    #[serde(rename = "in")]
    pub part: String,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub event_id: Option<OwnedEventId>,
    /// Its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub sender: Option<OwnedUserId>,
    /// Its `origin_server_ts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// The text around it.
    pub snippet: String,
    /// What was found, in UTF-16 code units of the snippet.
    pub matches: Vec<(usize, usize)>,
}

/// `GET /search`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchResults {
    /// The best ones first.
    pub results: Vec<SearchResult>,
    /// `from` of the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// Answer to `DELETE /documents/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// The document is in the bin since then; absent if the caller has left it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_bin_since: Option<u64>,
}

/// An open invitation of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// The room id; `POST /_matrix/client/v3/join/{docId}` accepts.
    #[schemars(with = "crate::schema::RoomId")]
    pub doc_id: OwnedRoomId,
    /// The title in the stripped state of the invitation.
    pub title: String,
    /// The sender of the invitation.
    #[schemars(with = "crate::schema::UserId")]
    pub inviter: OwnedUserId,
}

/// `GET /documents`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentList {
    /// Documents that the caller has joined, in the requested order.
    pub documents: Vec<Document>,
    /// Documents that the caller is invited to; only on the first page.
    pub invites: Vec<Invitation>,
    /// `from` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// `PATCH /documents/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PatchDocument {
    /// The new title.
    #[schemars(length(max = crate::limits::MAX_TITLE_BYTES))]
    pub title: String,
}

/// Membership in the list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Joined.
    Join,
    /// Invited.
    Invite,
    /// Knocking.
    Knock,
}

/// One row of `GET /documents/{id}/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The member's Matrix user id.
    #[schemars(with = "crate::schema::UserId")]
    pub user_id: OwnedUserId,
    /// Their display name in this document.
    pub display_name: Option<String>,
    /// Their role.
    pub role: Role,
    /// Joined, invited or knocking.
    pub membership: MemberState,
    /// A guest, who came by a share link without an account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
}

/// `GET /documents/{id}/members`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct MemberList {
    /// The members, sorted by role (owners first), then by user id.
    pub members: Vec<Member>,
}

/// `PUT /documents/{id}/members/{userId}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SetRole {
    /// The role to assign; a user who is not a member yet is invited.
    pub role: Role,
}

/// Answer to `POST /documents/{id}/updates`, 200: the update is on disk, except the parts that are named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAccepted {
    /// The version of the document: at least the one that has the update.
    pub version: u64,
    /// Content that no event can carry. Its clocks are used, as if it had been written and deleted at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedBlocks>,
    /// The Yjs v1 update by which the client deletes that content too, in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Base64>")]
    pub correction: Option<String>,
    /// Other users whose blocks were in the update. Only these users can send them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::UserId>")]
    pub foreign: Vec<OwnedUserId>,
    /// Set if a part depends on blocks that the server does not have: the server's state vector, in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Base64>")]
    pub state_vector: Option<String>,
}

/// Blocks of an update that were not accepted as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedBlocks {
    /// The rule of `spec/docs/admission.md`.
    pub rule: String,
    /// The Yjs client id.
    pub client: u64,
    /// The first clock.
    pub clock: u32,
    /// The number of clocks.
    pub length: u32,
}

/// Answer to `PATCH /documents/{id}/edit`, 200: the edit is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditAccepted {
    /// The version of the document after the edit. If it is not the version before it and one more, others changed the
    /// document since.
    pub new_version: u64,
    /// What others did at the places of the changes since the version to which the positions refer.
    pub conflicts: Vec<EditConflict>,
}

/// A change of others at the place of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EditConflict {
    /// The index of the change in the request.
    pub change: usize,
    /// What others did.
    pub kind: EditConflictKind,
    /// The first position in the present text, before the edit, in the unit of the request.
    pub from: u32,
    /// The end position; equal to `from` if the text was deleted.
    pub to: u32,
    /// Who inserted the text, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub by: Option<OwnedUserId>,
    /// When, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// What others did at the place of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EditConflictKind {
    /// Text was inserted there.
    Inserted,
    /// Text was deleted there.
    Deleted,
    /// The block or element was deleted.
    Gone,
}

/// `POST /documents/{id}/chat`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// Plain text, not empty.
    #[schemars(length(min = 1))]
    pub message: String,
    /// The message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub reply_to: Option<OwnedEventId>,
    /// Users who are notified, at most [`MAX_MENTIONS`](crate::limits::MAX_MENTIONS). Without it, clients and servers look for
    /// names in the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<crate::schema::UserId>>")]
    pub mentions: Option<Vec<OwnedUserId>>,
}

/// Answer to [`SendMessage`], 201.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSent {
    /// The event id.
    #[schemars(with = "crate::schema::EventId")]
    pub message_id: OwnedEventId,
    /// `origin_server_ts` of the event.
    pub timestamp: u64,
}

/// `GET /presence/{userId}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserPresence {
    /// The user.
    #[schemars(with = "crate::schema::UserId")]
    pub user_id: OwnedUserId,
    /// `online`, `unavailable` or `offline`.
    #[schemars(with = "crate::schema::Presence")]
    pub presence: PresenceState,
    /// When the user was last active, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<u64>,
    /// The user's status message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// The name that is shown for a user without a display name.
#[must_use]
pub fn name_of(user: &UserId) -> &str {
    user.localpart()
}
