//! A query and its hits, as data.

use ruma::{OwnedEventId, OwnedRoomId};

use crate::words::Phrase;

/// The part of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The title.
    Title,
    /// The text.
    Text,
    /// Messages with an anchor, and replies to them.
    Comment,
    /// Other messages.
    Chat,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] = [Self::Title, Self::Text, Self::Comment, Self::Chat];

    /// The name, as in `in=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Text => "text",
            Self::Comment => "comments",
            Self::Chat => "chat",
        }
    }

    /// The part with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// What is searched.
#[derive(Debug, Clone)]
pub struct Query {
    /// All of them must be in one passage; not empty.
    pub phrases: Vec<Phrase>,
    /// Where; not empty.
    pub parts: Vec<Part>,
    /// In these documents only.
    pub documents: Vec<OwnedRoomId>,
    /// Hits to leave out.
    pub offset: usize,
    /// Hits at most, at least one.
    pub limit: usize,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The document.
    pub document: OwnedRoomId,
    /// Where in it.
    pub part: Part,
    /// The message.
    pub event: Option<OwnedEventId>,
    /// The passage as it was indexed.
    pub passage: String,
}
