//! What a user may do in a room, read from its state.

use ruma::{OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use weft_wire::Role;

use crate::{Rooms, Unavailable};

/// A user's standing in a room at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Membership; `leave` where the room has never heard of the user.
    pub membership: MembershipState,
    /// The role that the power level amounts to.
    pub role: Role,
    /// The power level; `i64::MAX` for the creators of a room of version 12.
    pub power: i64,
    /// Joined, and the power reaches what the room asks for `dev.weft.update`.
    pub can_edit: bool,
}

/// Why the standing could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// This server is not in the room.
    #[error("room {0} is not known here")]
    UnknownRoom(OwnedRoomId),
    /// The store or the worker.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Rooms {
    /// A user's standing in a room.
    ///
    /// # Errors
    /// When the room is unknown or the store can't be read.
    #[expect(clippy::unimplemented, reason = "signatures first")]
    pub async fn access(&self, _room: &RoomId, _user: &UserId) -> Result<Access, AccessError> {
        unimplemented!()
    }
}
