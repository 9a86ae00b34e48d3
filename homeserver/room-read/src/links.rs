//! Share links of documents, and the guests who came by them. Must not decide whether a link lets a user in.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use weft_room_api::Unavailable;
use weft_store::tables::documents::{GUESTS, LINKS, LinkRow};

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

    /// The guests of a link, each with the maker of the link. A link has at most
    /// [`MAX_GUESTS_PER_LINK`](weft_wire::limits::MAX_GUESTS_PER_LINK).
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn guests(&self, room: &RoomId, link: &str) -> Result<Vec<(OwnedUserId, OwnedUserId)>, Unavailable> {
        let rows = self.store.scan_all(GUESTS.under(&(room, link))).await?;
        Ok(rows.into_iter().map(|((_, _, user), row)| (user, row.maker)).collect())
    }

    /// The guests of all links of a document: link, guest, maker of the link.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn guests_of_document(
        &self,
        room: &RoomId,
    ) -> Result<Vec<(String, OwnedUserId, OwnedUserId)>, Unavailable> {
        let rows = self.store.scan_all(GUESTS.under(&(room,))).await?;
        Ok(rows
            .into_iter()
            .map(|((_, link, user), row)| (link, user, row.maker))
            .collect())
    }

    /// The number of guests of this server, at most `limit`.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn guests_at_most(&self, limit: usize) -> Result<usize, Unavailable> {
        Ok(self.store.scan(GUESTS.under(&()).limit(limit)).await?.len())
    }

    /// The documents of the first `limit` guests of this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn documents_with_guests(&self, limit: usize) -> Result<BTreeSet<OwnedRoomId>, Unavailable> {
        let rows = self.store.scan(GUESTS.under(&()).limit(limit)).await?;
        Ok(rows.into_iter().map(|((room, ..), _)| room).collect())
    }
}
