//! Account data: JSON that clients store on the server for their user, globally or for a room.
//!
//! Each change has a position in the server's stream, so that /sync returns it to the user's other devices. The quota of
//! a user in rows and bytes is counted in the store. Must not interpret the content.

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::Value;
use weft_store::{
    Batch, CommitError, Lane,
    tables::accounts::{
        ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, AccountDataPlace, AccountDataRow, AccountDataUsage,
    },
};
use weft_wire::limits::{MAX_ACCOUNT_DATA_BYTES, MAX_ACCOUNT_DATA_ROWS, MAX_EVENT_FIELD_BYTES};

use crate::{ATTEMPTS, Accounts, AccountsUnavailable};

/// A piece of account data.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountDataChange {
    /// The room. `None`: global.
    pub room: Option<OwnedRoomId>,
    /// Event type.
    pub kind: String,
    /// Content.
    pub content: Value,
    /// Position of the last change.
    pub position: u64,
}

/// The reason why account data was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetAccountDataError {
    /// The value or its type is longer than the limit.
    #[error("account data has at most {MAX_ACCOUNT_DATA_BYTES} bytes, and its type at most {MAX_EVENT_FIELD_BYTES}")]
    TooLarge,
    /// The user's quota is used up.
    #[error("the account data of a user has at most {MAX_ACCOUNT_DATA_ROWS} pieces and {bytes} bytes in total")]
    QuotaExceeded {
        /// Limit in bytes.
        bytes: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Sets a piece of account data. Returns the position of the change, which is committed when this returns.
    ///
    /// # Errors
    /// If it is too large, the user's quota is exceeded, or the store fails.
    pub async fn set_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: Value,
    ) -> Result<u64, SetAccountDataError> {
        self.change_account_data(user, room, kind, |_| content.clone()).await
    }

    /// The lane in which the positions of a user's account data count.
    #[must_use]
    pub fn lane_of(&self, user: &UserId) -> Lane {
        self.store().lane_of(user)
    }

    /// Changes a piece of account data atomically: a concurrent change is not lost. Returns the position of the
    /// change.
    ///
    /// # Errors
    /// If it becomes too large, the user's quota is exceeded, or the store fails.
    pub async fn change_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        change: impl Fn(Option<&Value>) -> Value + Send,
    ) -> Result<u64, SetAccountDataError> {
        if kind.len() > MAX_EVENT_FIELD_BYTES {
            return Err(SetAccountDataError::TooLarge);
        }
        // All changes of a user update the same usage row. The lock serialises them, so that none has to be retried.
        let _guard = self.inner.account_data_locks.of(user).lock().await;
        let (store, room) = (self.store(), room.map_or("", RoomId::as_str));
        let key = (user, room, kind);
        for _ in 0..ATTEMPTS {
            let before = store
                .get(&ACCOUNT_DATA, &key)
                .await
                .map_err(AccountsUnavailable::from)?;
            let usage = store.get(&ACCOUNT_DATA_USAGE, &(user,)).await;
            let usage = usage.map_err(AccountsUnavailable::from)?;
            let content = change(before.as_ref().map(|row| &row.content));
            let after = self.usage_after(usage, (room, kind), before.as_ref(), &content)?;

            let mut batch = Batch::new();
            batch.require(&ACCOUNT_DATA, &key, before.as_ref());
            batch.require(&ACCOUNT_DATA_USAGE, &(user,), usage.as_ref());
            let position = batch.reserve(store.positions_of(user), 1);
            if let Some(before) = &before {
                batch.delete(&ACCOUNT_DATA_STREAM, &(user, before.position));
            }
            let place = AccountDataPlace {
                room: room.to_owned(),
                kind: kind.to_owned(),
            };
            batch.put(&ACCOUNT_DATA, &key, &AccountDataRow { content, position });
            batch.put(&ACCOUNT_DATA_STREAM, &(user, position), &place);
            batch.put(&ACCOUNT_DATA_USAGE, &(user,), &after);
            match store.commit(batch).await {
                Ok(()) => return Ok(position),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// The user's usage after `content` has replaced `before`, if it is within the limits. A value that is no larger than
    /// the one before is always allowed, so that users above a lowered quota can delete data.
    fn usage_after(
        &self,
        usage: Option<AccountDataUsage>,
        (room, kind): (&str, &str),
        before: Option<&AccountDataRow>,
        content: &Value,
    ) -> Result<AccountDataUsage, SetAccountDataError> {
        let used = usage.unwrap_or_default();
        let old = before.map_or_else(AccountDataUsage::default, |row| {
            AccountDataUsage::of(room, kind, &row.content)
        });
        let new = AccountDataUsage::of(room, kind, content);
        if new.bytes > u64::try_from(MAX_ACCOUNT_DATA_BYTES).unwrap_or(u64::MAX) {
            return Err(SetAccountDataError::TooLarge);
        }
        let after = AccountDataUsage {
            rows: used.rows.saturating_sub(old.rows).saturating_add(new.rows),
            bytes: used.bytes.saturating_sub(old.bytes).saturating_add(new.bytes),
        };
        let limit = self.inner.limits.account_data_bytes;
        let grows = after.rows > used.rows || after.bytes > used.bytes;
        if grows && (after.rows > MAX_ACCOUNT_DATA_ROWS || after.bytes > limit) {
            return Err(SetAccountDataError::QuotaExceeded { bytes: limit });
        }
        Ok(after)
    }

    /// Returns one piece of account data.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<Value>, AccountsUnavailable> {
        let key = (user, room.map_or("", RoomId::as_str), kind);
        Ok(self.store().get(&ACCOUNT_DATA, &key).await?.map(|row| row.content))
    }

    /// Returns the account data that changed after `since` and not after `until`; with `since` 0 all of it. The cost is
    /// proportional to the number of changes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn account_data_since(
        &self,
        user: &UserId,
        since: u64,
        until: u64,
    ) -> Result<Vec<AccountDataChange>, AccountsUnavailable> {
        if since == 0 {
            let rows = self.store().scan_all(ACCOUNT_DATA.under(&(user,))).await?;
            let known = rows.into_iter().filter(|(_, row)| row.position <= until);
            return Ok(known.map(|((_, room, kind), row)| change(&room, kind, row)).collect());
        }
        let span = ACCOUNT_DATA_STREAM
            .under(&(user,))
            .after(&(user, since))
            .through(&(user, until));
        let places = self.store().scan_all(span).await?;
        let keys = places.iter().map(|(_, place)| (user, &*place.room, &*place.kind));
        let rows = self.store().get_many(&ACCOUNT_DATA, keys).await?;
        let changes = places.into_iter().zip(rows).filter_map(|((_, place), row)| {
            // It changed again during this read: the next response contains it.
            let row = row.filter(|row| row.position <= until)?;
            Some(change(&place.room, place.kind, row))
        });
        Ok(changes.collect())
    }

    /// Returns all account data of one room, as of `until`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn room_account_data(
        &self,
        user: &UserId,
        room: &RoomId,
        until: u64,
    ) -> Result<Vec<AccountDataChange>, AccountsUnavailable> {
        let rows = ACCOUNT_DATA.under(&(user, room.as_str()));
        let rows = self.store().scan_all(rows).await?;
        let known = rows.into_iter().filter(|(_, row)| row.position <= until);
        Ok(known.map(|((_, room, kind), row)| change(&room, kind, row)).collect())
    }
}

fn change(room: &str, kind: String, row: AccountDataRow) -> AccountDataChange {
    AccountDataChange {
        room: RoomId::parse(room).ok(),
        kind,
        content: row.content,
        position: row.position,
    }
}
