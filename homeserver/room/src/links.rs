//! Rows of share links: made, used up, revoked. Each batch has a fence on the row that it changes. Must not change the room.

use ruma::RoomId;
use weft_room_api::Unavailable;
use weft_store::{
    Batch, CommitError,
    tables::documents::{LINKS, LinkRow},
};
use weft_wire::limits::MAX_LINKS_PER_DOCUMENT;

use crate::Rooms;

/// Attempts to change a row that is used concurrently.
const MAX_ATTEMPTS: usize = 16;

impl Rooms {
    /// The time by which links end, milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.shared.clock.now().get().into()
    }

    /// Adds a link, and deletes those that are over. False if there are too many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_link(&self, room: &RoomId, id: &str, link: &LinkRow) -> Result<bool, Unavailable> {
        let (links, now) = (self.reader().links(room).await?, self.now());
        let (open, over): (Vec<_>, Vec<_>) = links.into_iter().partition(|(_, row)| row.is_open(now));
        if open.len() >= MAX_LINKS_PER_DOCUMENT {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.require(&LINKS, &(room, id), None);
        batch.put(&LINKS, &(room, id), link);
        for (id, _) in &over {
            // A link that is over is never open again.
            batch.delete(&LINKS, &(room, &**id));
        }
        self.shared.store.commit(batch).await?;
        Ok(true)
    }

    /// Counts a use of a link. `None`: there is no such link, or it is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn use_link(&self, room: &RoomId, id: &str) -> Result<Option<LinkRow>, Unavailable> {
        let now = self.now();
        for _ in 0..MAX_ATTEMPTS {
            let Some(row) = self.reader().link(room, id).await?.filter(|row| row.is_open(now)) else {
                return Ok(None);
            };
            let used = LinkRow {
                uses: row.uses.saturating_add(1),
                ..row.clone()
            };
            let mut batch = Batch::new();
            batch.require(&LINKS, &(room, id), Some(&row));
            batch.put(&LINKS, &(room, id), &used);
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return result.map(|()| Some(used)).map_err(Unavailable::from),
            }
        }
        Err(Unavailable::Conflict { table: "LINKS".into() })
    }

    /// Deletes a link: nobody can use it any more. False if there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_link(&self, room: &RoomId, id: &str) -> Result<bool, Unavailable> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(row) = self.reader().link(room, id).await? else {
                return Ok(false);
            };
            let mut batch = Batch::new();
            batch.require(&LINKS, &(room, id), Some(&row));
            batch.delete(&LINKS, &(room, id));
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return result.map(|()| true).map_err(Unavailable::from),
            }
        }
        Err(Unavailable::Conflict { table: "LINKS".into() })
    }
}
