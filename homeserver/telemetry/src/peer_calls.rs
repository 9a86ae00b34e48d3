//! Measures requests to other servers for events that a room lacks. Each has a span. Must not record events.

use ruma::ServerName;
use tracing::Instrument as _;

use crate::{Metrics, calls::Calls};

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerCalls(Calls);

impl PeerCalls {
    /// Counts in this registry.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self(metrics.peers.clone())
    }

    /// Measures a request, whose result is returned as it is.
    ///
    /// # Errors
    /// That of the request.
    pub async fn measure<T, E>(
        &self,
        operation: &'static str,
        server: &ServerName,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let span = tracing::debug_span!("peer_request", operation, %server);
        self.0.measure(operation, request.instrument(span)).await
    }
}
