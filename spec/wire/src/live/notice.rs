//! What a live socket tells a client in words (`spec/docs/live.md`, "What is refused"): JSON in a frame that stock clients pass on
//! or ignore. No client needs it to stay in step with the document.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::limits::MAX_NOTICE_BLOCKS;

/// Edits that were not taken as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Notice {
    /// Something was refused.
    #[serde(rename = "dev.weft.refused")]
    Refused {
        /// The rule: a name of `spec/docs/admission.md`.
        code: String,
        /// The same for a person.
        reason: String,
        /// The content that was refused, where it was only a part: it was taken as deleted. At most 16 pieces are named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        blocks: Vec<RefusedBlock>,
        /// The users whose edits the client sent and may not send.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        users: Vec<OwnedUserId>,
        /// Edits of the client's own user wait and are not saved.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unsaved: bool,
    },
}

/// Units of one Yjs client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedBlock {
    /// The client id.
    pub client: u64,
    /// The first unit.
    pub clock: u32,
    /// How many.
    pub length: u32,
}

impl Notice {
    /// A refusal of a rule.
    #[must_use]
    pub fn refused(code: &str, reason: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            reason: reason.into(),
            blocks: Vec::new(),
            users: Vec::new(),
            unsaved: false,
        }
    }

    /// The same, naming the content.
    #[must_use]
    pub fn of_blocks(self, named: impl IntoIterator<Item = RefusedBlock>) -> Self {
        match self {
            Self::Refused {
                code,
                reason,
                users,
                unsaved,
                ..
            } => Self::Refused {
                code,
                reason,
                blocks: named.into_iter().take(MAX_NOTICE_BLOCKS).collect(),
                users,
                unsaved,
            },
        }
    }

    /// The same, naming the users whose edits they are, and whether own ones wait for them.
    #[must_use]
    pub fn of_users(self, named: Vec<OwnedUserId>, waiting: bool) -> Self {
        match self {
            Self::Refused {
                code, reason, blocks, ..
            } => Self::Refused {
                code,
                reason,
                blocks,
                users: named,
                unsaved: waiting,
            },
        }
    }

    /// The text of the frame.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists: nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_what_there_is_to_say() {
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
        let Notice::Refused { blocks, .. } = &many;
        assert_eq!(blocks.len(), MAX_NOTICE_BLOCKS);
        let user: OwnedUserId = "@a:alpha.example".try_into().unwrap();
        let json = notice.of_users(vec![user], true).to_json();
        assert!(
            json.ends_with(r#""users":["@a:alpha.example"],"unsaved":true}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Notice>(&many.to_json()).unwrap(), many);
    }
}
