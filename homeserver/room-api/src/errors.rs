//! The one error of the rooms: what a caller of a room gets instead of a reply. It is data, because a room may be called
//! from another process.
//!
//! Small enums inside it keep the cases apart that a caller distinguishes. Each case has a stable code; the code and the
//! fields cross the process boundary, and the text is for logs. Must not choose what clients see: the gateway does that.

use std::{borrow::Cow, time::Duration};

use ruma::{OwnedEventId, OwnedRoomAliasId, OwnedRoomId};
use serde::{Deserialize, Serialize};
use weft_budget::Overspent;
use weft_store::{CommitError, ReadError};
use weft_wire::{Role, live::notice::RefusedBlock};

/// Why an operation is not possible at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum Unavailable {
    /// The server is stopping. Nothing was done.
    #[error("the server is stopping")]
    Stopping,
    /// Another process serves the room. Nothing was done; the caller finds the room again and repeats the command.
    #[error("another process serves the room")]
    Moved,
    /// Another commit changed the same rows first. Nothing was written.
    #[error("the row of table {table} that this commit depends on has changed")]
    Conflict {
        /// Name of the table whose row differs.
        table: Cow<'static, str>,
    },
    /// The room's worker was interrupted; the outcome of the command is unknown.
    #[error("the room's worker was interrupted")]
    Interrupted,
    /// Stored data that can't be parsed.
    #[error("stored data can't be read: {0}")]
    Damaged(String),
    /// The store can't be read now.
    #[error("{0}")]
    Unreadable(String),
    /// The store accepts no writes until it is opened again. The last write may be on disk.
    #[error("{0}")]
    Unwritable(String),
    /// The program asked the store for something that it can't do: a bug.
    #[error("{0}")]
    Internal(String),
}

/// What a caller can conclude from [`Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done. The same command may be sent again, to this process or to another one.
    NotDone,
    /// It may have been done: only a command whose repetition has no effect may be sent again.
    Unknown,
    /// Nothing was done, and repeating it gives the same result until an operator acts.
    Broken,
}

impl Unavailable {
    /// The stable name of the case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Moved => "moved",
            Self::Conflict { .. } => "conflict",
            Self::Interrupted => "interrupted",
            Self::Damaged(_) => "damaged",
            Self::Unreadable(_) => "unreadable",
            Self::Unwritable(_) => "unwritable",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether the command was done, as far as it is known.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Stopping | Self::Moved | Self::Conflict { .. } | Self::Unreadable(_) => Outcome::NotDone,
            Self::Interrupted | Self::Unwritable(_) => Outcome::Unknown,
            Self::Damaged(_) | Self::Internal(_) => Outcome::Broken,
        }
    }
}

impl From<ReadError> for Unavailable {
    fn from(error: ReadError) -> Self {
        let text = error.to_string();
        match error {
            ReadError::Engine { .. } | ReadError::Closed => Self::Unreadable(text),
            ReadError::Corrupt { .. } => Self::Damaged(text),
            ReadError::NoScope { .. } => Self::Internal(text),
        }
    }
}

impl From<CommitError> for Unavailable {
    fn from(error: CommitError) -> Self {
        let text = error.to_string();
        match error {
            CommitError::Fence { table } => Self::Conflict { table: table.into() },
            CommitError::LaneLost { .. } => Self::Moved,
            CommitError::InDoubt { .. } => Self::Interrupted,
            CommitError::Poisoned { .. } => Self::Unwritable(text),
            CommitError::Closed => Self::Unreadable(text),
            CommitError::Invalid { .. } => Self::Internal(text),
        }
    }
}

/// Why a room did not do what it was called for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum RoomError {
    /// The room is unknown here.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// No user of this server is in the room, so that it can't answer for the room to other servers.
    #[error("room {0} has no user of this server")]
    NotResident(OwnedRoomId),
    /// The room is not a document.
    #[error("room {0} is not a document")]
    NotADocument(OwnedRoomId),
    /// An event that is not in the room, or that this server does not have.
    #[error("event {0} is not known in this room")]
    UnknownEvent(OwnedEventId),
    /// The room version is not supported.
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// Against the room's rules.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// The state is not as the caller read it. Nothing was done: the caller reads it again and decides anew.
    #[error("the state entry {kind} has changed")]
    StateChanged {
        /// Type of the entry.
        kind: String,
    },
    /// The text is not the one that the caller read. Nothing was done.
    #[error("the text has changed")]
    TextChanged,
    /// The caller's state vector can't be read.
    #[error("not a state vector: {0}")]
    BadVector(String),
    /// An event was not sent.
    #[error(transparent)]
    Event(#[from] EventRefusal),
    /// An edit was not applied.
    #[error(transparent)]
    Edit(#[from] EditRefusal),
    /// The text at an event can't be returned.
    #[error(transparent)]
    Content(#[from] ContentRefusal),
    /// A room was not created.
    #[error(transparent)]
    Create(#[from] CreateRefusal),
    /// A membership of another server was not accepted.
    #[error(transparent)]
    Membership(#[from] MembershipRefusal),
    /// A joined room was not adopted.
    #[error(transparent)]
    Adopt(#[from] AdoptRefusal),
    /// An alias, a directory entry or a user's list was not changed.
    #[error(transparent)]
    Directory(#[from] DirectoryRefusal),
    /// An out-of-band invitation or knock was not stored or not ended.
    #[error(transparent)]
    OutOfBand(#[from] OutOfBandRefusal),
    /// A budget is exhausted. Nothing was done.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// Not possible at the moment. After an edit: it may or may not be on disk; send it again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl RoomError {
    /// The stable name of the case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownRoom(_) => "unknown_room",
            Self::NotResident(_) => "not_resident",
            Self::NotADocument(_) => "not_a_document",
            Self::UnknownEvent(_) => "unknown_event",
            Self::UnsupportedVersion(_) => "unsupported_version",
            Self::Forbidden { .. } => "forbidden",
            Self::StateChanged { .. } => "state_changed",
            Self::TextChanged => "text_changed",
            Self::BadVector(_) => "bad_vector",
            Self::Event(refusal) => refusal.code(),
            Self::Edit(refusal) => refusal.code(),
            Self::Content(refusal) => refusal.code(),
            Self::Create(refusal) => refusal.code(),
            Self::Membership(refusal) => refusal.code(),
            Self::Adopt(refusal) => refusal.code(),
            Self::Directory(refusal) => refusal.code(),
            Self::OutOfBand(refusal) => refusal.code(),
            Self::LimitExceeded(_) => "limit_exceeded",
            Self::Unavailable(unavailable) => unavailable.code(),
        }
    }

    /// Against the room's rules.
    #[must_use]
    pub fn forbidden(reason: impl Into<String>) -> Self {
        Self::Forbidden { reason: reason.into() }
    }
}

impl From<ReadError> for RoomError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<CommitError> for RoomError {
    fn from(error: CommitError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// A user or a server has used up what it may store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("budget {budget} is exhausted (limit {limit}); try again in {} s", retry_after.as_secs().max(1))]
pub struct LimitExceeded {
    /// The name of the budget.
    pub budget: Cow<'static, str>,
    /// The limit that would have been exceeded, in bytes or edits.
    pub limit: u64,
    /// When it may be worth trying again.
    pub retry_after: Duration,
}

/// The name of the budget of one user's edits of a document.
pub const EDITS_PER_USER: &str = "edits_of_a_user_in_10_seconds";
/// The name of the budget of all edits of a document.
pub const EDITS_PER_DOCUMENT: &str = "edits_of_a_document_in_10_seconds";

impl LimitExceeded {
    /// The document is edited too often: the same edit is accepted a little later.
    #[must_use]
    pub fn is_of_rate(&self) -> bool {
        matches!(&*self.budget, EDITS_PER_USER | EDITS_PER_DOCUMENT)
    }
}

impl From<Overspent> for LimitExceeded {
    fn from(overspent: Overspent) -> Self {
        Self {
            budget: overspent.exhausted.name.into(),
            limit: overspent.exhausted.limit,
            retry_after: overspent.retry_after,
        }
    }
}

impl From<Overspent> for RoomError {
    fn from(overspent: Overspent) -> Self {
        Self::LimitExceeded(overspent.into())
    }
}

/// Why an event was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum EventRefusal {
    /// The content is not canonical JSON: floats, or integers out of range.
    #[error("the content is not canonical JSON: {reason}")]
    BadContent {
        /// What is wrong.
        reason: String,
    },
    /// Over 65,536 bytes, or a field over 255.
    #[error("the event is too large: {reason}")]
    TooLarge {
        /// Which limit.
        reason: String,
    },
    /// An update of the document that is not admissible.
    #[error("the update is not admissible: {reason}")]
    Inadmissible {
        /// The rule.
        reason: String,
    },
    /// An invitation to a document, or a join, that would be one participant too many.
    #[error("the document has {limit} participants, joined and invited, and can't have more on this server")]
    TooManyParticipants {
        /// How many there may be.
        limit: usize,
    },
}

impl EventRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::BadContent { .. } => "bad_content",
            Self::TooLarge { .. } => "event_too_large",
            Self::Inadmissible { .. } => "inadmissible",
            Self::TooManyParticipants { .. } => "too_many_participants",
        }
    }
}

/// What an edit that was refused as a whole would have changed: at most `MAX_NOTICE_BLOCKS` ranges of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEdit {
    /// Content that the document does not have.
    pub inserted: Vec<RefusedBlock>,
    /// Content that the document has.
    pub deleted: Vec<RefusedBlock>,
}

/// Why an edit was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum EditRefusal {
    /// The user is not joined.
    #[error("the user is not in the room")]
    NotJoined,
    /// The user's role is too low.
    #[error("a {} may not edit", role.name())]
    Role {
        /// The user's role.
        role: Role,
        /// What the edit would have changed, for the user who made it offline.
        refused: RefusedEdit,
    },
    /// The document is locked (`spec/docs/lock.md`).
    #[error("the document is locked")]
    Locked {
        /// As for [`EditRefusal::Role`].
        refused: RefusedEdit,
    },
    /// Not a Yjs v1 update, or the update violates the admission rules.
    #[error("the update is not admissible: {reason}")]
    Update {
        /// The rule, by its name in `spec/docs/admission.md`.
        rule: Cow<'static, str>,
        /// What is wrong.
        reason: String,
    },
    /// The frame or the document would be too large.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Size.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// The document has the maximum number of client ids.
    #[error("the document has {0} client ids; no new one is accepted")]
    TooManyClients(usize),
}

impl EditRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotJoined => "not_joined",
            Self::Role { .. } => "role_too_low",
            Self::Locked { .. } => "locked",
            Self::Update { .. } => "update_refused",
            Self::TooLarge { .. } => "edit_too_large",
            Self::TooManyClients(_) => "too_many_clients",
        }
    }
}

impl From<weft_crdt::Refusal> for RoomError {
    fn from(refusal: weft_crdt::Refusal) -> Self {
        Self::Edit(refusal.into())
    }
}

impl From<weft_crdt::Refusal> for EditRefusal {
    fn from(refusal: weft_crdt::Refusal) -> Self {
        Self::Update {
            rule: refusal.code().into(),
            reason: refusal.to_string(),
        }
    }
}

/// Why the text at an event can't be returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum ContentRefusal {
    /// The room is not a document.
    #[error("room {0} is not a document")]
    NotADocument(OwnedRoomId),
    /// An event that is not in the room, or that this server does not have.
    #[error("event {0} is not known in this room")]
    UnknownEvent(OwnedEventId),
    /// The stored updates do not make up a text: some of the history is not here.
    #[error("the stored updates can't be merged: {0}")]
    Unmergeable(String),
}

impl ContentRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::NotADocument(_) => "content_of_no_document",
            Self::UnknownEvent(_) => "content_at_unknown_event",
            Self::Unmergeable(_) => "content_unmergeable",
        }
    }
}

/// Why a room was not created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum CreateRefusal {
    /// The alias belongs to another room.
    #[error("alias {0} is taken")]
    AliasTaken(OwnedRoomAliasId),
    /// An option can't be used.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field.
        field: Cow<'static, str>,
        /// What is wrong.
        reason: String,
    },
    /// One of the room's first events is not allowed or can't be built.
    #[error("{kind} was not accepted: {cause}")]
    Event {
        /// Type of the event.
        kind: String,
        /// Why.
        cause: Box<RoomError>,
    },
}

impl CreateRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::AliasTaken(_) => "alias_taken",
            Self::Invalid { .. } => "invalid_option",
            Self::Event { .. } => "first_event_refused",
        }
    }
}

/// Why a membership of another server's user was not prepared or accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum MembershipRefusal {
    /// Against the room's rules.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// Not a membership event that this endpoint accepts.
    #[error("not acceptable: {reason}")]
    BadEvent {
        /// What is wrong.
        reason: String,
    },
    /// This server can't decide whether a restricted join is allowed; another one may.
    #[error("this server can't authorise the join")]
    UnableToAuthorise,
}

impl MembershipRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "membership_forbidden",
            Self::BadEvent { .. } => "bad_membership_event",
            Self::UnableToAuthorise => "unable_to_authorise",
        }
    }
}

/// Why a room that was joined through another server was not adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum AdoptRefusal {
    /// The state is inconsistent.
    #[error("the room's state is not acceptable: {reason}")]
    BadState {
        /// What is wrong.
        reason: String,
    },
    /// The user's last membership ended while the join was in progress, and the resident server did not have that
    /// event.
    #[error("the join crossed the end of the user's last membership and is not accepted")]
    Overtaken,
}

impl AdoptRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::BadState { .. } => "bad_state",
            Self::Overtaken => "overtaken",
        }
    }
}

/// Why an alias or a user's list was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum DirectoryRefusal {
    /// The alias is in use.
    #[error("alias {0} is taken")]
    Taken(OwnedRoomAliasId),
    /// There is no such alias.
    #[error("alias {0} does not exist")]
    UnknownAlias(OwnedRoomAliasId),
    /// A user can forget a room only after leaving it.
    #[error("the user is still in the room")]
    StillIn,
}

impl DirectoryRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken(_) => "alias_in_use",
            Self::UnknownAlias(_) => "unknown_alias",
            Self::StillIn => "still_in_room",
        }
    }
}

/// Why an invitation or a knock was not stored, or not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", content = "detail", rename_all = "snake_case")]
pub enum OutOfBandRefusal {
    /// There are too many of them.
    #[error("there are too many open invitations")]
    TooMany {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// It can't be serialised.
    #[error("the invitation can't be stored: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl OutOfBandRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too_many_invitations",
            Self::Malformed { .. } => "malformed_invitation",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ruma::{event_id, room_alias_id, room_id};
    use weft_store::Lane;

    use super::*;

    fn text() -> String {
        "why".to_owned()
    }

    fn unavailable() -> Vec<Unavailable> {
        vec![
            Unavailable::Stopping,
            Unavailable::Moved,
            Unavailable::Conflict { table: "rooms".into() },
            Unavailable::Interrupted,
            Unavailable::Damaged(text()),
            Unavailable::Unreadable(text()),
            Unavailable::Unwritable(text()),
            Unavailable::Internal(text()),
        ]
    }

    fn refusals() -> Vec<RoomError> {
        let (room, event) = (room_id!("!r:a.example"), event_id!("$event"));
        let alias = room_alias_id!("#alias:a.example");
        let reason = text();
        vec![
            RoomError::UnknownRoom(room.to_owned()),
            RoomError::NotResident(room.to_owned()),
            RoomError::NotADocument(room.to_owned()),
            RoomError::UnknownEvent(event.to_owned()),
            RoomError::UnsupportedVersion("99".to_owned()),
            RoomError::forbidden("a rule"),
            RoomError::StateChanged { kind: text() },
            RoomError::TextChanged,
            RoomError::BadVector(text()),
            EventRefusal::BadContent { reason: text() }.into(),
            EventRefusal::TooLarge { reason: text() }.into(),
            EventRefusal::Inadmissible { reason: text() }.into(),
            ContentRefusal::NotADocument(room.to_owned()).into(),
            ContentRefusal::UnknownEvent(event.to_owned()).into(),
            ContentRefusal::Unmergeable(text()).into(),
            EventRefusal::TooManyParticipants { limit: 7 }.into(),
            CreateRefusal::AliasTaken(alias.to_owned()).into(),
            CreateRefusal::Invalid {
                field: "room_id".into(),
                reason: text(),
            }
            .into(),
            CreateRefusal::Event {
                kind: "m.room.name".to_owned(),
                cause: Box::new(EventRefusal::BadContent { reason }.into()),
            }
            .into(),
            MembershipRefusal::Forbidden { reason: text() }.into(),
            MembershipRefusal::BadEvent { reason: text() }.into(),
            MembershipRefusal::UnableToAuthorise.into(),
            AdoptRefusal::BadState { reason: text() }.into(),
            AdoptRefusal::Overtaken.into(),
            DirectoryRefusal::Taken(alias.to_owned()).into(),
            DirectoryRefusal::UnknownAlias(alias.to_owned()).into(),
            DirectoryRefusal::StillIn.into(),
            OutOfBandRefusal::TooMany {
                retry_after: Duration::from_secs(3),
            }
            .into(),
            OutOfBandRefusal::Malformed { reason: text() }.into(),
            LimitExceeded {
                budget: "bytes".into(),
                limit: 5,
                retry_after: Duration::from_secs(3),
            }
            .into(),
        ]
    }

    fn edit_refusals() -> [EditRefusal; 6] {
        [
            EditRefusal::NotJoined,
            EditRefusal::Role {
                role: Role::Viewer,
                refused: RefusedEdit {
                    inserted: vec![RefusedBlock {
                        client: 7,
                        clock: 0,
                        length: 3,
                    }],
                    deleted: Vec::new(),
                },
            },
            EditRefusal::Locked {
                refused: RefusedEdit::default(),
            },
            EditRefusal::Update {
                rule: "skip".into(),
                reason: text(),
            },
            EditRefusal::TooLarge { bytes: 3, limit: 2 },
            EditRefusal::TooManyClients(7),
        ]
    }

    #[test]
    fn every_error_survives_the_way_to_another_process() {
        let all = refusals()
            .into_iter()
            .chain(edit_refusals().into_iter().map(RoomError::from))
            .chain(unavailable().into_iter().map(RoomError::from));
        for error in all {
            let sent = serde_json::to_string(&error).unwrap();
            let received: RoomError = serde_json::from_str(&sent).unwrap();
            assert_eq!(received, error, "{sent}");
            assert_eq!(received.to_string(), error.to_string());
        }
    }

    #[test]
    fn every_case_has_its_own_code() {
        let all: Vec<_> = refusals()
            .into_iter()
            .chain(unavailable().into_iter().map(RoomError::from))
            .collect();
        let codes: BTreeSet<_> = all.iter().map(RoomError::code).collect();
        assert_eq!(codes.len(), all.len());
    }

    #[test]
    fn a_failure_of_the_store_says_whether_the_command_may_be_repeated() {
        let reason = text;
        let cases = [
            (CommitError::Fence { table: "rooms" }.into(), Outcome::NotDone),
            (CommitError::LaneLost { lane: Lane::FIRST }.into(), Outcome::NotDone),
            (CommitError::InDoubt { reason: reason() }.into(), Outcome::Unknown),
            (CommitError::Poisoned { reason: reason() }.into(), Outcome::Unknown),
            (CommitError::Closed.into(), Outcome::NotDone),
            (CommitError::Invalid { reason: reason() }.into(), Outcome::Broken),
            (ReadError::Engine { reason: reason() }.into(), Outcome::NotDone),
            (
                ReadError::Corrupt {
                    table: "rooms",
                    reason: reason(),
                }
                .into(),
                Outcome::Broken,
            ),
        ];
        for (error, outcome) in cases {
            let error: Unavailable = error;
            assert_eq!(error.outcome(), outcome, "{error}");
        }
    }
}
