//! The first free positions of a room's timeline. Must not write.

use ruma::RoomId;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::TIMELINE;

use crate::Reader;

/// The range of positions of backfilled events. Larger than the number of events of any room.
const BACKFILL_POSITIONS_RANGE: i64 = 1 << 40;

impl Reader {
    /// The stream position of the newest accepted event; 0 if there is none.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn last_position(&self, room: &RoomId) -> Result<u64, Unavailable> {
        let last = self.store.scan(TIMELINE.under(&(room,)).reversed().limit(1)).await?;
        Ok(last
            .first()
            .map_or(0, |((_, order), _)| u64::try_from(*order).unwrap_or(0)))
    }

    /// The last position of a backfilled event that is used. A later portion is newer than an earlier one and comes
    /// after it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn last_backfill_position(&self, room: &RoomId) -> Result<i64, Unavailable> {
        let query = TIMELINE.under(&(room,)).before(&(room, 0_i64)).reversed().limit(1);
        let last = self.store.scan(query).await?;
        Ok(last.first().map_or(-BACKFILL_POSITIONS_RANGE, |((_, order), _)| *order))
    }
}
