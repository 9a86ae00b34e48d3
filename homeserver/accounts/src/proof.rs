//! Proofs of identity and of permission. They must be checked only here, so that one rate limiter counts all guesses.

use std::time::Duration;

use ruma::UserId;
use weft_wire::limits::MAX_PASSWORD_BYTES;

use crate::{
    Accounts, AccountsUnavailable, Network, Session,
    login_limiter::{Source, Subject},
    password::ClientClass,
};

/// The reason why a proof was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It is wrong. For a password also: the user does not exist or is deactivated; deliberately indistinguishable.
    #[error("the proof is wrong")]
    Denied,
    /// Too many failures.
    #[error("too many failures: try again in {} s", retry_after.as_secs())]
    Throttled {
        /// Time to wait.
        retry_after: Duration,
    },
    /// The store failed, or too many hashes are being computed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

/// A secret of the operator that permits registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// A registration token.
    RegistrationToken,
    /// The shared secret of `/_synapse/admin/v1/register`.
    Shared,
}

impl Accounts {
    /// Checks the password of a session's user. Failures count for the device, so that a stolen access token allows few
    /// guesses, and guesses from other sources do not block the user.
    ///
    /// # Errors
    /// If the password is wrong, or too many attempts failed.
    pub async fn prove_password(
        &self,
        session: &Session,
        password: &str,
        network: Option<Network>,
    ) -> Result<(), ProofError> {
        let source = Source::Device(session.device_id.clone());
        self.check_password(&session.user_id, password, (source, network))
            .await?;
        self.note_network(&session.user_id, network);
        Ok(())
    }

    /// Notes that a user authenticated from this network: later logins from it are not limited by guesses from other
    /// networks.
    pub fn note_network(&self, user: &UserId, network: Option<Network>) {
        self.inner.login_limiter.note_known(user, network, self.now_ms());
    }

    /// Checks one of the operator's secrets, as often as the rate limiter allows this network.
    ///
    /// # Errors
    /// If `is_right` returns that it is wrong, or too many attempts failed.
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
            .begin(subject, Source::Network(network), true, now)
            .map_err(|retry_after| ProofError::Throttled { retry_after })?;
        if is_right() {
            login_limiter.succeeded(&attempt, now);
            Ok(())
        } else {
            Err(ProofError::Denied)
        }
    }

    /// Checks a user's password and counts a failure for the source. Returns the hash that it was compared with.
    pub(crate) async fn check_password(
        &self,
        user: &UserId,
        password: &str,
        (source, network): (Source, Option<Network>),
    ) -> Result<Option<String>, ProofError> {
        let row = self.user_row(user).await?.filter(|row| !row.deactivated);
        let (login_limiter, now) = (&self.inner.login_limiter, self.now_ms());
        let attempt = login_limiter
            .begin(Subject::Password(user.to_owned()), source, row.is_some(), now)
            .map_err(|retry_after| ProofError::Throttled { retry_after })?;
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(ProofError::Denied);
        }
        let stored = row.and_then(|row| row.password);
        let class = if attempt.known {
            ClientClass::Known(network)
        } else {
            ClientClass::Stranger(network)
        };
        match self.inner.passwords.verify(password, stored.clone(), class).await {
            Ok(true) => {
                login_limiter.succeeded(&attempt, now);
                Ok(stored)
            }
            Ok(false) => {
                tracing::info!(%user, "wrong password");
                Err(ProofError::Denied)
            }
            Err(error) => {
                login_limiter.discard(&attempt);
                Err(error.into())
            }
        }
    }
}
