//! Edits of a document, their outcome, and its text. Must not decide what is admissible.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weft_crdt::{Document, Refused, StateHash};
use weft_wire::limits::{MAX_CLIENTS_PER_DOCUMENT, MAX_DOCUMENT_BYTES, NEARLY_FULL_PERCENT};

use crate::{ConnectionId, event_forms::TextForm};

/// An edit from a live connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edit {
    /// The author.
    pub user: OwnedUserId,
    /// The connection.
    pub session: ConnectionId,
    /// A Yjs v1 update, at most `weft_crdt::limits::LIVE_BYTES`.
    pub update: Bytes,
}

/// An edit that becomes events at once, which say what it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EditToSend {
    /// The author, a user of this server.
    pub user: OwnedUserId,
    /// A Yjs v1 update, at most `weft_crdt::limits::LIVE_BYTES`.
    pub update: Bytes,
    /// More fields of the content of each event, such as those of `weft_wire::purpose::Purpose`.
    pub fields: Map<String, Value>,
}

/// The outcome of an edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EditOutcome {
    /// It is on disk.
    Journaled,
    /// It is on disk, and the document is nearly full.
    NearlyFull(Fill),
    /// All of it was already on disk.
    NothingNew,
    /// It depends on blocks that the server does not have: the client must send what is missing from this state vector.
    Missing {
        /// The server's state vector, encoded.
        server_vector: Bytes,
    },
    /// A part of it, or all that the user may contribute, is on disk; another part was not applied.
    Partly(Partly),
}

/// How full a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Bytes of the text with its deleted parts, in which a block counts as at least `MIN_BLOCK_BYTES`; at most
    /// `MAX_DOCUMENT_BYTES`.
    pub bytes: usize,
    /// Different client ids; at most `MAX_CLIENTS_PER_DOCUMENT`.
    pub clients: usize,
}

impl Fill {
    /// Whether one of them is above `NEARLY_FULL_PERCENT` of its limit.
    #[must_use]
    pub fn is_nearly_full(self) -> bool {
        let nearly = |used: usize, limit: usize| used > limit / 100 * NEARLY_FULL_PERCENT;
        nearly(self.bytes, MAX_DOCUMENT_BYTES) || nearly(self.clients, MAX_CLIENTS_PER_DOCUMENT)
    }
}

/// The part of an edit that was not applied as sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partly {
    /// Set if a part depends on blocks that the server does not have: the server's state vector, encoded, as in
    /// [`EditOutcome::Missing`].
    pub missing: Option<Bytes>,
    /// Content that no event can carry. Its clocks are used, as if it had been written and deleted at once.
    pub refused: Vec<RefusedContent>,
    /// The update by which the editor deletes that content too; `None` if there is none.
    pub correction: Option<Bytes>,
    /// Other users whose new blocks were in it. Only these users can contribute them.
    pub foreign: Vec<OwnedUserId>,
}

/// Content of an edit that no event can carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedContent {
    /// The client id under which it was written.
    pub client: u64,
    /// Its first clock.
    pub clock: u32,
    /// The number of units.
    pub length: u32,
    /// The rule, by its name in `spec/docs/admission.md`.
    pub rule: Cow<'static, str>,
}

impl From<&Refused> for RefusedContent {
    fn from(refused: &Refused) -> Self {
        Self {
            client: refused.at.client.get(),
            clock: refused.at.clock,
            length: refused.len,
            rule: refused.reason.code().into(),
        }
    }
}

/// The text of a document as of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "TextForm", try_from = "TextForm")]
pub struct CurrentText {
    /// Everything acknowledged.
    pub text: Arc<Document>,
    /// Clocks are claimed twice.
    pub is_disputed: bool,
}

impl CurrentText {
    /// Identifies the text, unless clocks are claimed twice: then two texts with the same clocks differ.
    #[must_use]
    pub fn state_hash(&self) -> Option<StateHash> {
        (!self.is_disputed).then(|| self.text.state_hash())
    }

    /// The whole text, as one update.
    #[must_use]
    pub fn update(&self) -> Bytes {
        self.text.encode().into()
    }
}
