//! Measures the delivery of transactions to other servers. Each has a span. Must not record events or EDUs.

use async_trait::async_trait;
use ruma::{MilliSecondsSinceUnixEpoch, ServerName};
use serde_json::value::RawValue;
use tracing::Instrument as _;
use weft_federation::outbox::{Transport, queue::SendFailure};

use crate::{Metrics, calls::Calls};

/// See the module.
pub struct MeteredTransport<T> {
    transport: T,
    calls: Calls,
}

impl<T> MeteredTransport<T> {
    /// Measures the deliveries.
    pub fn new(transport: T, metrics: &Metrics) -> Self {
        Self {
            transport,
            calls: metrics.deliveries.clone(),
        }
    }
}

#[async_trait]
impl<T: Transport> Transport for MeteredTransport<T> {
    async fn deliver(
        &self,
        server: &ServerName,
        id: &str,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), SendFailure> {
        let span =
            tracing::debug_span!("outbox_delivery", %server, transaction = id, pdus = pdus.len(), edus = edus.len());
        let delivery = self.transport.deliver(server, id, pdus, edus, now);
        self.calls.measure("deliver", delivery.instrument(span)).await
    }
}
