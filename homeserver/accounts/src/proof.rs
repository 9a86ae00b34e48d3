//! Proofs of identity and of rights: each is checked here and nowhere else, so that one rate limiter sees all guesses.

use std::time::Duration;

use ruma::UserId;
use weft_wire::limits::MAX_PASSWORD_BYTES;

use crate::{
    Accounts, AccountsUnavailable, Network, Session,
    login_limiter::{Place, Subject},
    password::For,
};

/// Why a proof was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It is wrong. For a password also: no such user, or deactivated; deliberately not told apart.
    #[error("the proof is wrong")]
    Denied,
    /// Too many failures.
    #[error("too many failures: try again in {} s", retry_after.as_secs())]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The store, or too many hashes.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// A secret of the operator that lets people make accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// A registration token.
    RegistrationToken,
    /// The shared secret of `/_synapse/admin/v1/register`.
    Shared,
}

impl Accounts {
    /// Whether the user of a session knows the password. Failures count for the device, so that a stolen access token
    /// allows few guesses, and guesses of others don't stop the user.
    ///
    /// # Errors
    /// When the password is wrong, or too many attempts failed.
    pub async fn prove_password(
        &self,
        session: &Session,
        password: &str,
        network: Option<Network>,
    ) -> Result<(), ProofError> {
        let place = Place::Device(session.device_id.clone());
        self.check_password(&session.user_id, password, (place, network))
            .await?;
        self.note_network(&session.user_id, network);
        Ok(())
    }

    /// Notes that a user proved from this network who they are: later sign-ins from there are not slowed by what others
    /// guess elsewhere.
    pub fn note_network(&self, user: &UserId, network: Option<Network>) {
        self.inner.login_limiter.note_known(user, network, self.now_ms());
    }

    /// Checks one of the operator's secrets, as often as the rate limiter lets this network.
    ///
    /// # Errors
    /// When `is_right` says that it is wrong, or too many attempts failed.
    pub fn check_secret(
        &self,
        secret: Secret,
        network: Option<Network>,
        is_right: impl FnOnce() -> bool,
    ) -> Result<(), ProofError> {
        let subject = match secret {
            Secret::RegistrationToken => Subject::RegistrationToken,
            Secret::Shared => Subject::SharedSecret,
        };
        let (login_limiter, now) = (&self.inner.login_limiter, self.now_ms());
        let attempt = login_limiter
            .begin(subject, Place::Network(network), true, now)
            .map_err(|retry_after| ProofError::Throttled { retry_after })?;
        if is_right() {
            login_limiter.succeeded(&attempt, now);
            Ok(())
        } else {
            Err(ProofError::Denied)
        }
    }

    /// Whether the password is the user's, counted for a place; gives the hash that it was compared with.
    pub(crate) async fn check_password(
        &self,
        user: &UserId,
        password: &str,
        (place, network): (Place, Option<Network>),
    ) -> Result<Option<String>, ProofError> {
        let row = self.user_row(user).await?.filter(|row| !row.deactivated);
        let (login_limiter, now) = (&self.inner.login_limiter, self.now_ms());
        let attempt = login_limiter
            .begin(Subject::Password(user.to_owned()), place, row.is_some(), now)
            .map_err(|retry_after| ProofError::Throttled { retry_after })?;
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(ProofError::Denied);
        }
        let stored = row.and_then(|row| row.password);
        let whom = if attempt.known {
            For::Known(network)
        } else {
            For::Stranger(network)
        };
        match self.inner.passwords.verify(password, stored.clone(), whom).await {
            Ok(true) => {
                login_limiter.succeeded(&attempt, now);
                Ok(stored)
            }
            Ok(false) => {
                tracing::info!(%user, "wrong password");
                Err(ProofError::Denied)
            }
            Err(error) => {
                login_limiter.forgive(&attempt);
                Err(error.into())
            }
        }
    }
}
