//! Reads of out-of-band memberships: invitations to, and knocks on, rooms that this server is not in. Must not change them.

use ruma::{RoomId, UserId, serde::Raw};
use serde_json::Value;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{OUT_OF_BAND, OUT_OF_BAND_STATE, OutOfBandRow};

use crate::{Reader, RoomMembership};

impl Reader {
    /// The row of a user's open invitation or knock for a room that this server is not in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn outside(&self, user: &UserId, room: &RoomId) -> Result<Option<OutOfBandRow>, Unavailable> {
        Ok(self.store().get(&OUT_OF_BAND, &(user, room)).await?)
    }

    /// What clients receive of a room that this server is not in: the stripped state of an invitation or a knock, or
    /// the leave that ended it. Empty for a room that this server is in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn out_of_band_state(
        &self,
        user: &UserId,
        entry: &RoomMembership,
    ) -> Result<Vec<Raw<Value>>, Unavailable> {
        if !entry.row.stripped.is_empty() {
            return Ok(entry.row.stripped.clone());
        }
        let state = self.store().get(&OUT_OF_BAND_STATE, &(user, &entry.room)).await?;
        Ok(state.map(|state| state.0).unwrap_or_default())
    }
}
