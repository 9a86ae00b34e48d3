//! Checks a user's membership of a room, for endpoints that need it before they answer.
//!
//! Must not distinguish a room that does not exist from one that the user may not see: both get the same answer.

use ruma::{
    RoomId, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use weft_http::errors::{ApiError, ApiResult};
use weft_room_read::Reader;

pub(super) fn hidden() -> ApiError {
    ApiError::forbidden("You are not joined to this room, or it does not exist.")
}

/// Checks that the user is joined.
pub(super) async fn joined(reader: &Reader, room: &RoomId, user: &UserId) -> ApiResult<()> {
    match reader.membership(room, user).await? {
        MembershipState::Join => Ok(()),
        _ => Err(hidden()),
    }
}

/// How much of a room a user may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// The current state: the user is joined, or the room is world-readable.
    Now,
    /// The state at this position, when the user left.
    Until(u64),
}

/// Checks that the user is or was in the room, or that it is world-readable.
pub(super) async fn readable(reader: &Reader, room: &RoomId, user: &UserId) -> ApiResult<Readable> {
    let membership = reader.membership(room, user).await?;
    if membership == MembershipState::Join {
        return Ok(Readable::Now);
    }
    let state = reader
        .state_entries(room, &[("m.room.history_visibility", "")])
        .await?
        .ok_or_else(hidden)?;
    if state.history_visibility() == HistoryVisibility::WorldReadable {
        return Ok(Readable::Now);
    }
    let row = reader
        .room_of_user(user, room)
        .await?
        .filter(|row| !row.row.forgotten)
        .ok_or_else(hidden)?;
    match row.membership {
        MembershipState::Leave | MembershipState::Ban => match departure(reader, room, user, row.row.position).await? {
            Some(position) => Ok(Readable::Until(position)),
            None => Err(hidden()),
        },
        _ => Err(hidden()),
    }
}

/// The position at which the user last left. `changed` is the position of the newest membership event, which is the departure
/// if the user was joined just before. `None` if the user never joined: a rejected invitation or an unban grants no access.
async fn departure(reader: &Reader, room: &RoomId, user: &UserId, changed: u64) -> ApiResult<Option<u64>> {
    if let Some(position) = reader.departure(room, user).await? {
        return Ok(Some(position));
    }
    let own = [("m.room.member", user.as_str())];
    let before = reader.state_entries_at(room, changed.saturating_sub(1), &own).await?;
    let was_joined = before.is_some_and(|state| state.membership(user) == MembershipState::Join);
    Ok(was_joined.then_some(changed))
}

/// Checks that the user in the path is the caller.
pub(super) fn same_user(caller: &UserId, named: &UserId) -> ApiResult<()> {
    if caller == named {
        Ok(())
    } else {
        Err(ApiError::forbidden("You can only do this for your own user."))
    }
}
