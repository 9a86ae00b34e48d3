//! Sessions: a device with an access token. Beginning one, recognising its token, ending it.

use std::time::Duration;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{
        ACCESS_TOKENS, AccessTokenRow, DEVICES, DeviceRow, REFRESH_TOKENS, RefreshTokenRow, TokenPair, USERS,
    },
};

use crate::{
    ATTEMPTS, Accounts, AccountsUnavailable,
    token::{self, Token},
};

/// How long an access token works where the client can refresh it.
pub(crate) const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Hash of the token, to tell one session from another. Not secret, still no business of a log.
    pub token_hash: String,
}

/// The device of a new session.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// Its id; a random one where absent. One that exists is signed in anew.
    pub id: Option<OwnedDeviceId>,
    /// What to call it where it is new.
    pub display_name: Option<String>,
    /// The client can refresh: the access token expires after an hour.
    pub refreshable: bool,
}

/// What a client gets when a session begins or is refreshed. Secrets: must not be logged (hence no `Debug`).
pub struct NewSession {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token, where the client can refresh.
    pub refresh_token: Option<String>,
    /// How long the access token works; None: until sign-out.
    pub expires_in: Option<Duration>,
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Never given out, or its session has ended.
    #[error("the access token is not known")]
    Unknown,
    /// It must be refreshed; the session lives.
    #[error("the access token has expired")]
    Expired,
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// Tokens and the rows they need, before anything is committed.
pub(crate) struct Minted {
    access: Token,
    refresh: Option<Token>,
    expires_at: Option<u64>,
}

impl Minted {
    pub(crate) fn new(refreshable: bool, now_ms: u64) -> Self {
        let lifetime = u64::try_from(ACCESS_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        Self {
            access: Token::random("wft"),
            refresh: refreshable.then(|| Token::random("wfr")),
            expires_at: refreshable.then(|| now_ms.saturating_add(lifetime)),
        }
    }

    pub(crate) fn pair(&self) -> TokenPair {
        TokenPair {
            access: self.access.hash(),
            refresh: self.refresh.as_ref().map(Token::hash),
        }
    }

    pub(crate) fn put(&self, batch: &mut Batch, user: &UserId, device: &DeviceId, fresh: bool) {
        let access = AccessTokenRow {
            user: user.to_owned(),
            device: device.to_owned(),
            expires_at: self.expires_at,
            fresh,
        };
        batch.put(&ACCESS_TOKENS, &(self.access.hash(),), &access);
        if let Some(refresh) = &self.refresh {
            let row = RefreshTokenRow {
                user: user.to_owned(),
                device: device.to_owned(),
            };
            batch.put(&REFRESH_TOKENS, &(refresh.hash(),), &row);
        }
    }

    pub(crate) fn into_session(self, user: &UserId, device: &DeviceId) -> NewSession {
        NewSession {
            user_id: user.to_owned(),
            device_id: device.to_owned(),
            access_token: self.access.into_string(),
            expires_in: self.expires_at.map(|_| ACCESS_TOKEN_LIFETIME),
            refresh_token: self.refresh.map(Token::into_string),
        }
    }
}

pub(crate) fn delete_pair(batch: &mut Batch, pair: &TokenPair) {
    batch.delete(&ACCESS_TOKENS, &(&pair.access,));
    if let Some(refresh) = &pair.refresh {
        batch.delete(&REFRESH_TOKENS, &(refresh,));
    }
}

/// Ends a session: the device and all its tokens.
pub(crate) fn removal(user: &UserId, device: &DeviceId, row: &DeviceRow) -> Batch {
    let mut batch = Batch::new();
    batch.delete(&DEVICES, &(user, device));
    delete_pair(&mut batch, &row.current);
    if let Some(next) = &row.next {
        delete_pair(&mut batch, next);
    }
    batch
}

impl Accounts {
    /// Begins a session for a user whose right to it was checked. Tokens that the device had end.
    ///
    /// # Errors
    /// [`AccountsUnavailable`]; `Contended` also where the account was deactivated meanwhile.
    pub async fn begin_session(&self, user: &UserId, device: NewDevice) -> Result<NewSession, AccountsUnavailable> {
        let id = device.id.unwrap_or_else(|| token::device_id().into());
        for _ in 0..ATTEMPTS {
            let Some(account) = self.user_row(user).await?.filter(|account| !account.deactivated) else {
                break;
            };
            let before = self.store().get(&DEVICES, &(user, &id)).await?;
            let minted = Minted::new(device.refreshable, self.now_ms());
            let mut batch = Batch::new();
            if let Some(before) = &before {
                batch = removal(user, &id, before);
            }
            // A session must not begin behind the back of a deactivation.
            batch.require(&USERS, &(user,), Some(&account));
            batch.require(&DEVICES, &(user, &id), before.as_ref());
            let row = DeviceRow {
                display_name: before
                    .and_then(|before| before.display_name)
                    .or_else(|| device.display_name.clone()),
                created_at: self.now_ms(),
                current: minted.pair(),
                next: None,
            };
            batch.put(&DEVICES, &(user, &id), &row);
            minted.put(&mut batch, user, &id, false);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(minted.into_session(user, &id)),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountsUnavailable::Contended)
    }

    /// Who a token belongs to.
    ///
    /// # Errors
    /// When it is not known or has expired.
    pub async fn authenticate(&self, token: &str) -> Result<Session, AuthError> {
        let hash = token::hash(token);
        let row = self
            .store()
            .get(&ACCESS_TOKENS, &(&hash,))
            .await
            .map_err(AccountsUnavailable::from)?;
        let row = row.ok_or(AuthError::Unknown)?;
        if row.expires_at.is_some_and(|at| at <= self.now_ms()) {
            return Err(AuthError::Expired);
        }
        if row.fresh {
            self.retire_previous(&hash, &row).await?;
        }
        Ok(Session {
            user_id: row.user,
            device_id: row.device,
            token_hash: hash,
        })
    }

    /// The first use of a refreshed access token: the tokens before it end now, since the client has the new ones.
    async fn retire_previous(&self, hash: &str, row: &AccessTokenRow) -> Result<(), AuthError> {
        for _ in 0..ATTEMPTS {
            let key = (&row.user, &row.device);
            let device = self
                .store()
                .get(&DEVICES, &key)
                .await
                .map_err(AccountsUnavailable::from)?;
            let before = device.ok_or(AuthError::Unknown)?;
            let Some(next) = before.next.clone().filter(|next| next.access == hash) else {
                // Somebody else's request was first: either it retired the old pair, or a later refresh this one.
                return if before.current.access == hash {
                    Ok(())
                } else {
                    Err(AuthError::Unknown)
                };
            };
            let mut batch = Batch::new();
            batch.require(&DEVICES, &key, Some(&before));
            delete_pair(&mut batch, &before.current);
            batch.put(
                &DEVICES,
                &key,
                &DeviceRow {
                    current: next,
                    next: None,
                    ..before.clone()
                },
            );
            batch.put(
                &ACCESS_TOKENS,
                &(hash,),
                &AccessTokenRow {
                    fresh: false,
                    ..row.clone()
                },
            );
            match self.store().commit(batch).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// Ends one session. Not an error where it has ended already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout(&self, user: &UserId, device: &DeviceId) -> Result<(), AccountsUnavailable> {
        match self.store().get(&DEVICES, &(user, device)).await? {
            Some(row) => Ok(self.store().commit(removal(user, device, &row)).await?),
            None => Ok(()),
        }
    }
}
