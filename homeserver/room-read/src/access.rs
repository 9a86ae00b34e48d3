//! A user's rights in a room, read from the room's state. Must not change anything.

use ruma::{RoomId, UserId, events::room::member::MembershipState};
use weft_dag::StateView;
use weft_wire::{Role, event_types};

use weft_room_api::Unavailable;

use crate::Reader;

/// A user's membership and rights in a room at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Membership; `leave` if the room has no membership event of the user.
    pub membership: MembershipState,
    /// The role that corresponds to the power level.
    pub role: Role,
    /// The power level; `i64::MAX` for the creators of a room of version 12.
    pub power: i64,
    /// Joined, with at least the power level that the room requires for `dev.weft.update`.
    pub can_edit: bool,
}

impl Access {
    /// Reads the rights from a state with at least the create event, the power levels and the user's member event.
    #[must_use]
    pub fn of(state: &StateView, user: &UserId) -> Self {
        let power = state.user_power(user);
        Self {
            membership: state.membership(user),
            role: Role::from_power(power),
            power,
            can_edit: state.can_send(user, event_types::UPDATE),
        }
    }

    /// Whether the user may read events sent from now on.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.membership == MembershipState::Join
    }
}

impl Reader {
    /// A user's rights in a room; `None` if the room is not known on this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn access(&self, room: &RoomId, user: &UserId) -> Result<Option<Access>, Unavailable> {
        let keys = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.member", user.as_str()),
        ];
        Ok(self
            .state_entries(room, &keys)
            .await?
            .map(|state| Access::of(&state, user)))
    }
}
