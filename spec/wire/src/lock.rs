//! Contents of the lock and of approvals of a document (`spec/docs/lock.md`).
//!
//! For display only: whether a document is locked follows from the state entries alone. Must not decide that.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

/// Content of a `dev.weft.lock` event: what was locked, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockContent {
    /// The events whose ancestors, with themselves, give the locked text. At most
    /// [`MAX_TEXT_HEADS`](crate::limits::MAX_TEXT_HEADS).
    #[serde(default)]
    pub heads: Vec<OwnedEventId>,
    /// The state hash of that text (`spec/docs/updates.md`) in unpadded URL-safe base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// For people. At most [`MAX_STATEMENT_BYTES`](crate::limits::MAX_STATEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Content of a `dev.weft.approval` event: its sender approves this text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalContent {
    /// As in [`LockContent`].
    pub heads: Vec<OwnedEventId>,
    /// The state hash of the approved text, in unpadded URL-safe base64.
    pub state_hash: String,
    /// The hash of the rendered text (`spec/docs/rendering.md`), lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_hash: Option<String>,
    /// What the sender states about it. At most [`MAX_STATEMENT_BYTES`](crate::limits::MAX_STATEMENT_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_the_field_names_of_the_specification() {
        let approval = ApprovalContent {
            heads: vec!["$a".try_into().unwrap()],
            state_hash: "00".to_owned(),
            text_hash: Some("11".to_owned()),
            statement: Some("Agreed.".to_owned()),
        };
        assert_eq!(
            serde_json::to_value(&approval).unwrap(),
            serde_json::json!({"heads": ["$a"], "state_hash": "00", "text_hash": "11", "statement": "Agreed."})
        );
        let redacted: LockContent = serde_json::from_str("{}").unwrap();
        assert_eq!(redacted, LockContent::default());
        assert!(serde_json::from_str::<ApprovalContent>("{}").is_err());
    }
}
