//! Signing in with a password.

use std::{net::IpAddr, time::Duration};

use crate::{Accounts, AccountsUnavailable, NewDevice, NewSession};

/// A sign-in. Holds a password: must not be logged (hence no `Debug`).
pub struct LoginRequest {
    /// Local part or full id, as the person typed it.
    pub user: String,
    /// The password.
    pub password: String,
    /// The device to sign in.
    pub device: NewDevice,
    /// Where the request comes from, if known: guesses are counted by it too.
    pub address: Option<IpAddr>,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such user, deactivated, or another password: deliberately not told apart.
    #[error("wrong user name or password")]
    Denied,
    /// Too many failures.
    #[error("too many failed sign-ins: try again in {} s", retry_after.as_secs())]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The store.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Signs in with a password.
    ///
    /// # Errors
    /// When name and password don't fit, or too many attempts failed.
    pub async fn login(&self, request: LoginRequest) -> Result<NewSession, LoginError> {
        let user = self.user_id(&request.user).map_err(|_| LoginError::Denied)?;
        let now = self.now_ms();
        if let Some(retry_after) = self.inner.throttle.wait(&user, request.address, now) {
            return Err(LoginError::Throttled { retry_after });
        }
        // Counted before the slow check, so that guesses sent all at once are counted too.
        self.inner.throttle.failed(&user, request.address, now);
        if !self.check_password(&user, &request.password).await? {
            tracing::info!(%user, "sign-in refused");
            return Err(LoginError::Denied);
        }
        self.inner.throttle.succeeded(&user);
        Ok(self.begin_session(&user, request.device).await?)
    }
}
