//! Bodies of the lock and of approvals of a document (`spec/docs/documents-api.md`, "Lock and approvals").

use ruma::{OwnedEventId, OwnedUserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `PUT /documents/{id}/lock`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LockDocument {
    /// Why, for people. At most [`MAX_STATEMENT_BYTES`](crate::limits::MAX_STATEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = crate::limits::MAX_STATEMENT_BYTES))]
    pub reason: Option<String>,
    /// The version that the caller read; another one is not locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Whether a document is locked, and since when: `GET /documents/{id}/lock`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentLock {
    /// A lock stands.
    pub locked: bool,
    /// The lock; absent if none stands.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// A lock that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// The `dev.weft.lock` event.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Who locked the document.
    #[schemars(with = "crate::schema::UserId")]
    pub locked_by: OwnedUserId,
    /// When, milliseconds since 1970.
    pub locked_at: u64,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The heads of the locked text.
    #[schemars(with = "Vec<crate::schema::EventId>")]
    pub heads: Vec<OwnedEventId>,
    /// Its state hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// Whether the present text is the locked one; absent if this server can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_present_text: Option<bool>,
}

/// `POST /documents/{id}/approvals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApproveDocument {
    /// What the caller states. At most [`MAX_STATEMENT_BYTES`](crate::limits::MAX_STATEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = crate::limits::MAX_STATEMENT_BYTES))]
    pub statement: Option<String>,
    /// The version that the caller read; another one is not approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// `GET /documents/{id}/approvals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalList {
    /// The last approval of each user, newest first.
    pub approvals: Vec<Approval>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The `dev.weft.approval` event.
    #[schemars(with = "crate::schema::EventId")]
    pub event_id: OwnedEventId,
    /// Who approved.
    #[schemars(with = "crate::schema::UserId")]
    pub user_id: OwnedUserId,
    /// Their name in the document.
    pub display_name: Option<String>,
    /// When, milliseconds since 1970.
    pub at: u64,
    /// What they stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The heads of the approved text.
    #[schemars(with = "Vec<crate::schema::EventId>")]
    pub heads: Vec<OwnedEventId>,
    /// Its state hash.
    pub state_hash: String,
    /// The hash of the rendered text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_hash: Option<String>,
    /// Whether the present text is the approved one, and not a later one; absent if this server can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_present_text: Option<bool>,
}
