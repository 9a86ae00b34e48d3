//! Notices of a live socket (`spec/docs/live.md`, "What is refused"): JSON in a frame that stock clients forward to the
//! application or ignore. Must not be required for a client to stay in sync with the document.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_NOTICE_BLOCKS;

/// What a client is told about its edits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Notice {
    /// Edits were not taken, or only in part.
    #[serde(rename = "dev.weft.refused")]
    Refused {
        /// The name of the rule in `spec/docs/admission.md`.
        code: String,
        /// The same, for people.
        reason: String,
        /// The refused content if only a part was refused: it was taken as deleted. With `read_only` and `locked` the content that the
        /// edit would have inserted, none of which was taken. At most [`MAX_NOTICE_BLOCKS`] pieces.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        blocks: Vec<RefusedBlock>,
        /// With `read_only` and `locked` the content that the edit would have deleted. At most [`MAX_NOTICE_BLOCKS`] pieces.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deleted: Vec<RefusedBlock>,
        /// The users whose edits the client sent and may not send.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        users: Vec<OwnedUserId>,
        /// Whether the user's own edits build on those edits, wait for them and are not saved.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unsaved: bool,
    },
    /// The edit is saved, and the document is above `NEARLY_FULL_PERCENT` of a limit. Edits above the limits are refused.
    #[serde(rename = "dev.weft.nearly_full", rename_all = "camelCase")]
    NearlyFull {
        /// Bytes of the text with its deleted parts.
        bytes: usize,
        /// Their limit.
        max_bytes: usize,
        /// Different client ids.
        clients: usize,
        /// Their limit.
        max_clients: usize,
    },
}

/// Units of one Yjs client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBlock {
    /// The client id.
    pub client: u64,
    /// The first unit.
    pub clock: u32,
    /// The number of units.
    pub length: u32,
}

impl Notice {
    /// A refusal by a rule.
    #[must_use]
    pub fn refused(code: &str, reason: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            reason: reason.into(),
            blocks: Vec::new(),
            deleted: Vec::new(),
            users: Vec::new(),
            unsaved: false,
        }
    }

    /// Names the refused content; at most [`MAX_NOTICE_BLOCKS`] pieces.
    #[must_use]
    pub fn of_blocks(mut self, named: impl IntoIterator<Item = RefusedBlock>) -> Self {
        if let Self::Refused { blocks, .. } = &mut self {
            *blocks = named.into_iter().take(MAX_NOTICE_BLOCKS).collect();
        }
        self
    }

    /// Names the content that would have been deleted; at most [`MAX_NOTICE_BLOCKS`] pieces.
    #[must_use]
    pub fn of_deletions(mut self, named: impl IntoIterator<Item = RefusedBlock>) -> Self {
        if let Self::Refused { deleted, .. } = &mut self {
            *deleted = named.into_iter().take(MAX_NOTICE_BLOCKS).collect();
        }
        self
    }

    /// Adds the users whose edits were left out, and whether the sender's own edits wait for them.
    #[must_use]
    pub fn of_users(mut self, named: Vec<OwnedUserId>, waiting: bool) -> Self {
        if let Self::Refused { users, unsaved, .. } = &mut self {
            *users = named;
            *unsaved = waiting;
        }
        self
    }

    /// The text of the frame.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: serialisation cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_omits_empty_fields_and_limits_the_named_blocks() {
        let notice = Notice::refused("piece_too_large", "too large");
        assert_eq!(
            notice.to_json(),
            r#"{"type":"dev.weft.refused","code":"piece_too_large","reason":"too large"}"#
        );
        let block = RefusedBlock {
            client: 7,
            clock: 1,
            length: 2,
        };
        let many = notice.clone().of_blocks(std::iter::repeat_n(block, 1_000));
        assert!(matches!(&many, Notice::Refused { blocks, .. } if blocks.len() == MAX_NOTICE_BLOCKS));
        let user: OwnedUserId = "@a:alpha.example".try_into().unwrap();
        let json = notice.of_users(vec![user], true).to_json();
        assert!(
            json.ends_with(r#""users":["@a:alpha.example"],"unsaved":true}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Notice>(&many.to_json()).unwrap(), many);
        let full = Notice::NearlyFull {
            bytes: 9,
            max_bytes: 10,
            clients: 1,
            max_clients: 2,
        };
        assert_eq!(
            full.to_json(),
            r#"{"type":"dev.weft.nearly_full","bytes":9,"maxBytes":10,"clients":1,"maxClients":2}"#
        );
    }
}
