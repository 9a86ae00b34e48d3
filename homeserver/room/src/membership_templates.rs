//! make_join, make_leave, make_knock and their send_ halves, on the side that answers.

use std::sync::Arc;

use ruma::{CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName};
use weft_dag::{Pdu, Verified};

use crate::{Rooms, Unavailable, mailbox::Reply, turn::Turn, worker::Worker};

/// Which membership is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateKind {
    /// `join`
    Join,
    /// `leave`
    Leave,
    /// `knock`
    Knock,
}

/// A request for an event to sign.
#[derive(Debug, Clone)]
pub struct Template {
    /// A user of the asking server.
    pub user: OwnedUserId,
    /// The membership.
    pub kind: TemplateKind,
}

/// Why no template is given.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The room is unknown here, or no user of this server is in it.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// Against the room's rules.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// This server can't tell whether a restricted join is allowed, another one may.
    #[error("this server can't authorise the join")]
    UnableToAuthorise,
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a membership event was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The room is unknown here, or no user of this server is in it.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// Not a membership event that this call is for.
    #[error("not acceptable: {reason}")]
    BadEvent {
        /// What is wrong.
        reason: String,
    },
    /// Against the room's rules.
    #[error("not allowed: {reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The answer to send_join.
#[derive(Debug, Clone)]
pub struct JoinAnswer {
    /// The room's version.
    pub version: RoomVersionId,
    /// The event; with this server's signature where the join was restricted and allowed by a user of ours.
    pub event: Arc<Pdu>,
    /// The state before it.
    pub state: Vec<Arc<Pdu>>,
    /// The auth chain of that state and of the event.
    pub auth_chain: Vec<Arc<Pdu>>,
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// An unsigned membership event for another server to complete and sign.
    ///
    /// # Errors
    /// When the room's rules forbid the membership.
    pub async fn template(
        &self,
        _room: &RoomId,
        _request: Template,
    ) -> Result<(RoomVersionId, CanonicalJsonObject), TemplateError> {
        unimplemented!()
    }

    /// Takes a signed membership event: a join, leave or knock by another server's user, or an invitation that came
    /// back with the other server's signature. Other servers of the room are told.
    ///
    /// # Errors
    /// When it is not acceptable or not allowed.
    pub async fn accept_membership(&self, _origin: &ServerName, _event: Verified) -> Result<JoinAnswer, AcceptError> {
        unimplemented!()
    }
}

impl Worker {
    /// [`Rooms::template`] in the worker.
    pub(crate) async fn template(
        &mut self,
        _request: Template,
        reply: Reply<(RoomVersionId, CanonicalJsonObject), TemplateError>,
    ) {
        let _ = reply.send(Err(Unavailable::Interrupted.into()));
    }

    /// [`Rooms::accept_membership`] in the worker.
    pub(crate) async fn accept(
        &mut self,
        _origin: &ServerName,
        _event: Verified,
        _turn: &mut Turn,
        reply: Reply<JoinAnswer, AcceptError>,
    ) {
        let _ = reply.send(Err(Unavailable::Interrupted.into()));
    }
}
