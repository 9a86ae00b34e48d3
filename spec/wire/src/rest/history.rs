//! Bodies of the history of a document: who wrote what and when, blame, differences, earlier content
//! (`spec/docs/documents-api.md`, "History").

use ruma::{OwnedEventId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /documents/{id}/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Newest first.
    pub entries: Vec<HistoryEntry>,
    /// The version from which on versions are known; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions_from: Option<u64>,
    /// `page` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum HistoryEntry {
    /// One author's run of edits.
    Session(WorkSession),
    /// A version that was given a name.
    Version(NamedVersion),
}

/// One author's run of edits with pauses below five minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkSession {
    /// The author.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// The time of the first edit's event, milliseconds.
    pub from: u64,
    /// The time of the last one's.
    pub to: u64,
    /// The last event: `at` for the content after the session.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// The number of events.
    pub events: u64,
    /// The first and the last version on this server, if all are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<(u64, u64)>,
    /// Units of content that were inserted (UTF-16 code units of text).
    pub inserted: u64,
    /// Units of content that were deleted.
    pub deleted: u64,
    /// Whose suggestions the author accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::UserId>")]
    pub proposed_by: Vec<OwnedUserId>,
    /// The points that the author restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<RestoredPoint>,
    /// The edits that the author undid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolls_back: Vec<RolledBackEdits>,
    /// With `detail=edits`: the edits, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edits: Option<Vec<HistoryEdit>>,
}

/// One edit; of what this server knows only as a sealed event, the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEdit {
    /// The event that has it.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Its version on this server, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// When it was made here, milliseconds; without a version the time of the event.
    pub at: u64,
    /// Units of content that were inserted.
    pub inserted: u64,
    /// Units of content that were deleted.
    pub deleted: u64,
    /// The suggestion that it accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub suggestion: Option<OwnedEventId>,
    /// Who proposed that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub proposed_by: Option<OwnedUserId>,
    /// The point that it restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<RestoredPoint>,
    /// The edits that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RolledBackEdits>,
}

/// An earlier point, as the update that restores it names it ([`crate::purpose::Restores`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredPoint {
    /// The newest events of which the restored text has something.
    #[schemars(with = "Vec<crate::schema::EventId>")]
    pub heads: Vec<OwnedEventId>,
    /// Its state hash, in unpadded URL-safe base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// If the only head is a named version that the caller may see: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Edits that were undone, as the update that undoes them names them ([`crate::purpose::RollsBack`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledBackEdits {
    /// Whose edits.
    #[schemars(with = "crate::schema::UserId")]
    pub user: OwnedUserId,
    /// After these events.
    #[schemars(with = "Vec<crate::schema::EventId>")]
    pub after: Vec<OwnedEventId>,
    /// Up to these events.
    #[schemars(with = "Vec<crate::schema::EventId>")]
    pub heads: Vec<OwnedEventId>,
}

/// A `dev.weft.version` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedVersion {
    /// The event: `at` for its content.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Who gave the name.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// When, milliseconds.
    pub at: u64,
    /// The name.
    pub name: String,
    /// A description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `POST /documents/{id}/versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameVersion {
    /// The name, not empty.
    #[schemars(length(min = 1, max = crate::limits::MAX_TITLE_BYTES))]
    pub name: String,
    /// A description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `GET /documents/{id}/blame`: the present text, or that of `at`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blame {
    /// In document order.
    pub runs: Vec<BlamedRun>,
}

/// A part of the text that one event brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlamedRun {
    /// Where it is: the path of the block in a rich text, element and key in a board, absent in plain text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Value>,
    /// The text. Embedded objects are U+FFFC.
    pub text: String,
    /// Who wrote it.
    #[serde(flatten)]
    pub by: Attribution,
}

/// Who brought a part of the text, as far as this server knows and the caller may see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attribution {
    /// The author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub author: Option<OwnedUserId>,
    /// The event; absent for an edit that is not signed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub event_id: Option<OwnedEventId>,
    /// When, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// If the author accepted a suggestion: who proposed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub proposed_by: Option<OwnedUserId>,
    /// The suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub suggestion: Option<OwnedEventId>,
}

/// `GET /documents/{id}/diff`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentDiff {
    /// In document order.
    pub runs: Vec<DocumentDiffRun>,
}

/// A part of the text that has one origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentDiffRun {
    /// `equal`, `insert`, `delete` or `format`.
    pub kind: String,
    /// Where it is, as in [`BlamedRun`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Value>,
    /// The text.
    pub text: String,
    /// Of inserted and deleted runs: who wrote it.
    #[serde(flatten)]
    pub by: Attribution,
    /// Of deleted runs: who deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub deleted_by: Option<OwnedUserId>,
    /// Of deleted runs: when, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<u64>,
    /// Of formatted runs: the attributes before and now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<(Value, Value)>,
    /// Of a suggestion, and not of equal runs: the number of the change that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<u32>,
}

/// `POST /documents/{id}/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreVersion {
    /// A version, an event id, or a time, as in `at=`.
    #[schemars(with = "crate::schema::Point")]
    pub at: Value,
}

/// `POST /documents/{id}/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollBack {
    /// Whose edits are undone.
    #[schemars(with = "crate::schema::UserId")]
    pub user: OwnedUserId,
    /// After this version or time.
    #[schemars(with = "crate::schema::Point")]
    pub from: Value,
    /// Up to this version or time; without it up to now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Point>")]
    pub to: Option<Value>,
}

/// `GET /documents/{id}/history/activity`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// By day (UTC) and author, the newest day first.
    pub days: Vec<ActiveDay>,
    /// `page` of the next page, if there is one. It may begin with the day with which this one ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// What one author did on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveDay {
    /// The start of the day in UTC, milliseconds since 1970.
    pub day: u64,
    /// The author.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// Events with edits.
    pub events: u64,
    /// Units of content that were inserted.
    pub inserted: u64,
    /// Units of content that were deleted.
    pub deleted: u64,
}

/// Answer to [`RestoreVersion`] and [`RollBack`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRestored {
    /// The version of the document: at least the one that has the edit.
    pub version: u64,
    /// Whether the content was another one.
    pub changed: bool,
}
