//! The seam of the rooms: what a room can be called for, and what it answers. All of it is data that can be sent to the
//! process that serves the room.
//!
//! Events cross with their JSON, id and room version, and are not verified again: the sender is a process of this server,
//! and only those may be given a link to the receiver. Must not hold a channel, a lock or anything else that belongs to
//! one process; commands of a room's own tasks are in the mailbox of its worker.

use bytes::Bytes;
use ruma::{CanonicalJsonObject, OwnedEventId, RoomVersionId};
use serde::{Deserialize, Serialize};
use weft_wire::trace_context::TraceContext;

use crate::{
    Accepted, CurrentText, Edit, EditOutcome, EditToSend, EventOfText, JoinedRoom, NewEvent, NewRoom, RequestOutcome,
    RequestedEdit, RoomError, SignedMembership, StateCondition, Template, Unavailable, UnsentEvent,
};

/// A command to a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomCommand {
    /// Create the room; its create event is already signed, because it may determine the room id. Answer: `Done`.
    Create(Box<NewRoom>),
    /// Send an event. Answer: `Sent`.
    Send(Box<NewEvent>),
    /// Send an event if the state is as the caller read it. Answer: `Sent`, or the error `StateChanged`.
    SendIf(Box<NewEvent>, Vec<StateCondition>),
    /// Send an event about the present text. Answer: `Sent`, or the errors `StateChanged` and `TextChanged`.
    SendOfText(Box<EventOfText>),
    /// Build and sign an event without persisting it. Answer: `Drafted`.
    Draft(Box<NewEvent>),
    /// Apply an edit. Answer: `Edited`.
    Edit(Edit),
    /// Apply an edit that a request makes. Answer: `EditRequested`.
    RequestEdit(Box<RequestedEdit>),
    /// Send an edit as events. Answer: `AllSent`.
    SendEdit(Box<EditToSend>),
    /// The state vector of everything acknowledged. Answer: `Bytes`.
    Vector,
    /// The update with what is missing from this state vector. Answer: `Bytes`.
    Diff(Bytes),
    /// The whole text, with what its state hash depends on. Answer: `Text`.
    Text,
    /// Seal the pending edits. Answer: `Done`.
    Seal,
    /// Merge staged events. Answer: `Done`, when the first of them are merged.
    Ingest,
    /// Adopt a room that was joined through another server. Answer: `Done`.
    Adopt(Box<JoinedRoom>),
    /// Build a membership event for a user of another server to sign. Answer: `Template`.
    Template(Template),
    /// A membership event that another server signed. Answer: `Accepted`.
    Accept(Box<SignedMembership>),
}

/// A command as a router carries it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoutedCommand {
    /// The command.
    pub command: RoomCommand,
    /// The span that gave it, if spans are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceContext>,
}

impl From<RoomCommand> for RoutedCommand {
    fn from(command: RoomCommand) -> Self {
        Self {
            command,
            traceparent: None,
        }
    }
}

impl RoomCommand {
    /// All names that [`RoomCommand::name`] returns.
    pub const NAMES: [&'static str; 16] = [
        "create",
        "send",
        "send_if",
        "send_of_text",
        "draft",
        "edit",
        "request_edit",
        "send_edit",
        "vector",
        "diff",
        "text",
        "seal",
        "ingest",
        "adopt",
        "template",
        "accept",
    ];

    /// The name of the command, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Send(_) => "send",
            Self::SendIf(..) => "send_if",
            Self::SendOfText(_) => "send_of_text",
            Self::Draft(_) => "draft",
            Self::Edit(_) => "edit",
            Self::RequestEdit(_) => "request_edit",
            Self::SendEdit(_) => "send_edit",
            Self::Vector => "vector",
            Self::Diff(_) => "diff",
            Self::Text => "text",
            Self::Seal => "seal",
            Self::Ingest => "ingest",
            Self::Adopt(_) => "adopt",
            Self::Template(_) => "template",
            Self::Accept(_) => "accept",
        }
    }
}

/// A notice to a room that may be lost: without it something is only slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomHint {
    /// A user of another server is live in the document: seals follow edits sooner.
    RemotePresence,
}

/// An unsigned membership event of a user of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsignedEvent {
    /// The room's version.
    pub version: RoomVersionId,
    /// The event.
    pub event: CanonicalJsonObject,
}

/// Declares the answers, each with the type that a caller gets.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident($inner:ty)),* $(,)?) => {
        /// A room's answer to a command.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum RoomReply {
            $($(#[$doc])* $name($inner)),*
        }

        $(
            impl From<$inner> for RoomReply {
                fn from(reply: $inner) -> Self {
                    Self::$name(reply)
                }
            }

            impl TryFrom<RoomReply> for $inner {
                type Error = RoomError;

                fn try_from(reply: RoomReply) -> Result<Self, RoomError> {
                    match reply {
                        RoomReply::$name(reply) => Ok(reply),
                        // Another version of the program serves the room.
                        _ => Err(Unavailable::Internal("the room's answer is of another kind".to_owned()).into()),
                    }
                }
            }
        )*
    };
}

replies! {
    /// The command was done.
    Done(()),
    /// The event that was sent.
    Sent(OwnedEventId),
    /// The events that were sent.
    AllSent(Vec<OwnedEventId>),
    /// The event that was built.
    Drafted(UnsentEvent),
    /// The outcome of an edit.
    Edited(EditOutcome),
    /// The outcome of a request's edit.
    EditRequested(RequestOutcome),
    /// A state vector or an update.
    Bytes(Bytes),
    /// The text of a document.
    Text(CurrentText),
    /// The event to sign.
    Template(UnsignedEvent),
    /// What became of a membership event.
    Accepted(Accepted),
}
