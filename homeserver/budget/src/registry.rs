//! All budgets of a process, for its metrics. Must not decide about requests.

use std::sync::Arc;

use parking_lot::Mutex;

/// The figures of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The name of the budget and of its metric.
    pub name: &'static str,
    /// The limit of what may be in use.
    pub limit: u64,
    /// The amount in use.
    pub used: u64,
    /// The largest amount in use at one time since the start.
    pub peak: u64,
    /// The number of refusals since the start.
    pub refused: u64,
}

/// Anything with the figures of a budget.
pub trait Counted: Send + Sync + std::fmt::Debug {
    /// The figures now.
    fn usage(&self) -> Usage;
}

/// The budgets of a process, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<Vec<Arc<dyn Counted>>>);

impl Budgets {
    /// Adds a budget to the exported ones.
    pub fn add<B: Counted + 'static>(&self, budget: &Arc<B>) {
        let budget: Arc<B> = Arc::clone(budget);
        self.lock().push(budget);
    }

    /// The figures of all budgets.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Usage> {
        self.lock().iter().map(|budget| budget.usage()).collect()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Vec<Arc<dyn Counted>>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;

    #[test]
    fn the_snapshot_has_the_current_figures_of_every_budget() {
        let budgets = Budgets::default();
        let bytes = Budget::new("test_bytes", 5);
        budgets.add(&bytes);
        budgets.add(&Budget::new("test_connections", 1));
        let _share = bytes.try_take(4).unwrap();
        assert!(bytes.try_take(4).is_err());
        let snapshot = budgets.snapshot();
        let names: Vec<&str> = snapshot.iter().map(|usage| usage.name).collect();
        assert_eq!(names, ["test_bytes", "test_connections"]);
        let expected = Usage {
            name: "test_bytes",
            limit: 5,
            used: 4,
            peak: 4,
            refused: 1,
        };
        assert_eq!(snapshot.first(), Some(&expected));
    }
}
