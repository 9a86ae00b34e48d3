//! A limit on stored bytes that the owner of the rows counts itself: what is on disk outlives the process, so no share
//! can represent it. Must not count: it compares, and keeps figures for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{Counted, Exhausted, Usage};

/// See the module.
#[derive(Debug)]
pub struct StoredBudget {
    name: &'static str,
    limit: u64,
    last: AtomicU64,
    peak: AtomicU64,
    refused: AtomicU64,
}

impl StoredBudget {
    /// The limit of each owner of rows.
    #[must_use]
    pub fn new(name: &'static str, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            limit,
            last: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Notes what one owner has stored.
    pub fn note(&self, stored: u64) {
        self.last.store(stored, Ordering::Relaxed);
        self.peak.fetch_max(stored, Ordering::Relaxed);
    }

    /// Notes a refusal. `limit` is the one that was exceeded: the budget's, or a part of it.
    pub fn refuse(&self, limit: u64) -> Exhausted {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Exhausted { name: self.name, limit }
    }
}

impl Counted for StoredBudget {
    /// In use is what was stored for the owner that stored something last.
    fn usage(&self) -> Usage {
        Usage {
            name: self.name,
            limit: self.limit,
            used: self.last.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_show_the_largest_amount_and_the_refusals() {
        let budget = StoredBudget::new("test_bytes", 10);
        budget.note(7);
        budget.note(3);
        assert_eq!(budget.refuse(5).limit, 5);
        let usage = budget.usage();
        assert_eq!((usage.limit, usage.used, usage.peak, usage.refused), (10, 3, 7, 1));
    }
}
