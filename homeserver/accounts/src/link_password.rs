//! Passwords of share links: hashed and checked as those of accounts, with the same limiter of guesses. Must not know what a
//! link leads to.

use ruma::OwnedUserId;
use weft_wire::limits::MAX_PASSWORD_BYTES;

use crate::{
    Accounts, AccountsUnavailable, Network, ProofError,
    login_limiter::{Source, Subject},
    password::ClientClass,
};

/// The source of a guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follower {
    /// A signed-in user.
    User(OwnedUserId, Option<Network>),
    /// A request without a token, from this network.
    Stranger(Option<Network>),
}

impl Follower {
    fn class(&self) -> ClientClass {
        match self {
            Self::User(_, network) => ClientClass::Known(*network),
            Self::Stranger(network) => ClientClass::Stranger(*network),
        }
    }

    fn source(&self) -> Source {
        match self {
            Self::User(user, _) => Source::User(user.clone()),
            Self::Stranger(network) => Source::Network(*network),
        }
    }
}

impl Accounts {
    /// The hash of the password of a new link. The caller must have checked the password
    /// ([`check_new_password`](crate::check_new_password)).
    ///
    /// # Errors
    /// If too many hashes are being computed.
    pub async fn hash_link_password(
        &self,
        password: &str,
        network: Option<Network>,
    ) -> Result<String, AccountsUnavailable> {
        let class = ClientClass::Known(network);
        self.inner.passwords.hash(password, class).await
    }

    /// Checks the password of the link with this id. Failures count for the user or the network, and for the link.
    ///
    /// # Errors
    /// If it is wrong, or too many attempts failed.
    pub async fn prove_link_password(
        &self,
        (link, stored): (&str, &str),
        password: &str,
        follower: &Follower,
    ) -> Result<(), ProofError> {
        let (limiter, now) = (&self.inner.login_limiter, self.now_ms());
        let attempt = limiter
            .begin(Subject::Link(link.to_owned()), follower.source(), true, now)
            .map_err(|retry_after| ProofError::Throttled { retry_after })?;
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(ProofError::Denied);
        }
        let verified = self
            .inner
            .passwords
            .verify(password, Some(stored.to_owned()), follower.class());
        match verified.await {
            Ok(true) => {
                limiter.succeeded(&attempt, now);
                Ok(())
            }
            Ok(false) => Err(ProofError::Denied),
            Err(error) => {
                limiter.discard(&attempt);
                Err(error.into())
            }
        }
    }
}
