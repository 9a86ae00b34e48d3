//! What the pool counts. Must not contain names of documents.

use std::sync::atomic::{AtomicU64, Ordering};

/// The pool's state and totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Workers that may run at one time.
    pub limit: usize,
    /// Workers with a request.
    pub busy: usize,
    /// Workers that wait for one.
    pub idle: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Documents with a pause after a failure.
    pub paused: usize,
    /// Workers that were started.
    pub started: u64,
    /// Requests with a result, including refused changes.
    pub done: u64,
    /// Requests that were refused because all workers were in use.
    pub refused: u64,
    /// Requests of documents that can't be rendered.
    pub not_rendered: u64,
    /// Workers that died.
    pub died: u64,
    /// Workers that were ended at the deadline.
    pub timed_out: u64,
}

/// The totals.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) started: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) not_rendered: AtomicU64,
    pub(crate) died: AtomicU64,
    pub(crate) timed_out: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The value.
pub(crate) fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
