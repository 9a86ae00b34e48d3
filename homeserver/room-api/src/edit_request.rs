//! Edits that a request makes, which is answered once and may be repeated. Must not decide what is admissible.

use bytes::Bytes;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use crate::RefusedContent;

/// An edit of a request. All of it is applied, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedEdit {
    /// The author.
    pub user: OwnedUserId,
    /// A Yjs v1 update, at most `weft_crdt::limits::LIVE_BYTES`.
    pub update: Bytes,
    /// The version that the document must have. `None`: any.
    pub if_version: Option<u64>,
    /// Under which name the answer is kept. `None`: a repetition is another edit.
    pub key: Option<RequestKey>,
}

/// The name of a request, and what is kept under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// The name, unique for the user and the key that the client chose.
    pub name: String,
    /// SHA-256 of what was requested.
    pub body: [u8; 32],
    /// The answer except for the version, in any form.
    pub answer: Bytes,
}

/// What became of a [`RequestedEdit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestOutcome {
    /// It is on disk, or changes nothing.
    Applied {
        /// The version of the document after it.
        version: u64,
    },
    /// The same request was answered before; nothing was applied now.
    Repeated {
        /// The version at that time.
        version: u64,
        /// [`RequestKey::answer`] of that request.
        answer: Bytes,
    },
    /// Another request had the same name.
    KeyReused,
    /// The document has another version than the edit requires.
    VersionChanged,
    /// It depends on blocks that the server does not have: the text was worked out again meanwhile.
    Missing,
    /// It has blocks of a client id that belongs to another user.
    Foreign,
    /// It has content that no event can carry.
    Refused(Vec<RefusedContent>),
}
