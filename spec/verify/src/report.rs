//! What a verification found: the first thing that is wrong, what can't be judged, and a summary. Must not decide anything.

use std::{collections::BTreeMap, fmt};

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomVersionId};
use weft_wire::document::DocumentKind;

/// The rules of an audit file, by the names of `spec/docs/audit.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A line is not one of the format, or is at the wrong place.
    Form,
    /// The file ends before its last line.
    Truncated,
    /// A key is unusable, or given twice with different values.
    Key,
    /// An event is not one of the room version.
    Event,
    /// An event has another id than its line says.
    EventId,
    /// An event is of another room.
    Room,
    /// An event is in the file twice.
    Duplicate,
    /// A required signature is missing, wrong, or of a key that was not valid at the event's time.
    Signature,
    /// The content is not the one that was signed.
    ContentHash,
    /// An event comes before one that it references.
    Order,
    /// A second create event.
    Create,
    /// An event that the authorisation rules reject and that no event of the log follows.
    Authorisation,
    /// The number of events differs from the one that the last line says.
    Count,
    /// The heads differ from those that the last line says.
    Heads,
    /// The text differs from the one that the last line says.
    StateHash,
    /// The rendered text differs from the one that the last line says. Only found with a renderer ([`Report::check_text_hash`]).
    TextHash,
}

impl Rule {
    /// Its name in the specification and in the output of `weft verify`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Truncated => "truncated",
            Self::Key => "key",
            Self::Event => "event",
            Self::EventId => "event_id",
            Self::Room => "room",
            Self::Duplicate => "duplicate",
            Self::Signature => "signature",
            Self::ContentHash => "content_hash",
            Self::Order => "order",
            Self::Create => "create",
            Self::Authorisation => "authorisation",
            Self::Count => "count",
            Self::Heads => "heads",
            Self::StateHash => "state_hash",
            Self::TextHash => "text_hash",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The first thing in a file that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The line, counted from 1.
    pub line: u64,
    /// The event, if it is about one.
    pub event: Option<OwnedEventId>,
    /// The rule.
    pub rule: Rule,
    /// What is wrong, for people.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if let Some(event) = &self.event {
            write!(formatter, ", event {event}")?;
        }
        write!(formatter, ": {}: {}", self.rule, self.why)
    }
}

/// Why a file, or a part of it, can't be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// This version does not know the format.
    #[error("the file has format {0}, which this version does not know")]
    Format(u32),
    /// This version does not know the rules of the room.
    #[error("room version {0} is not supported")]
    RoomVersion(RoomVersionId),
    /// The file is larger than a verifier reads.
    #[error("the file has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The keys with which a server signed are not known.
    #[error("no key of {server} is known that signed {events} events, the first of them {first}")]
    Key {
        /// The server.
        server: OwnedServerName,
        /// The number of its events.
        events: u64,
        /// The first of them.
        first: OwnedEventId,
    },
    /// The history before some events is not in the file.
    #[error("the history before {events} events is not in the file, so neither it nor the text can be judged")]
    Cut {
        /// The number of absent events that others reference.
        events: u64,
    },
    /// Content is missing that no redaction removed.
    #[error("the content of {events} events is missing and was not redacted, the first of them {first}")]
    Content {
        /// The number of these events.
        events: u64,
        /// The first of them.
        first: OwnedEventId,
    },
}

/// Why a verification has no report.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The file can't be read.
    #[error("the file can't be read: {0}")]
    Read(#[from] std::io::Error),
    /// Something is wrong.
    #[error("{0}")]
    Wrong(Box<Wrong>),
    /// The file can't be judged at all.
    #[error("{0}")]
    Unjudged(Doubt),
    /// Two events claim the same clocks: verify it again with [`crate::Options::keep_events`].
    #[error("two events claim the same clocks, and all events are needed to decide between them")]
    ClaimedTwice,
}

impl From<Wrong> for Failed {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(Box::new(wrong))
    }
}

/// Up to which point a server has confirmed the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its newest event that is not a membership event: it confirms everything that this one follows.
    pub event: OwnedEventId,
    /// The time in that event.
    pub at: MilliSecondsSinceUnixEpoch,
    /// The number of events of the log that it confirms.
    pub events: u64,
}

/// The summary of a file in which nothing is wrong.
#[derive(Debug, Clone)]
pub struct Report {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub room_version: RoomVersionId,
    /// The server that exported the file.
    pub server: OwnedServerName,
    /// Events, without those before a cut.
    pub events: u64,
    /// Events that only state what was before a cut.
    pub before: u64,
    /// Updates that are part of the text.
    pub updates: u64,
    /// Events that the authorisation rules reject; they have no effect.
    pub rejected: u64,
    /// Events whose content was redacted.
    pub redacted: u64,
    /// The heads, sorted.
    pub heads: Vec<OwnedEventId>,
    /// The hash of the text, unpadded URL-safe base64; `None` if it can't be judged.
    pub state_hash: Option<String>,
    /// Whether the file says a hash, and it is this one.
    pub state_hash_stated: bool,
    /// The kind of the document at the heads; `None` if there are too many heads to tell.
    pub kind: Option<DocumentKind>,
    /// The text, as a Yjs v1 update, with [`crate::Options::keep_text`]; `None` if it can't be judged, or is larger than a renderer takes.
    pub text: Option<Vec<u8>>,
    /// The hash of the rendered text that the file says.
    pub text_hash_stated: Option<String>,
    /// The number of the last line.
    pub last_line: u64,
    /// Clocks were claimed twice: later events may change the text.
    pub disputed: bool,
    /// The keys that were used: server, key id, public key in unpadded standard base64.
    pub keys: Vec<(OwnedServerName, String, String)>,
    /// Servers with joined users at the heads; `None` if there are too many heads to tell.
    pub servers: Option<Vec<OwnedServerName>>,
    /// By server, which events it has confirmed.
    pub witnesses: BTreeMap<OwnedServerName, Witness>,
    /// What can't be judged. Empty: the file is good.
    pub doubts: Vec<Doubt>,
}

impl Report {
    /// Compares the hash of the rendered text with the one that the file says. False if the file says none.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check_text_hash(&self, found: &str) -> Result<bool, Wrong> {
        match &self.text_hash_stated {
            Some(stated) if stated != found => Err(Wrong {
                line: self.last_line,
                event: None,
                rule: Rule::TextHash,
                why: format!("the rendered text has the hash {found}"),
            }),
            stated => Ok(stated.is_some()),
        }
    }

    /// Whether everything could be judged.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.doubts.is_empty()
    }
}
