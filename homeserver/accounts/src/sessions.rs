//! Sessions: a device with an access token. Beginning one, recognising its token, ending it.

use std::time::Duration;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use weft_store::{
    Batch, CommitError,
    tables::accounts::{
        ACCESS_TOKENS, AccessTokenRow, DEVICES, DeviceRow, REFRESH_TOKENS, RefreshTokenRow, TokenPair, USERS,
    },
};
use weft_wire::limits::{MAX_DEVICE_ID_BYTES, MAX_DEVICES_PER_USER};

use crate::{
    ATTEMPTS, Accounts, AccountsUnavailable, DeviceError, devices,
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
    /// When the token expires, in milliseconds since 1970; `None`: not before sign-out. Connections that outlive one
    /// request must end, or be given a newer token, at this time.
    pub expires_at_ms: Option<u64>,
    /// Identifies the sign-in: equal before and after a refresh, different after the next sign-in on the same device.
    sign_in: u64,
}

impl Session {
    /// Whether `other` belongs to the same sign-in of the same device: the same token, or one that a refresh issued. A
    /// long-lived connection may replace one by the other.
    #[must_use]
    pub fn is_same_sign_in(&self, other: &Self) -> bool {
        self.user_id == other.user_id && self.device_id == other.device_id && self.sign_in == other.sign_in
    }
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

impl NewDevice {
    /// Whether a device can be made of this: names are stored and shown, ids are parts of keys.
    ///
    /// # Errors
    /// When one of the two can't be used.
    pub fn check(&self) -> Result<(), DeviceError> {
        let id = self.id.as_deref().map(DeviceId::as_str);
        if id.is_some_and(|id| id.is_empty() || id.len() > MAX_DEVICE_ID_BYTES) {
            return Err(DeviceError::Id);
        }
        devices::check_name(self.display_name.as_deref())
    }
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
    sign_in: u64,
}

impl Minted {
    pub(crate) fn new(refreshable: bool, sign_in: u64, now_ms: u64) -> Self {
        let lifetime = u64::try_from(ACCESS_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        Self {
            access: Token::random("wft"),
            refresh: refreshable.then(|| Token::random("wfr")),
            expires_at: refreshable.then(|| now_ms.saturating_add(lifetime)),
            sign_in,
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
            sign_in: self.sign_in,
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

fn session(token_hash: String, row: AccessTokenRow) -> Session {
    Session {
        user_id: row.user,
        device_id: row.device,
        token_hash,
        expires_at_ms: row.expires_at,
        sign_in: row.sign_in,
    }
}

/// A number for a new sign-in; never 0, which rows have that were written before there were such numbers.
fn new_sign_in() -> u64 {
    rand::random::<u64>().max(1)
}

impl Accounts {
    /// Begins a session for a user whose right to it was checked. Tokens that the device had end.
    ///
    /// # Errors
    /// When the device can't be used or the store fails; `Contended` also where the account was deactivated meanwhile.
    pub async fn begin_session(&self, user: &UserId, device: NewDevice) -> Result<NewSession, DeviceError> {
        let session = self.begin_session_if(user, device, |_| true).await?;
        session.ok_or_else(|| AccountsUnavailable::Contended.into())
    }

    /// The same, if the account's password hash is still what `proved` expects; `None` where it isn't.
    pub(crate) async fn begin_session_if(
        &self,
        user: &UserId,
        device: NewDevice,
        proved: impl Fn(Option<&String>) -> bool,
    ) -> Result<Option<NewSession>, DeviceError> {
        device.check()?;
        let id = device.id.unwrap_or_else(|| token::device_id().into());
        for _ in 0..ATTEMPTS {
            let account = self.user_row(user).await?.filter(|account| !account.deactivated);
            let Some(account) = account.filter(|account| proved(account.password.as_ref())) else {
                return Ok(None);
            };
            let before = self
                .store()
                .get(&DEVICES, &(user, &id))
                .await
                .map_err(AccountsUnavailable::from)?;
            let mut batch = match &before {
                Some(before) => removal(user, &id, before),
                None => self.make_room(user).await?,
            };
            // A session must not begin behind the back of a deactivation.
            batch.require(&USERS, &(user,), Some(&account));
            batch.require(&DEVICES, &(user, &id), before.as_ref());
            let minted = Minted::new(device.refreshable, new_sign_in(), self.now_ms());
            let row = DeviceRow {
                display_name: before
                    .and_then(|before| before.display_name)
                    .or_else(|| device.display_name.clone()),
                created_at: self.now_ms(),
                sign_in: minted.sign_in,
                current: minted.pair(),
                next: None,
            };
            batch.put(&DEVICES, &(user, &id), &row);
            minted.put(&mut batch, user, &id, false);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(Some(minted.into_session(user, &id))),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// Ends the oldest session where the user has as many devices as one may have. Scripts that sign in for each run and
    /// never out get there; nobody could sign in any more if new devices were refused.
    async fn make_room(&self, user: &UserId) -> Result<Batch, AccountsUnavailable> {
        let devices = self.store().scan_all(DEVICES.under(&(user,))).await?;
        if devices.len() < MAX_DEVICES_PER_USER {
            return Ok(Batch::new());
        }
        let oldest = devices.iter().min_by_key(|(_, row)| row.created_at);
        Ok(oldest.map_or_else(Batch::new, |((_, id), row)| {
            let mut batch = removal(user, id, row);
            batch.require(&DEVICES, &(user, id), Some(row));
            batch
        }))
    }

    /// Authenticates a request by its access token.
    ///
    /// The first use of a token that a refresh issued ends the tokens before it (Matrix specification, "Refresh tokens"):
    /// call this only where the client makes a request with the token. [`Accounts::peek`] has no such effect.
    ///
    /// # Errors
    /// When the token is not known or has expired.
    pub async fn authenticate(&self, token: &str) -> Result<Session, AuthError> {
        let hash = token::hash(token);
        let row = self.valid_token(&hash).await?;
        if row.fresh {
            self.retire_previous(&hash, &row).await?;
        }
        Ok(session(hash, row))
    }

    /// The session that an access token belongs to, without using the token: the tokens before it stay valid.
    ///
    /// # Errors
    /// When the token is not known or has expired.
    pub async fn peek(&self, token: &str) -> Result<Session, AuthError> {
        let hash = token::hash(token);
        let row = self.valid_token(&hash).await?;
        Ok(session(hash, row))
    }

    /// Checks a session again that was authenticated earlier: for requests that wait and for sockets. Has no effect on
    /// tokens. A token that ended because its successor was used still counts until it would have expired, since the
    /// sign-in goes on; one that ended by a sign-out, a deactivation or a new sign-in on the device does not.
    ///
    /// # Errors
    /// When the session has ended or its token has expired.
    pub async fn recheck(&self, session: &Session) -> Result<(), AuthError> {
        if session.expires_at_ms.is_some_and(|at| at <= self.now_ms()) {
            return Err(AuthError::Expired);
        }
        match self.valid_token(&session.token_hash).await {
            Ok(_) => return Ok(()),
            Err(AuthError::Unknown) => {}
            Err(error) => return Err(error),
        }
        let device = self
            .store()
            .get(&DEVICES, &(&session.user_id, &session.device_id))
            .await
            .map_err(AccountsUnavailable::from)?;
        // A row of before there were sign-in numbers has 0, which no new sign-in gets.
        match device {
            Some(device) if device.sign_in == session.sign_in => Ok(()),
            _ => Err(AuthError::Unknown),
        }
    }

    /// How long a session's token still works; `None`: until sign-out.
    #[must_use]
    pub fn time_left(&self, session: &Session) -> Option<Duration> {
        let left = |at: u64| Duration::from_millis(at.saturating_sub(self.now_ms()));
        session.expires_at_ms.map(left)
    }

    async fn valid_token(&self, hash: &str) -> Result<AccessTokenRow, AuthError> {
        let row = self
            .store()
            .get(&ACCESS_TOKENS, &(hash,))
            .await
            .map_err(AccountsUnavailable::from)?;
        let row = row.ok_or(AuthError::Unknown)?;
        if row.expires_at.is_some_and(|at| at <= self.now_ms()) {
            return Err(AuthError::Expired);
        }
        Ok(row)
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
        for _ in 0..ATTEMPTS {
            let Some(row) = self.store().get(&DEVICES, &(user, device)).await? else {
                return Ok(());
            };
            let mut batch = removal(user, device, &row);
            // A refresh in between has issued tokens that this batch doesn't know.
            batch.require(&DEVICES, &(user, device), Some(&row));
            match self.store().commit(batch).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountsUnavailable::Contended)
    }

    /// Ends all sessions of a user, but for those of one device where it is named.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout_all(&self, user: &UserId, except: Option<&DeviceId>) -> Result<(), AccountsUnavailable> {
        for ((_, device), _) in self.store().scan_all(DEVICES.under(&(user,))).await? {
            if except.is_none_or(|kept| kept != device) {
                self.logout(user, &device).await?;
            }
        }
        Ok(())
    }
}
