//! Account data: what clients keep on the server for their user, global or for a room.
//!
//! Each change has a position of the server's stream, so that /sync tells it to the user's other devices. What a user may
//! keep is bounded in rows and bytes, which are counted in the store.

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::Value;
use weft_store::{
    Batch, CommitError,
    tables::accounts::{
        ACCOUNT_DATA, ACCOUNT_DATA_STREAM, ACCOUNT_DATA_USAGE, AccountDataPlace, AccountDataRow, AccountDataUsage,
    },
};
use weft_wire::limits::{MAX_ACCOUNT_DATA_BYTES, MAX_ACCOUNT_DATA_ROWS, MAX_EVENT_FIELD_BYTES};

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
    #[error("account data has at most {MAX_ACCOUNT_DATA_BYTES} bytes, and its type at most {MAX_EVENT_FIELD_BYTES}")]
    TooLarge,
    /// The user keeps as much as a user may.
    #[error("you may keep at most {MAX_ACCOUNT_DATA_ROWS} pieces of account data with {bytes} bytes together")]
    QuotaExceeded {
        /// The limit in bytes.
        bytes: u64,
    },
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Sets a piece of account data; gives the position of the change, which is committed when this returns.
    ///
    /// # Errors
    /// When it is too large, the user keeps too much, or the store fails.
    pub async fn set_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: Value,
    ) -> Result<u64, SetAccountDataError> {
        self.change_account_data(user, room, kind, |_| content.clone()).await
    }

    /// Changes a piece of account data in one step: what another request changes meanwhile is not lost. Gives the
    /// position of the change.
    ///
    /// # Errors
    /// When it becomes too large, the user keeps too much, or the store fails.
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
        // All of a user's changes meet at the row of the usage. In a turn each, none has to be tried again.
        let _turn = self.inner.account_data_turns.of(user).lock().await;
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
            let position = batch.reserve(store.positions(), 1);
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

    /// What the user keeps once `content` has replaced `before`, if that is within the limits. What takes no more than
    /// before is always allowed, so that users above a quota that was lowered can clear up.
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

    /// Everything that changed after `since` and not after `until`; all of it with `since` 0. Reads as much as has
    /// changed.
    ///
    /// # Errors
    /// When the store fails.
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
            // Changed again while this was read: the next answer tells it.
            let row = row.filter(|row| row.position <= until)?;
            Some(change(&place.room, place.kind, row))
        });
        Ok(changes.collect())
    }

    /// All account data of one room, as of `until`.
    ///
    /// # Errors
    /// When the store fails.
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
