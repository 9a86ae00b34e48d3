//! A user's rights in a room, for callers that need the room to exist. Must not change anything.

use ruma::{RoomId, UserId};
use weft_room_api::RoomError;
use weft_room_read::Access;

use crate::Rooms;

impl Rooms {
    /// A user's rights in a room.
    ///
    /// # Errors
    /// When the room is unknown or the store can't be read.
    pub async fn access(&self, room: &RoomId, user: &UserId) -> Result<Access, RoomError> {
        let access = self.reader().access(room, user).await?;
        access.ok_or_else(|| RoomError::UnknownRoom(room.to_owned()))
    }
}
