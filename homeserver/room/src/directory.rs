//! Aliases of this server, its public directory, and what a user wants to forget. No room's graph is touched, so no
//! worker is asked.

use ruma::{OwnedRoomAliasId, RoomAliasId, RoomId, UserId, events::room::member::MembershipState};
use weft_store::{
    Batch, CommitError,
    tables::rooms::{ALIASES, AliasRow, MEMBERSHIP, MembershipRow, PUBLIC_ROOMS, ROOM_ALIASES},
};

use crate::{Rooms, Unavailable};

/// How often a row is read and written again where it changes at that moment.
const MAX_ATTEMPTS: usize = 8;

/// Why an alias or directory entry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The alias stands for a room already.
    #[error("alias {0} is taken")]
    Taken(OwnedRoomAliasId),
    /// There is no such alias.
    #[error("alias {0} does not exist")]
    UnknownAlias(OwnedRoomAliasId),
    /// Only who has left a room can forget it.
    #[error("the user is still in the room")]
    StillIn,
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Rooms {
    /// Lets an alias stand for a room. Whether the user may is the caller's to check.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn put_alias(&self, alias: &RoomAliasId, room: &RoomId, creator: &UserId) -> Result<(), DirectoryError> {
        let mut batch = Batch::new();
        claim_alias(&mut batch, alias, room, creator);
        match self.shared.store.commit(batch).await {
            Ok(()) => Ok(()),
            Err(CommitError::Fence { .. }) => Err(DirectoryError::Taken(alias.to_owned())),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<(), DirectoryError> {
        let unknown = || DirectoryError::UnknownAlias(alias.to_owned());
        let row = self.reader().alias(alias).await?.ok_or_else(unknown)?;
        let mut batch = Batch::new();
        // It may have been removed and claimed for another room meanwhile: that one is not the caller's to remove.
        batch.require(&ALIASES, &(alias,), Some(&row));
        batch.delete(&ALIASES, &(alias,));
        batch.delete(&ROOM_ALIASES, &(&row.room, alias));
        match self.shared.store.commit(batch).await {
            Err(CommitError::Fence { .. }) => Err(unknown()),
            result => Ok(result.map_err(Unavailable::from)?),
        }
    }

    /// Lists a room in this server's directory, or takes it out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_public(&self, room: &RoomId, public: bool) -> Result<(), DirectoryError> {
        let mut batch = Batch::new();
        if public {
            batch.put(&PUBLIC_ROOMS, &(room,), &());
        } else {
            batch.delete(&PUBLIC_ROOMS, &(room,));
        }
        Ok(self.shared.store.commit(batch).await.map_err(Unavailable::from)?)
    }

    /// Hides a room that the user has left from the user's lists.
    ///
    /// # Errors
    /// When the user is in it or invited.
    pub async fn forget(&self, room: &RoomId, user: &UserId) -> Result<(), DirectoryError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(found) = self.reader().room_of_user(user, room).await? else {
                return Ok(());
            };
            if !matches!(found.membership, MembershipState::Leave | MembershipState::Ban) {
                return Err(DirectoryError::StillIn);
            }
            let forgotten = MembershipRow {
                forgotten: true,
                ..found.row.clone()
            };
            let mut batch = Batch::new();
            // The user may have been invited again meanwhile.
            batch.require(&MEMBERSHIP, &(user, room), Some(&found.row));
            batch.put(&MEMBERSHIP, &(user, room), &forgotten);
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return Ok(result.map_err(Unavailable::from)?),
            }
        }
        Err(Unavailable::Interrupted.into())
    }
}

/// Writes an alias into a batch that fails where it is taken.
pub(crate) fn claim_alias(batch: &mut Batch, alias: &RoomAliasId, room: &RoomId, creator: &UserId) {
    batch.require(&ALIASES, &(alias,), None);
    batch.put(
        &ALIASES,
        &(alias,),
        &AliasRow {
            room: room.to_owned(),
            creator: creator.to_owned(),
        },
    );
    batch.put(&ROOM_ALIASES, &(room, alias), &());
}
