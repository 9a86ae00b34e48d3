//! One budget and the shares taken from it. Must not take a lock: a budget is consulted by every request.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{Counted, Usage};

/// A bounded amount of one resource.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    refused: AtomicU64,
}

/// The budget has less left than was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("budget {name} is exhausted (limit {limit})")]
pub struct Exhausted {
    /// The budget's name.
    pub name: &'static str,
    /// The limit that would have been exceeded.
    pub limit: u64,
}

impl Budget {
    /// A budget with nothing in use. The name is the name of its metric: lower case, words joined by `_`, the unit
    /// last, for example `connections` or `unauthenticated_body_bytes`.
    #[must_use]
    pub fn new(name: &'static str, limit: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            limit,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Takes an amount, for as long as the share is held.
    ///
    /// # Errors
    /// Less than that is left; nothing is taken, and the refusal is counted.
    pub fn try_take(self: &Arc<Self>, amount: u64) -> Result<Share, Exhausted> {
        self.reserve(amount)?;
        Ok(Share {
            budget: Arc::clone(self),
            amount,
        })
    }

    /// The figures of the budget now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            name: self.name,
            limit: self.limit,
            used: self.used.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn refuse(&self, limit: u64) -> Exhausted {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Exhausted { name: self.name, limit }
    }

    fn reserve(&self, amount: u64) -> Result<(), Exhausted> {
        let within = |used: u64| used.checked_add(amount).filter(|after| *after <= self.limit);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, within) {
            Ok(before) => {
                self.peak.fetch_max(before + amount, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err(self.refuse(self.limit)),
        }
    }

    fn release(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }
}

impl Counted for Budget {
    fn usage(&self) -> Usage {
        self.usage()
    }
}

/// An amount taken from a [`Budget`]; dropping it returns the amount.
#[derive(Debug)]
#[must_use = "dropping a share returns its amount"]
pub struct Share {
    budget: Arc<Budget>,
    amount: u64,
}

impl Share {
    /// The amount held.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes more from the same budget.
    ///
    /// # Errors
    /// Less than that is left; the share is unchanged.
    pub fn grow(&mut self, by: u64) -> Result<(), Exhausted> {
        self.budget.reserve(by)?;
        self.amount += by;
        Ok(())
    }

    /// Returns a part of the share, at most the amount held.
    pub fn shrink(&mut self, by: u64) {
        let by = by.min(self.amount);
        self.amount -= by;
        self.budget.release(by);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.release(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_refused_amount_takes_nothing_and_is_counted() {
        let budget = Budget::new("test_bytes", 10);
        let mut share = budget.try_take(7).unwrap();
        let expected = Exhausted {
            name: "test_bytes",
            limit: 10,
        };
        assert_eq!(budget.try_take(4).unwrap_err(), expected);
        assert_eq!(share.grow(4).unwrap_err(), expected);
        assert_eq!(budget.try_take(u64::MAX).unwrap_err(), expected);
        share.grow(3).unwrap();
        let usage = budget.usage();
        assert_eq!((usage.used, usage.peak, usage.refused), (10, 10, 3));
        drop(share);
        assert_eq!(budget.usage().used, 0);
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let budget = Budget::new("test_bytes", 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let share = budget.try_take(3);
                        assert!(budget.usage().used <= 8);
                        drop(share);
                    }
                });
            }
        });
        let usage = budget.usage();
        assert_eq!(usage.used, 0);
        assert!(usage.peak <= 8);
    }

    proptest! {
        #[test]
        fn the_figure_in_use_is_the_sum_of_the_shares(steps in prop::collection::vec((0..4_u8, 0..12_u64), 0..60)) {
            let budget = Budget::new("test_bytes", 30);
            let mut shares: Vec<Share> = Vec::new();
            for (step, amount) in steps {
                match step {
                    0 => shares.extend(budget.try_take(amount)),
                    1 => drop(shares.pop()),
                    2 => { let _ = shares.last_mut().map(|share| share.grow(amount)); }
                    _ => { let _ = shares.last_mut().map(|share| share.shrink(amount)); }
                }
                let held: u64 = shares.iter().map(Share::amount).sum();
                prop_assert_eq!(budget.usage().used, held);
                prop_assert!(held <= 30);
            }
        }
    }
}
