//! Sessions: a device with an access token. Creation, authentication by token, logout. Must not store tokens in the clear.

use std::time::Duration;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use weft_store::{
    Batch, CommitError, Lane, Lanes,
    tables::accounts::{
        ACCESS_TOKENS, AccessTokenRow, DEVICES, DeviceRow, REFRESH_TOKENS, RefreshTokenRow, TokenPair, USERS,
    },
};
use weft_wire::limits::{MAX_DEVICE_ID_BYTES, MAX_DEVICES_PER_USER};

use crate::{
    ATTEMPTS, Accounts, AccountsUnavailable, DeviceError, devices,
    token::{self, Token},
};

/// Lifetime of an access token that the client can refresh.
pub(crate) const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The authenticated user and device of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Hash of the token, to distinguish sessions. Not secret, but must not be logged.
    pub token_hash: String,
    /// Expiry of the token, in milliseconds since 1970. `None`: at logout. Long-lived connections must end, or receive a
    /// newer token, at this time.
    pub expires_at_ms: Option<u64>,
    /// The user is a guest.
    pub guest: bool,
    /// Identifies the login: equal before and after a refresh, different after the next login on the same device.
    sign_in: u64,
}

impl Session {
    /// Whether `other` belongs to the same login of the same device: the same token, or one that a refresh issued. A
    /// long-lived connection may replace one by the other.
    #[must_use]
    pub fn is_same_sign_in(&self, other: &Self) -> bool {
        self.user_id == other.user_id && self.device_id == other.device_id && self.sign_in == other.sign_in
    }
}

/// The device of a new session.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// Device ID. `None`: a random one. An existing device gets a new session, and its old tokens are revoked.
    pub id: Option<OwnedDeviceId>,
    /// Display name of a new device.
    pub display_name: Option<String>,
    /// The client supports refresh tokens: the access token expires after an hour.
    pub refreshable: bool,
}

impl NewDevice {
    /// Checks the ID and the name: names are stored and displayed, IDs are parts of keys.
    ///
    /// # Errors
    /// If one of the two is not valid.
    pub fn check(&self) -> Result<(), DeviceError> {
        let id = self.id.as_deref().map(DeviceId::as_str);
        if id.is_some_and(|id| id.is_empty() || id.len() > MAX_DEVICE_ID_BYTES) {
            return Err(DeviceError::Id);
        }
        devices::check_name(self.display_name.as_deref())
    }
}

/// The tokens that a client gets when a session begins or is refreshed. Secrets: must not be logged (hence no `Debug`).
pub struct NewSession {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token, if the client supports it.
    pub refresh_token: Option<String>,
    /// Lifetime of the access token. `None`: until logout.
    pub expires_in: Option<Duration>,
}

/// The reason why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Never issued, or its session has ended.
    #[error("unknown access token")]
    Unknown,
    /// It must be refreshed; the session is still valid.
    #[error("the access token has expired")]
    Expired,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// New tokens and their rows, not committed yet.
pub(crate) struct NewTokens {
    access: Token,
    refresh: Option<Token>,
    expires_at: Option<u64>,
    lifetime: Option<Duration>,
    sign_in: u64,
    guest: bool,
    /// The user's lane.
    lane: Lane,
}

impl NewTokens {
    pub(crate) fn new((lanes, user): (Lanes, &UserId), refreshable: bool, sign_in: u64, now_ms: u64) -> Self {
        let lane = lanes.of(user);
        let lifetime = u64::try_from(ACCESS_TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        Self {
            access: Token::random("wft", lanes, lane),
            refresh: refreshable.then(|| Token::random("wfr", lanes, lane)),
            expires_at: refreshable.then(|| now_ms.saturating_add(lifetime)),
            lifetime: refreshable.then_some(ACCESS_TOKEN_LIFETIME),
            sign_in,
            guest: false,
            lane,
        }
    }

    /// For a guest: the session ends at this time and can't be refreshed.
    fn of_guest(self, until: u64, now_ms: u64) -> Self {
        Self {
            refresh: None,
            expires_at: Some(until),
            lifetime: Some(Duration::from_millis(until.saturating_sub(now_ms))),
            guest: true,
            ..self
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
            guest: self.guest,
        };
        batch.put(&ACCESS_TOKENS, &(self.lane, self.access.hash()), &access);
        if let Some(refresh) = &self.refresh {
            let row = RefreshTokenRow {
                user: user.to_owned(),
                device: device.to_owned(),
            };
            batch.put(&REFRESH_TOKENS, &(self.lane, refresh.hash()), &row);
        }
    }

    pub(crate) fn into_session(self, user: &UserId, device: &DeviceId) -> NewSession {
        NewSession {
            user_id: user.to_owned(),
            device_id: device.to_owned(),
            access_token: self.access.into_string(),
            expires_in: self.lifetime,
            refresh_token: self.refresh.map(Token::into_string),
        }
    }
}

/// `lane` is that of the user.
pub(crate) fn delete_pair(batch: &mut Batch, lane: Lane, pair: &TokenPair) {
    batch.delete(&ACCESS_TOKENS, &(lane, &pair.access));
    if let Some(refresh) = &pair.refresh {
        batch.delete(&REFRESH_TOKENS, &(lane, refresh));
    }
}

/// The batch that ends a session: deletes the device and all its tokens.
pub(crate) fn removal(lane: Lane, user: &UserId, device: &DeviceId, row: &DeviceRow) -> Batch {
    let mut batch = Batch::new();
    batch.delete(&DEVICES, &(user, device));
    delete_pair(&mut batch, lane, &row.current);
    if let Some(next) = &row.next {
        delete_pair(&mut batch, lane, next);
    }
    batch
}

fn session(token_hash: String, row: AccessTokenRow) -> Session {
    Session {
        user_id: row.user,
        device_id: row.device,
        token_hash,
        expires_at_ms: row.expires_at,
        guest: row.guest,
        sign_in: row.sign_in,
    }
}

/// A number for a new login. Never 0: rows of versions without login numbers have 0.
fn new_sign_in() -> u64 {
    rand::random::<u64>().max(1)
}

impl Accounts {
    /// Begins a session. The caller must have authenticated the user. Earlier tokens of the device are revoked.
    ///
    /// # Errors
    /// If the device is not valid or the store fails; `Contended` also if the account was deactivated concurrently.
    pub async fn begin_session(&self, user: &UserId, device: NewDevice) -> Result<NewSession, DeviceError> {
        let session = self.begin_session_if(user, device, |_| true).await?;
        session.ok_or_else(|| AccountsUnavailable::Contended.into())
    }

    /// The same, but only if the account's password hash is still what `proved` expects; otherwise `None`.
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
                Some(before) => removal(self.store().lane_of(user), user, &id, before),
                None => self.make_room(user).await?,
            };
            // A concurrent deactivation must make this commit fail.
            batch.require(&USERS, &(user,), Some(&account));
            batch.require(&DEVICES, &(user, &id), before.as_ref());
            let tokens = NewTokens::new(
                (self.store().lanes(), user),
                device.refreshable,
                new_sign_in(),
                self.now_ms(),
            );
            let tokens = match account.guest_until {
                Some(until) => tokens.of_guest(until, self.now_ms()),
                None => tokens,
            };
            let row = DeviceRow {
                display_name: before
                    .and_then(|before| before.display_name)
                    .or_else(|| device.display_name.clone()),
                created_at: self.now_ms(),
                sign_in: tokens.sign_in,
                current: tokens.pair(),
                next: None,
            };
            batch.put(&DEVICES, &(user, &id), &row);
            tokens.put(&mut batch, user, &id, false);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(Some(tokens.into_session(user, &id))),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// Ends the oldest session if the user has the maximum number of devices. Scripts that log in on every run and never log
    /// out reach it; if new devices were refused, the user could no longer log in.
    async fn make_room(&self, user: &UserId) -> Result<Batch, AccountsUnavailable> {
        let devices = self.store().scan_all(DEVICES.under(&(user,))).await?;
        if devices.len() < MAX_DEVICES_PER_USER {
            return Ok(Batch::new());
        }
        let oldest = devices.iter().min_by_key(|(_, row)| row.created_at);
        Ok(oldest.map_or_else(Batch::new, |((_, id), row)| {
            let mut batch = removal(self.store().lane_of(user), user, id, row);
            batch.require(&DEVICES, &(user, id), Some(row));
            batch
        }))
    }

    /// Authenticates a request by its access token.
    ///
    /// The first use of a token that a refresh issued revokes the tokens before it (Matrix specification, "Refresh tokens"):
    /// call this only where the client makes a request with the token. [`Accounts::peek`] has no such effect.
    ///
    /// # Errors
    /// If the token is unknown or has expired.
    pub async fn authenticate(&self, token: &str) -> Result<Session, AuthError> {
        let hash = token::hash(token);
        let row = self.valid_token(token::lane(token), &hash).await?;
        if row.fresh {
            self.retire_previous(&hash, &row).await?;
        }
        Ok(session(hash, row))
    }

    /// Returns the session of an access token without using the token: the tokens before it stay valid.
    ///
    /// # Errors
    /// If the token is unknown or has expired.
    pub async fn peek(&self, token: &str) -> Result<Session, AuthError> {
        let hash = token::hash(token);
        let row = self.valid_token(token::lane(token), &hash).await?;
        Ok(session(hash, row))
    }

    /// Checks again a session that was authenticated earlier: for requests that wait and for sockets. Has no effect on
    /// tokens. A token that was revoked because its successor was used is accepted until its expiry, since the login
    /// continues. A token that was revoked by a logout, a deactivation or a new login on the device is not accepted.
    ///
    /// # Errors
    /// If the session has ended or its token has expired.
    pub async fn recheck(&self, session: &Session) -> Result<(), AuthError> {
        if session.expires_at_ms.is_some_and(|at| at <= self.now_ms()) {
            return Err(AuthError::Expired);
        }
        let lane = self.store().lane_of(&*session.user_id);
        match self.valid_token(lane, &session.token_hash).await {
            Ok(_) => return Ok(()),
            Err(AuthError::Unknown) => {}
            Err(error) => return Err(error),
        }
        let device = self
            .store()
            .get(&DEVICES, &(&session.user_id, &session.device_id))
            .await
            .map_err(AccountsUnavailable::from)?;
        // A row of a version without login numbers has 0, which no new login gets.
        match device {
            Some(device) if device.sign_in == session.sign_in => Ok(()),
            _ => Err(AuthError::Unknown),
        }
    }

    /// Remaining lifetime of a session's token. `None`: until logout.
    #[must_use]
    pub fn time_left(&self, session: &Session) -> Option<Duration> {
        let left = |at: u64| Duration::from_millis(at.saturating_sub(self.now_ms()));
        session.expires_at_ms.map(left)
    }

    async fn valid_token(&self, lane: Lane, hash: &str) -> Result<AccessTokenRow, AuthError> {
        let row = self
            .store()
            .get(&ACCESS_TOKENS, &(lane, hash))
            .await
            .map_err(AccountsUnavailable::from)?;
        let row = row.ok_or(AuthError::Unknown)?;
        if row.expires_at.is_some_and(|at| at <= self.now_ms()) {
            return Err(AuthError::Expired);
        }
        Ok(row)
    }

    /// The first use of a refreshed access token revokes the tokens before it, since the client has the new ones.
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
                // A concurrent request was first: it revoked the old pair, or a later refresh revoked this one.
                return if before.current.access == hash {
                    Ok(())
                } else {
                    Err(AuthError::Unknown)
                };
            };
            let mut batch = Batch::new();
            batch.require(&DEVICES, &key, Some(&before));
            let lane = self.store().lane_of(&*row.user);
            delete_pair(&mut batch, lane, &before.current);
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
                &(lane, hash),
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

    /// Ends one session. Not an error if it has already ended.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn logout(&self, user: &UserId, device: &DeviceId) -> Result<(), AccountsUnavailable> {
        for _ in 0..ATTEMPTS {
            let Some(row) = self.store().get(&DEVICES, &(user, device)).await? else {
                return Ok(());
            };
            let mut batch = removal(self.store().lane_of(user), user, device, &row);
            // A concurrent refresh issues tokens that are not in this batch.
            batch.require(&DEVICES, &(user, device), Some(&row));
            match self.store().commit(batch).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountsUnavailable::Contended)
    }

    /// Ends all sessions of a user, except those of the device `except`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn logout_all(&self, user: &UserId, except: Option<&DeviceId>) -> Result<(), AccountsUnavailable> {
        for ((_, device), _) in self.store().scan_all(DEVICES.under(&(user,))).await? {
            if except.is_none_or(|kept| kept != device) {
                self.logout(user, &device).await?;
            }
        }
        Ok(())
    }
}
