//! The keys of other servers for exports of signed logs. Must not ask a server for keys: an export names any server.

use async_trait::async_trait;
use ruma::ServerName;
use weft_dag::VerifyKeys;
use weft_federation::RemoteKeys;
use weft_gateway::documents::KnownKeys;

/// Implements the document API's port with the key cache.
pub(crate) struct CachedKeys(pub(crate) RemoteKeys);

#[async_trait]
impl KnownKeys for CachedKeys {
    async fn known_keys(&self, server: &ServerName) -> VerifyKeys {
        self.0.stored(server).await
    }
}
