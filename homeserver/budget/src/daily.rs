//! A limit on what each key may spend in a day: bytes of events of a user, or of another server; or in another time. What was
//! spent becomes available again evenly, so a key that has spent everything waits seconds, not until the next day.
//!
//! Must not be persisted: the amounts restart with the process. The time is an argument.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use crate::{Counted, Exhausted, Usage};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Below this number of keys in the table nothing is removed.
const SWEEP_ABOVE: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub struct DailyBudget<K> {
    name: &'static str,
    per_key: u64,
    period: Duration,
    spent: Mutex<Spent<K>>,
    peak: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Spent<K> {
    /// For each key the time at which all that it spent is available again; no key is further ahead than the period.
    restored_at: HashMap<K, Instant>,
    /// Above this many keys those that have everything available are removed. It is set to twice the number that is
    /// left, so that the average cost of a call does not depend on the number of active keys.
    sweep_above: usize,
}

/// A key has spent what it may spend in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{exhausted}; try again in {} s", retry_after.as_secs().max(1))]
pub struct Overspent {
    /// The budget.
    pub exhausted: Exhausted,
    /// The time after which the amount is available. For more than the limit of a day: a day.
    pub retry_after: Duration,
}

impl<K: Eq + Hash + Clone> DailyBudget<K> {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(name: &'static str, per_key: u64) -> Arc<Self> {
        Self::within(name, per_key, DAY)
    }

    /// The same for another time than a day.
    #[must_use]
    pub fn within(name: &'static str, per_key: u64, period: Duration) -> Arc<Self> {
        Arc::new(Self {
            name,
            per_key,
            period,
            spent: Mutex::new(Spent {
                restored_at: HashMap::new(),
                sweep_above: SWEEP_ABOVE,
            }),
            peak: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Spends an amount of a key.
    ///
    /// # Errors
    /// The key has less than that left; nothing is spent.
    pub fn spend(&self, key: &K, amount: u64, now: Instant) -> Result<(), Overspent> {
        if amount == 0 {
            return Ok(());
        }
        if amount > self.per_key {
            return Err(self.refuse(self.period));
        }
        let mut spent = self.spent();
        spent.sweep(now);
        let from = spent
            .restored_at
            .get(key)
            .copied()
            .filter(|at| *at > now)
            .unwrap_or(now);
        let until = from + self.time_of(amount);
        let ahead = until.saturating_duration_since(now);
        if let Some(wait) = ahead.checked_sub(self.period).filter(|wait| !wait.is_zero()) {
            return Err(self.refuse(wait));
        }
        spent.restored_at.insert(key.clone(), until);
        drop(spent);
        self.peak.fetch_max(self.amount_of(ahead), Ordering::Relaxed);
        Ok(())
    }

    /// The amount that the key has spent and not available again.
    pub fn spent_by(&self, key: &K, now: Instant) -> u64 {
        let restored_at = self.spent().restored_at.get(key).copied();
        restored_at.map_or(0, |at| self.amount_of(at.saturating_duration_since(now)))
    }

    fn refuse(&self, retry_after: Duration) -> Overspent {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Overspent {
            exhausted: Exhausted {
                name: self.name,
                limit: self.per_key,
            },
            retry_after,
        }
    }

    /// The time in which an amount becomes available again, rounded up. The amount is at most the limit.
    fn time_of(&self, amount: u64) -> Duration {
        let nanos = (u128::from(amount) * self.period.as_nanos()).div_ceil(u128::from(self.per_key.max(1)));
        u64::try_from(nanos).map_or(self.period, Duration::from_nanos)
    }

    /// The amount that becomes available in a time, rounded up.
    fn amount_of(&self, time: Duration) -> u64 {
        let amount = time.as_nanos() * u128::from(self.per_key);
        let amount = amount.div_ceil(self.period.as_nanos().max(1));
        u64::try_from(amount).unwrap_or(u64::MAX).min(self.per_key)
    }

    fn spent(&self) -> MutexGuard<'_, Spent<K>> {
        self.spent.lock()
    }
}

impl<K: Eq + Hash> Spent<K> {
    fn sweep(&mut self, now: Instant) {
        if self.restored_at.len() > self.sweep_above {
            self.restored_at.retain(|_, at| *at > now);
            self.sweep_above = self.restored_at.len().saturating_mul(2).max(SWEEP_ABOVE);
        }
    }
}

impl<K: Eq + Hash + Clone + Send + std::fmt::Debug> Counted for DailyBudget<K> {
    /// In use is what the key with the largest amount has spent.
    fn usage(&self) -> Usage {
        let now = Instant::now();
        let last = self.spent().restored_at.values().max().copied();
        Usage {
            name: self.name,
            limit: self.per_key,
            used: last.map_or(0, |at| self.amount_of(at.saturating_duration_since(now))),
            peak: self.peak.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_amount_of_one_key_does_not_affect_others() {
        let budget = DailyBudget::new("test_bytes", 10_240);
        let now = Instant::now();
        budget.spend(&"one", 0, now).unwrap();
        budget.spend(&"one", 9_215, now).unwrap();
        let refused = budget.spend(&"one", 2_048, now).unwrap_err();
        assert_eq!(refused.exhausted.limit, 10_240);
        budget.spend(&"one", 1_025, now).unwrap();
        assert!(budget.spend(&"one", 1, now).is_err());
        budget.spend(&"other", 10_240, now).unwrap();
        assert_eq!(budget.spend(&"third", 10_241, now).unwrap_err().retry_after, DAY);
        let usage = budget.usage();
        assert_eq!((usage.limit, usage.peak, usage.refused), (10_240, 10_240, 3));
    }

    #[test]
    fn a_refused_amount_is_accepted_after_the_reported_time() {
        let budget = DailyBudget::new("test_bytes", 86_400);
        let now = Instant::now();
        budget.spend(&"one", 86_400, now).unwrap();
        let refused = budget.spend(&"one", 10, now).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(10));
        assert!(budget.spend(&"one", 10, now + Duration::from_secs(9)).is_err());
        budget.spend(&"one", 10, now + refused.retry_after).unwrap();
        assert_eq!(budget.spent_by(&"one", now + DAY + refused.retry_after), 0);
    }

    #[test]
    fn another_period_than_a_day_is_kept() {
        let budget = DailyBudget::within("test_edits", 20, Duration::from_secs(10));
        let now = Instant::now();
        budget.spend(&"one", 20, now).unwrap();
        let refused = budget.spend(&"one", 1, now).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(500));
        budget.spend(&"one", 1, now + refused.retry_after).unwrap();
        budget.spend(&"one", 20, now + Duration::from_secs(11)).unwrap();
        assert_eq!(budget.usage().peak, 20);
    }

    #[test]
    fn a_key_that_has_everything_available_is_removed() {
        let budget = DailyBudget::new("test_bytes", 86_400);
        let now = Instant::now();
        for key in 0..SWEEP_ABOVE + 1 {
            budget.spend(&key, 1, now).unwrap();
        }
        budget.spend(&usize::MAX, 1, now + Duration::from_secs(2)).unwrap();
        assert_eq!(budget.spent().restored_at.len(), 1);
    }

    #[test]
    fn the_largest_limit_never_refuses() {
        let budget = DailyBudget::new("test_bytes", u64::MAX);
        let now = Instant::now();
        for _ in 0..1_000 {
            budget.spend(&"one", u64::from(u32::MAX), now).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_key_spends_more_than_twice_the_limit_in_a_day(
            limit in 1..1_000_000_u64,
            steps in prop::collection::vec((0..20_000_u64, 0..1_000_000_u64), 0..100),
        ) {
            let budget = DailyBudget::new("test_bytes", limit);
            let begin = Instant::now();
            let (mut now, mut spent) = (begin, 0_u64);
            for (seconds, amount) in steps {
                now += Duration::from_secs(seconds);
                if now.duration_since(begin) > DAY {
                    break;
                }
                if budget.spend(&(), amount, now).is_ok() {
                    spent += amount;
                }
                prop_assert!(budget.spent_by(&(), now) <= limit);
            }
            prop_assert!(spent <= 2 * limit);
        }
    }
}
