//! A user's rights in a room, read from the room's state. Must not change anything.

use ruma::{RoomId, UserId, events::room::member::MembershipState};
use weft_dag::StateView;
use weft_wire::{Role, event_types};

use weft_room_api::{EditRefusal, RefusedEdit, Unavailable};

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
    /// Joined, with at least the power level that the room requires for `dev.weft.update`, and the document is not locked.
    pub can_edit: bool,
    /// The document is locked: nobody may edit it.
    pub is_locked: bool,
}

impl Access {
    /// Reads the rights from a state with at least the create event, the power levels, the user's member event and the lock.
    #[must_use]
    pub fn of(state: &StateView, user: &UserId) -> Self {
        let power = state.user_power(user);
        let is_locked = state.lock().is_some();
        Self {
            membership: state.membership(user),
            role: Role::from_power(power),
            power,
            can_edit: !is_locked && state.can_send(user, event_types::UPDATE),
            is_locked,
        }
    }

    /// Why the user may not edit, if they may not.
    #[must_use]
    pub fn edit_refusal(&self, refused: RefusedEdit) -> EditRefusal {
        if self.membership != MembershipState::Join {
            EditRefusal::NotJoined
        } else if self.is_locked {
            EditRefusal::Locked { refused }
        } else {
            EditRefusal::Role {
                role: self.role,
                refused,
            }
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
            (event_types::LOCK, ""),
        ];
        let Some(mut state) = self.state_entries(room, &keys).await? else {
            return Ok(None);
        };
        if let Some(lock) = state.lock().map(|lock| lock.event_id().to_string())
            && let Some(unlock) = self.state_event(room, event_types::UNLOCK, &lock).await?
        {
            state = state.after(&unlock);
        }
        Ok(Some(Access::of(&state, user)))
    }
}
