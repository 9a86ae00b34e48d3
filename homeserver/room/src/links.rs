//! Rows of share links and of their guests: made, used up, revoked. Each batch has a fence on the row that it changes. The end
//! of guests is a job of the kind [`END_GUESTS`], which this crate only requests. Must not change the room.

use ruma::{OwnedUserId, RoomId, UserId};
use weft_room_api::Unavailable;
use weft_store::{
    Batch, CommitError,
    tables::documents::{GUESTS, GuestRow, LINKS, LinkRow},
};
use weft_wire::limits::{MAX_GUESTS_PER_LINK, MAX_LINKS_PER_DOCUMENT};

use crate::Rooms;

/// Attempts to change a row that is used concurrently.
const MAX_ATTEMPTS: usize = 16;

/// The kind of the job that ends the guests of a link. Its key is the room, a space, and the id of the link.
pub const END_GUESTS: &str = "end_guests";

/// What became of a new guest of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedGuest {
    /// The link has one more guest, and was used once more.
    Added(LinkRow),
    /// There is no such link, or it is over, or it lets no guests in.
    NoLink,
    /// It has [`MAX_GUESTS_PER_LINK`] guests.
    TooMany,
}

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
        let (kept, over): (Vec<_>, Vec<_>) = links.into_iter().partition(|(_, row)| row.is_kept(now));
        if kept.len() >= MAX_LINKS_PER_DOCUMENT {
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

    /// Adds a guest to a link, counts a use, and requests the job that ends the guests with the link.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_guest(&self, room: &RoomId, id: &str, user: &UserId) -> Result<AddedGuest, Unavailable> {
        let (now, store) = (self.now(), &self.shared.store);
        for _ in 0..MAX_ATTEMPTS {
            let row = self.reader().link(room, id).await?;
            let Some(row) = row.filter(|row| row.guests && row.is_open(now)) else {
                return Ok(AddedGuest::NoLink);
            };
            if self.reader().guests(room, id).await?.len() >= MAX_GUESTS_PER_LINK {
                return Ok(AddedGuest::TooMany);
            }
            let used = LinkRow {
                uses: row.uses.saturating_add(1),
                ..row.clone()
            };
            let mut batch = Batch::new();
            // Each guest changes the row of the link, so that none is added without being counted.
            batch.require(&LINKS, &(room, id), Some(&row));
            batch.put(&LINKS, &(room, id), &used);
            let maker = row.maker.clone();
            batch.put(&GUESTS, &(room, id, user), &GuestRow { maker });
            let key = (END_GUESTS, &*format!("{room} {id}"));
            weft_jobs::request(&mut batch, store.lane_of(room), key, row.expires_at, "");
            match store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return result.map(|()| AddedGuest::Added(used)).map_err(Unavailable::from),
            }
        }
        Err(Unavailable::Conflict { table: "LINKS".into() })
    }

    /// Deletes the rows of guests who have ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_guests(&self, room: &RoomId, id: &str, users: &[OwnedUserId]) -> Result<(), Unavailable> {
        let mut batch = Batch::new();
        for user in users {
            // Nothing writes the row of a guest again.
            batch.delete(&GUESTS, &(room, id, &**user));
        }
        Ok(self.shared.store.commit(batch).await?)
    }

    /// Deletes a link: nobody can use it any more, and the job that ends its guests is due. False if there is none.
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
            if row.guests {
                let key = (END_GUESTS, &*format!("{room} {id}"));
                weft_jobs::request(&mut batch, self.shared.store.lane_of(room), key, self.now(), "");
            }
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return result.map(|()| true).map_err(Unavailable::from),
            }
        }
        Err(Unavailable::Conflict { table: "LINKS".into() })
    }
}
