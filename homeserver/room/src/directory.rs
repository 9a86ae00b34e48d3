//! Aliases of this server, its room directory, and forgotten rooms. Must not change a room's graph, so that no worker
//! is involved; so each batch has a fence on what it was decided by.

use ruma::{RoomAliasId, RoomId, UserId, events::room::member::MembershipState};
use weft_room_api::{DirectoryRefusal, RoomError, Unavailable};
use weft_store::{
    Batch, CommitError,
    tables::rooms::{ALIASES, AliasRow, MEMBERSHIP, MembershipRow, PUBLIC_ROOMS, ROOM_ALIASES},
};

use crate::Rooms;

/// Attempts to read and write a row that changes concurrently.
const MAX_ATTEMPTS: usize = 8;

impl Rooms {
    /// Creates an alias of a room. The caller checks whether the user may.
    ///
    /// # Errors
    /// If the alias is in use.
    pub async fn put_alias(&self, alias: &RoomAliasId, room: &RoomId, creator: &UserId) -> Result<(), RoomError> {
        let mut batch = Batch::new();
        claim_alias(&mut batch, alias, room, creator);
        match self.shared.store.commit(batch).await {
            Ok(()) => Ok(()),
            Err(CommitError::Fence { .. }) => Err(DirectoryRefusal::Taken(alias.to_owned()).into()),
            Err(error) => Err(Unavailable::from(error).into()),
        }
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// If it does not exist.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<(), RoomError> {
        let unknown = || DirectoryRefusal::UnknownAlias(alias.to_owned());
        let row = self.reader().alias(alias).await?.ok_or_else(unknown)?;
        let mut batch = Batch::new();
        // It may have been deleted and created for another room meanwhile; the caller may not delete that one.
        batch.require(&ALIASES, &(alias,), Some(&row));
        batch.delete(&ALIASES, &(alias,));
        batch.delete(&ROOM_ALIASES, &(&row.room, alias));
        match self.shared.store.commit(batch).await {
            Err(CommitError::Fence { .. }) => Err(unknown().into()),
            result => Ok(result.map_err(Unavailable::from)?),
        }
    }

    /// Adds a room to this server's room directory, or removes it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_public(&self, room: &RoomId, public: bool) -> Result<(), RoomError> {
        for _ in 0..MAX_ATTEMPTS {
            let known = self.shared.store.get(&PUBLIC_ROOMS, &(room,)).await?;
            if known.is_some() == public {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.require(&PUBLIC_ROOMS, &(room,), known.as_ref());
            if public {
                batch.put(&PUBLIC_ROOMS, &(room,), &());
            } else {
                batch.delete(&PUBLIC_ROOMS, &(room,));
            }
            match self.shared.store.commit(batch).await {
                Err(CommitError::Fence { .. }) => {}
                result => return Ok(result?),
            }
        }
        Err(Unavailable::Conflict {
            table: "MEMBERSHIP".into(),
        }
        .into())
    }

    /// Removes a room that the user has left from the user's lists.
    ///
    /// # Errors
    /// If the user is joined or invited.
    pub async fn forget(&self, room: &RoomId, user: &UserId) -> Result<(), RoomError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(found) = self.reader().room_of_user(user, room).await? else {
                return Ok(());
            };
            if !matches!(found.membership, MembershipState::Leave | MembershipState::Ban) {
                return Err(DirectoryRefusal::StillIn.into());
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
        Err(Unavailable::Conflict {
            table: "MEMBERSHIP".into(),
        }
        .into())
    }
}

/// Writes an alias into a batch that fails if the alias is in use.
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
