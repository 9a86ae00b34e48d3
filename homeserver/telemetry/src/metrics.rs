//! The registry of all counters and histograms. Exporters read it as text in the OpenMetrics format. Must not serve it.

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    metrics::counter::Counter,
    registry::{Registry, Unit},
};

use crate::calls::Calls;

/// The metrics of the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreMetrics {
    pub(crate) calls: Calls,
    /// Batches in groups.
    pub(crate) batches: Counter,
    /// Batches that were not written because a row had changed.
    pub(crate) fenced: Counter,
    /// Bytes of the batches.
    pub(crate) written: Counter,
}

/// All metrics of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub(crate) store: StoreMetrics,
    pub(crate) peers: Calls,
    pub(crate) deliveries: Calls,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weft");
        let (store, peers, deliveries) = (StoreMetrics::default(), Calls::default(), Calls::default());
        for (name, about, calls) in [
            ("store", "of the storage engine", &store.calls),
            ("peers", "to other servers for missing events", &peers),
            ("outbox", "that deliver transactions to other servers", &deliveries),
        ] {
            let seam = registry.sub_registry_with_prefix(name);
            seam.register("calls", format!("Calls {about}"), calls.count.clone());
            let help = format!("Duration of calls {about}");
            seam.register_with_unit("call_duration", help, Unit::Seconds, calls.seconds.clone());
        }
        let seam = registry.sub_registry_with_prefix("store");
        seam.register("commit_batches", "Batches in group commits", store.batches.clone());
        let help = "Batches that were refused because a row had changed";
        seam.register("fenced_batches", help, store.fenced.clone());
        seam.register_with_unit("commit", "Size of the batches", Unit::Bytes, store.written.clone());
        Self {
            registry: Arc::new(registry),
            store,
            peers,
            deliveries,
        }
    }
}

impl Metrics {
    /// The current values, as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
