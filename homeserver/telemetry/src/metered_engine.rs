//! Measures a storage engine. A commit group has a span. Must not record keys or values.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tracing::Instrument as _;
use weft_store::{
    ReadError,
    engine::{CommitGroup, Engine, EngineCommitError, KeyRange},
};

use crate::{Metrics, calls::Outcome, metrics::StoreMetrics};

/// See the module.
#[derive(Debug)]
pub struct MeteredEngine<E> {
    engine: E,
    metrics: StoreMetrics,
    /// A failed commit was logged: all later ones fail too.
    failed: AtomicBool,
}

impl<E> MeteredEngine<E> {
    /// Measures the engine.
    pub fn new(engine: E, metrics: &Metrics) -> Self {
        Self {
            engine,
            metrics: metrics.store.clone(),
            failed: AtomicBool::new(false),
        }
    }

    fn count(&self, results: &[Result<(), EngineCommitError>]) -> Outcome {
        let mut outcome = Outcome::Ok;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            match error {
                EngineCommitError::Fence { .. } => {
                    self.metrics.fenced.inc();
                }
                EngineCommitError::Closed | EngineCommitError::LaneLost | EngineCommitError::InDoubt { .. } => {
                    outcome = Outcome::Failed;
                }
                EngineCommitError::Poisoned { reason } => {
                    outcome = Outcome::Failed;
                    if !self.failed.swap(true, Ordering::Relaxed) {
                        tracing::error!(
                            event = "store.commit_failed",
                            reason,
                            "the store accepts no more writes"
                        );
                    }
                }
            }
        }
        outcome
    }
}

#[async_trait]
impl<E: Engine> Engine for MeteredEngine<E> {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.metrics.calls.measure("get", self.engine.get(key)).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.metrics.calls.measure("get_many", self.engine.get_many(keys)).await
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        self.metrics.calls.measure("scan", self.engine.scan(range)).await
    }

    fn is_embedded(&self) -> bool {
        self.engine.is_embedded()
    }

    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>> {
        let count = group.batches.len();
        let bytes = group.batches.iter().map(|batch| batch.write.size()).sum::<usize>();
        self.metrics.batches.inc_by(count as u64);
        self.metrics.written.inc_by(bytes as u64);
        let span = tracing::debug_span!("commit_group", batches = count, bytes, lanes = group.lanes.len());
        let call = self.metrics.calls.begin("commit");
        let results = self.engine.commit_group(group).instrument(span).await;
        call.ended(self.count(&results));
        results
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}
