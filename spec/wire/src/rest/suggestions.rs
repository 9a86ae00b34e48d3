//! Bodies of suggestions (`spec/docs/documents-api.md`, "Suggestions").

use ruma::{OwnedEventId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DocumentDiffRun, UnreadMarks};

/// What became of a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SuggestionState {
    /// Nobody decided yet.
    Open,
    /// It became part of the text.
    Accepted,
    /// An editor rejected it.
    Rejected,
    /// Its author withdrew it.
    Withdrawn,
}

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// The event.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Its sender.
    #[schemars(with = "crate::schema::UserId")]
    pub author: OwnedUserId,
    /// When it was sent, milliseconds.
    pub at: u64,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What became of it.
    pub state: SuggestionState,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UserId>")]
    pub decided_by: Option<OwnedUserId>,
    /// When that was, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<u64>,
    /// The `dev.weft.update` that accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub update: Option<OwnedEventId>,
    /// What was accepted of it already, the earliest first. The rest is open, or was rejected or withdrawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<AcceptedPart>,
    /// The number of messages in its thread, at most 500.
    pub replies: usize,
    /// What the caller has not read of the thread.
    pub unread: UnreadMarks,
}

/// A part of a suggestion that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedPart {
    /// The `dev.weft.update` that has it.
    #[schemars(with = "crate::schema::EventId")]
    pub update: OwnedEventId,
    /// Who accepted it.
    #[schemars(with = "crate::schema::UserId")]
    pub by: OwnedUserId,
    /// When, milliseconds.
    pub at: u64,
}

/// `POST /documents/{id}/suggestions/{eventId}/accept`; without a body the whole suggestion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptSuggestion {
    /// The changes to accept, by their numbers in the runs; without it all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<u32>>,
    /// The version for which the runs with these numbers were shown. With `changes` only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What becomes of the other changes.
    #[serde(default)]
    pub rest: RestOfSuggestion,
}

/// What becomes of the changes that are not accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestOfSuggestion {
    /// They stay open.
    #[default]
    Open,
    /// They are rejected.
    Rejected,
}

/// `GET /documents/{id}/suggestions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionList {
    /// The newest first.
    pub suggestions: Vec<Suggestion>,
    /// `from` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}

/// `GET /documents/{id}/suggestions/{eventId}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuggestionShown {
    /// The suggestion.
    #[serde(flatten)]
    pub suggestion: Suggestion,
    /// Of an open one: whether it changes the present text. `false`: it no longer applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applies: Option<bool>,
    /// If it applies: the version of the document to which the runs are the difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// If it can't be applied: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The difference that it makes: to the present text while it is open and applies, otherwise to the text for which it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<DocumentDiffRun>,
}

/// Answer to a decision about a suggestion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuggestionDecided {
    /// What became of it.
    pub state: SuggestionState,
    /// The `dev.weft.resolution`; absent if a part was accepted and the rest is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub event_id: Option<OwnedEventId>,
    /// Of an accepted one: the `dev.weft.update` that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::EventId>")]
    pub update: Option<OwnedEventId>,
    /// Of an accepted one: the version of the document, at least the one that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}
