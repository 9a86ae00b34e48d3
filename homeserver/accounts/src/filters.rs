//! Stored filters, which clients refer to by a short ID in /sync. Must not interpret them.

use ruma::UserId;
use weft_store::{Batch, CommitError, tables::accounts::FILTERS};
use weft_wire::limits::MAX_FILTER_BYTES;

use crate::{ATTEMPTS, Accounts, AccountsUnavailable};

/// Filters that one user may store. Clients store a handful, and an identical filter gets the same ID.
const MAX_FILTERS: usize = 200;

/// The reason why a filter was not stored.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is longer than the limit.
    #[error("a filter has at most {MAX_FILTER_BYTES} bytes")]
    TooLarge,
    /// The user's quota is used up.
    #[error("a user has at most {MAX_FILTERS} filters and {bytes} bytes of filters")]
    TooMany {
        /// Limit in bytes.
        bytes: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Unavailable(#[from] AccountsUnavailable),
}

impl Accounts {
    /// Stores a filter (JSON text) and returns its ID; an identical filter keeps its ID.
    ///
    /// # Errors
    /// If it is too large, the user's quota is exceeded, or the store fails.
    pub async fn store_filter(&self, user: &UserId, filter: String) -> Result<u64, FilterError> {
        if filter.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLarge);
        }
        for _ in 0..ATTEMPTS {
            let stored = self
                .store()
                .scan_all(FILTERS.under(&(user,)))
                .await
                .map_err(AccountsUnavailable::from)?;
            if let Some(((_, id), _)) = stored.iter().find(|(_, known)| *known == filter) {
                return Ok(*id);
            }
            let used: usize = stored.iter().map(|(_, filter)| filter.len()).sum();
            let bytes = self.inner.limits.filter_bytes;
            if stored.len() >= MAX_FILTERS || (used + filter.len()) as u64 > bytes {
                return Err(FilterError::TooMany { bytes });
            }
            let id = stored.last().map_or(0, |((_, last), _)| last.saturating_add(1));
            let mut batch = Batch::new();
            batch.require(&FILTERS, &(user, id), None);
            batch.put(&FILTERS, &(user, id), &filter);
            match self.store().commit(batch).await {
                Ok(()) => return Ok(id),
                Err(CommitError::Fence { .. }) => {}
                Err(error) => return Err(AccountsUnavailable::from(error).into()),
            }
        }
        Err(AccountsUnavailable::Contended.into())
    }

    /// Returns a stored filter.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn filter(&self, user: &UserId, id: u64) -> Result<Option<String>, AccountsUnavailable> {
        Ok(self.store().get(&FILTERS, &(user, id)).await?)
    }
}
