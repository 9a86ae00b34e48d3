//! A room that this server has just joined through another one, and invitations to rooms it is not in.

use bytes::Bytes;
use ruma::{OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::Value;
use weft_dag::Verified;

use crate::{Rooms, Unavailable, mailbox::Reply, turn::Turn, worker::Worker};

/// The answer to a join, with every event's signatures checked.
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
    /// The document as that server gave it: shown at once, checked against the events afterwards.
    pub snapshot: Option<Bytes>,
}

/// Why a room or an invitation was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The version is not supported.
    #[error("room version {0} is not supported")]
    UnsupportedVersion(String),
    /// The state doesn't hold together.
    #[error("the room's state is not acceptable: {reason}")]
    BadState {
        /// What is wrong.
        reason: String,
    },
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[expect(clippy::unimplemented, reason = "signatures first")]
impl Rooms {
    /// Takes over a room that was joined through another server.
    ///
    /// # Errors
    /// When its state is not acceptable.
    pub async fn adopt(&self, _room: JoinedRoom) -> Result<(), AdoptError> {
        unimplemented!()
    }

    /// Keeps an invitation (signed by both servers) of a user of ours to a room that this server is not in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn invited(&self, _invite: Verified, _stripped: Vec<Value>, _user: &UserId) -> Result<(), AdoptError> {
        unimplemented!()
    }

    /// Forgets such an invitation, or a membership in a room that this server has left: declined or withdrawn.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn uninvited(&self, _room: &RoomId, _user: &UserId) -> Result<(), AdoptError> {
        unimplemented!()
    }
}

impl Worker {
    /// [`Rooms::adopt`] in the worker.
    pub(crate) async fn adopt(&mut self, _joined: JoinedRoom, _turn: &mut Turn, reply: Reply<(), AdoptError>) {
        let _ = reply.send(Err(Unavailable::Interrupted.into()));
    }
}
