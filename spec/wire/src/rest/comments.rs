//! Bodies of the comments on a document (`spec/docs/documents-api.md`, "Comments").

use ruma::{OwnedEventId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::UnreadMarks;

/// Where a comment is, in the text of now: the fields of an edit's place, with positions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentRange {
    /// The block or element, as `in` of an edit; absent in plain text.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub place: Option<Value>,
    /// The first position; absent if the comment is on a block or an element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// The end of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// The block in which the range ends, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_in: Option<Value>,
}

/// A message of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadMessage {
    /// The event.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Its sender.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// When it was sent, milliseconds.
    pub at: u64,
    /// Its text, as it was last edited.
    pub body: String,
    /// When it was edited last, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<u64>,
}

/// A comment: the first message of a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comment {
    /// The event.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Its sender.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// When it was sent, milliseconds.
    pub at: u64,
    /// Its text; absent if it was redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// When it was edited last, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<u64>,
    /// It was redacted, and has replies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// The text that it was about when it was made.
    pub quote: String,
    /// Where it is now; absent if it is orphaned, on the whole document, or if that can't be found out now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<CommentRange>,
    /// Nothing is left of what it is about. Absent if that can't be found out now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphaned: Option<bool>,
    /// Whether it is done.
    pub resolved: bool,
    /// Who resolved or reopened it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub resolved_by: Option<OwnedUserId>,
    /// When that was, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<u64>,
    /// The number of replies, at most 500.
    pub replies: usize,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<ThreadMessage>,
    /// What the caller has not read of the thread.
    pub unread: UnreadMarks,
}

/// `GET /documents/{id}/comments`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentList {
    /// The newest first.
    pub comments: Vec<Comment>,
    /// `from` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// `GET /documents/{id}/comments/{eventId}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentThread {
    /// The comment; absent if the thread is that of a suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
    /// The newest first.
    pub replies: Vec<ThreadMessage>,
    /// `from` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// Answer to a resolution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommentResolved {
    /// Whether the comment is done.
    pub resolved: bool,
    /// The `dev.weft.resolution` that says so; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub event_id: Option<OwnedEventId>,
}

/// `POST /documents/{id}/comments/{eventId}/replies`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SendReply {
    /// Plain text, not empty.
    #[schemars(length(min = 1))]
    pub body: String,
    /// Users who are mentioned.
    #[serde(default)]
    #[schemars(with = "Vec<crate::schema::UserId>", length(max = crate::limits::MAX_MENTIONS))]
    pub mentions: Vec<OwnedUserId>,
}
