//! Memberships that two servers agree on: templates, signed membership events, and rooms that were joined through another
//! server. Must not decide what is allowed.

use std::sync::Arc;

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};
use weft_dag::{Pdu, StateMap, Verified};

use crate::event_forms::{JoinAnswerForm, JoinedRoomForm, SignedMembershipForm};

/// The requested membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateKind {
    /// `join`
    Join,
    /// `leave`
    Leave,
    /// `knock`
    Knock,
}

/// A request for an event to sign.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Template {
    /// A user of the requesting server.
    pub user: OwnedUserId,
    /// The membership.
    pub kind: TemplateKind,
}

/// The answer to send_join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "JoinAnswerForm", try_from = "JoinAnswerForm")]
pub struct JoinAnswer {
    /// The room's version.
    pub version: RoomVersionId,
    /// The event; with this server's signature if the join is restricted and a user of this server authorises it.
    pub event: Arc<Pdu>,
    /// The state before it.
    pub state: Vec<Arc<Pdu>>,
    /// The auth chain of that state and of the event.
    pub auth_chain: Vec<Arc<Pdu>>,
}

/// A membership event that another server signed, and what is needed to decide about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "SignedMembershipForm", try_from = "SignedMembershipForm")]
pub struct SignedMembership {
    /// The room's version.
    pub version: RoomVersionId,
    /// The server that sent it.
    pub origin: OwnedServerName,
    /// The event.
    pub event: Verified,
    /// The remote state before it, if that was fetched.
    pub remote_state: Option<StateMap>,
}

/// The worker's answer about a membership event that another server signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Accepted {
    /// It is persisted.
    Yes(Box<JoinAnswer>),
    /// Something must be fetched first; the reason is the answer if it isn't available.
    Lacks(Lacks, String),
}

impl From<JoinAnswer> for Accepted {
    fn from(answer: JoinAnswer) -> Self {
        Self::Yes(Box::new(answer))
    }
}

/// The answer to a join, with every event's signatures checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "JoinedRoomForm", try_from = "JoinedRoomForm")]
pub struct JoinedRoom {
    /// The room's version.
    pub version: RoomVersionId,
    /// The state before the join.
    pub state: Vec<Verified>,
    /// The auth chain of that state.
    pub auth_chain: Vec<Verified>,
    /// The join.
    pub event: Verified,
    /// The server that answered.
    pub resident: OwnedServerName,
    /// The document as a snapshot of that server: shown at once, checked against the events afterwards.
    pub snapshot: Option<Bytes>,
}

/// What is missing to decide about an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lacks {
    /// Some of its `prev_events`.
    Prev,
    /// These auth events, of the event or of the states before it.
    Auth(Vec<OwnedEventId>),
}
