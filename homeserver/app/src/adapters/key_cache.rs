//! Other servers' keys in the store, in the form in which federation writes them. Must not validate them.

use async_trait::async_trait;
use ruma::ServerName;
use weft_federation::{KeyCache, KeyCacheError, StoredKeys};
use weft_store::{Batch, Store, tables::federation::REMOTE_KEYS};

/// Implements federation's key cache with the table of keys.
pub(crate) struct StoredKeyCache(pub(crate) Store);

#[async_trait]
impl KeyCache for StoredKeyCache {
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        let row = self.0.get(&REMOTE_KEYS, &(server,)).await.map_err(failed)?;
        row.map(|json| serde_json::from_slice(&json).map_err(failed))
            .transpose()
    }

    async fn save(&self, keys: &StoredKeys) -> Result<(), KeyCacheError> {
        let json = serde_json::to_vec(keys).map_err(failed)?;
        let mut batch = Batch::new();
        batch.put(&REMOTE_KEYS, &(&keys.server,), &json.into());
        self.0.commit(batch).await.map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> KeyCacheError {
    KeyCacheError(error.to_string())
}
