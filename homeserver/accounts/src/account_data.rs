//! Account data: what clients keep on the server for their user, global or for a room.
//!
//! Each change has a position of the server's stream, so that /sync tells it to the user's other devices.

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::Value;
use weft_store::{
    Batch, CommitError,
    tables::accounts::{ACCOUNT_DATA, AccountDataRow},
};
use weft_wire::limits::MAX_ACCOUNT_DATA_BYTES;

use crate::{ATTEMPTS, Accounts, AccountsUnavailable};

/// A piece of account data.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountDataChange {
    /// The room; None: global.
    pub room: Option<OwnedRoomId>,
    /// Event type.
    pub kind: String,
    /// Content.
    pub content: Value,
    /// Position of the last change.
    pub position: u64,
}

/// Why account data was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetAccountDataError {
    /// Over the limit.
    #[error("account data has at most {MAX_ACCOUNT_DATA_BYTES} bytes")]
    TooLarge,
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Sets a piece of account data; gives the position of the change, which is committed when this returns.
    ///
    /// # Errors
    /// When it is too large or the store fails.
    pub async fn set_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: Value,
    ) -> Result<u64, SetAccountDataError> {
        if kind.len() > 255 || content.to_string().len() > MAX_ACCOUNT_DATA_BYTES {
            return Err(SetAccountDataError::TooLarge);
        }
        let mut batch = Batch::new();
        let position = batch.reserve(self.store().positions(), 1);
        let key = (user, room.map_or("", RoomId::as_str), kind);
        batch.put(&ACCOUNT_DATA, &key, &AccountDataRow { content, position });
        self.store().commit(batch).await.map_err(AccountsUnavailable::from)?;
        Ok(position)
    }

    /// Changes a piece of account data in one step: what another request changes meanwhile is not lost. Gives the
    /// position of the change.
    ///
    /// # Errors
    /// When it becomes too large or the store fails.
    pub async fn change_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        change: impl Fn(Option<&Value>) -> Value + Send,
    ) -> Result<u64, SetAccountDataError> {
        let key = (user, room.map_or("", RoomId::as_str), kind);
        for _ in 0..ATTEMPTS {
            let before = self
                .store()
                .get(&ACCOUNT_DATA, &key)
                .await
                .map_err(AccountsUnavailable::from)?;
            let content = change(before.as_ref().map(|row| &row.content));
            if content.to_string().len() > MAX_ACCOUNT_DATA_BYTES {
                return Err(SetAccountDataError::TooLarge);
            }
            let mut batch = Batch::new();
            batch.require(&ACCOUNT_DATA, &key, before.as_ref());
            let position = batch.reserve(self.store().positions(), 1);
            batch.put(&ACCOUNT_DATA, &key, &AccountDataRow { content, position });
            match self.store().commit(batch).await {
                Ok(()) => return Ok(position),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// One piece of account data.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<Value>, AccountsUnavailable> {
        let key = (user, room.map_or("", RoomId::as_str), kind);
        Ok(self.store().get(&ACCOUNT_DATA, &key).await?.map(|row| row.content))
    }

    /// Everything that changed after `since` and not after `until`; all of it with `since` 0. A user has tens of
    /// rows, so they are read whole.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account_data_since(
        &self,
        user: &UserId,
        since: u64,
        until: u64,
    ) -> Result<Vec<AccountDataChange>, AccountsUnavailable> {
        let rows = self.store().scan_all(ACCOUNT_DATA.under(&(user,))).await?;
        let changed = rows
            .into_iter()
            .filter(|(_, row)| row.position > since && row.position <= until);
        Ok(changed
            .map(|((_, room, kind), row)| AccountDataChange {
                room: OwnedRoomId::try_from(room).ok(),
                kind,
                content: row.content,
                position: row.position,
            })
            .collect())
    }
}
