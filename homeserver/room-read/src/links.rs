//! Share links of documents. Must not decide whether a link lets a user in.

use ruma::RoomId;
use weft_room_api::Unavailable;
use weft_store::tables::documents::{LINKS, LinkRow};

use crate::Reader;

impl Reader {
    /// A link of a document, by its id.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn link(&self, room: &RoomId, id: &str) -> Result<Option<LinkRow>, Unavailable> {
        Ok(self.store.get(&LINKS, &(room, id)).await?)
    }

    /// The links of a document, with their ids. A document has at most
    /// [`MAX_LINKS_PER_DOCUMENT`](weft_wire::limits::MAX_LINKS_PER_DOCUMENT).
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn links(&self, room: &RoomId) -> Result<Vec<(String, LinkRow)>, Unavailable> {
        let rows = self.store.scan_all(LINKS.under(&(room,))).await?;
        Ok(rows.into_iter().map(|((_, id), row)| (id, row)).collect())
    }
}
