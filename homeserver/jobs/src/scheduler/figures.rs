//! The figures of each kind, for the operator. Must not decide anything.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_store::{
    ReadError,
    tables::jobs::{DUE_JOBS, JOBS},
};

use super::Inner;
use crate::Outcome;

/// Rows of a kind that are counted: the figure stops there.
const MAX_COUNTED: usize = 10_000;

/// The figures of one kind of job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindFigures {
    /// The kind.
    pub kind: &'static str,
    /// Jobs in the store, including those that run; at most 10,000.
    pub queued: usize,
    /// Jobs that run now.
    pub running: u64,
    /// Runs since the start that were no failure.
    pub done: u64,
    /// Failed runs since the start.
    pub failed: u64,
    /// When the job is due that is due first, in milliseconds since 1970.
    pub oldest_due: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    running: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// A run that is counted until it ends or is dropped.
pub(super) struct Counted<'a>(&'a Counters);

impl Counters {
    pub(super) fn begin(&self) -> Counted<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }
}

impl Counted<'_> {
    pub(super) fn end(self, outcome: &Outcome) {
        let ended = match outcome {
            Outcome::Done | Outcome::Again { .. } => &self.0.done,
            Outcome::Failed { .. } => &self.0.failed,
        };
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    pub(super) async fn figures(&self) -> Result<Vec<KindFigures>, ReadError> {
        let store = &self.config.store;
        let mut figures = Vec::with_capacity(self.kinds.len());
        for kind in &self.kinds {
            let name = kind.handler.kind();
            let (mut queued, mut oldest_due) = (0, None);
            for lane in &self.config.lanes {
                queued += store.scan(JOBS.under(&(*lane, name)).limit(MAX_COUNTED)).await?.len();
                let first = store.scan(DUE_JOBS.under(&(*lane, name)).limit(1)).await?;
                let first = first.first().map(|((_, _, due, _), ())| *due);
                oldest_due = oldest_due.into_iter().chain(first).min();
            }
            figures.push(KindFigures {
                kind: name,
                queued,
                running: kind.counters.running.load(Ordering::Relaxed),
                done: kind.counters.done.load(Ordering::Relaxed),
                failed: kind.counters.failed.load(Ordering::Relaxed),
                oldest_due,
            });
        }
        Ok(figures)
    }
}
