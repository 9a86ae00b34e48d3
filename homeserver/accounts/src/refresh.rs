//! Refreshing a session (Matrix specification, "Refresh tokens").
//!
//! A refresh issues a new pair of tokens. The old pair is revoked when the new access or refresh token is first used, so
//! a client that did not receive the response can refresh again.

use weft_store::{
    Batch, CommitError,
    tables::accounts::{DEVICES, DeviceRow, REFRESH_TOKENS, TokenPair},
};

use crate::{
    ATTEMPTS, Accounts, AccountsUnavailable, NewSession,
    sessions::{NewTokens, delete_pair},
    token,
};

/// The reason why a session was not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Never issued, already used, or its session has ended.
    #[error("unknown refresh token")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Issues a new pair of tokens for the device that the refresh token belongs to.
    ///
    /// # Errors
    /// If the token is unknown.
    pub async fn refresh(&self, refresh_token: &str) -> Result<NewSession, RefreshError> {
        let hash = token::hash(refresh_token);
        for _ in 0..ATTEMPTS {
            let row = self
                .store()
                .get(&REFRESH_TOKENS, &(token::lane(refresh_token), &hash))
                .await
                .map_err(AccountsUnavailable::from)?;
            let row = row.ok_or(RefreshError::Unknown)?;
            let key = (&row.user, &row.device);
            let device = self
                .store()
                .get(&DEVICES, &key)
                .await
                .map_err(AccountsUnavailable::from)?;
            let before = device.ok_or(RefreshError::Unknown)?;
            let (current, ended) = successors(&before, &hash).ok_or(RefreshError::Unknown)?;

            let tokens = NewTokens::new((self.store().lanes(), &row.user), true, before.sign_in, self.now_ms());
            let mut batch = Batch::new();
            batch.require(&DEVICES, &key, Some(&before));
            if let Some(ended) = &ended {
                delete_pair(&mut batch, self.store().lane_of(&*row.user), ended);
            }
            tokens.put(&mut batch, &row.user, &row.device, true);
            batch.put(
                &DEVICES,
                &key,
                &DeviceRow {
                    current,
                    next: Some(tokens.pair()),
                    ..before.clone()
                },
            );
            match self.store().commit(batch).await {
                Ok(()) => return Ok(tokens.into_session(&row.user, &row.device)),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }
}

/// When the refresh token with this hash is used: the pair that remains current, and the pair that is revoked.
fn successors(device: &DeviceRow, hash: &str) -> Option<(TokenPair, Option<TokenPair>)> {
    let is = |pair: &TokenPair| pair.refresh.as_deref() == Some(hash);
    match &device.next {
        // The newest token was used: its pair replaces the old pair, which is revoked.
        Some(next) if is(next) => Some((next.clone(), Some(device.current.clone()))),
        // The old token was used again: the pair of the lost response is revoked.
        next if is(&device.current) => Some((device.current.clone(), next.clone())),
        _ => None,
    }
}
