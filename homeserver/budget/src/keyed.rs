//! A budget divided by key: by address, user, device or server. No key holds more than the limit of a key, and all keys
//! together hold no more than the budget's limit. Memory is bounded by the amount held: a key that holds nothing is
//! removed. Must not take a key's amount without taking it from the total.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use crate::{Budget, Exhausted, Share};

/// A [`Budget`] with a limit for each key.
#[derive(Debug)]
pub struct KeyedBudget<K> {
    total: Arc<Budget>,
    per_key: u64,
    held: Mutex<HashMap<K, u64>>,
}

impl<K: Eq + Hash + Clone> KeyedBudget<K> {
    /// A budget with nothing in use: `per_key` for one key, `total` for all keys together.
    #[must_use]
    pub fn new(name: &'static str, per_key: u64, total: u64) -> Arc<Self> {
        Arc::new(Self {
            total: Budget::new(name, total),
            per_key,
            held: Mutex::default(),
        })
    }

    /// The budget of all keys together, for [`crate::Budgets`].
    #[must_use]
    pub fn total(&self) -> &Arc<Budget> {
        &self.total
    }

    /// The amount that the key holds now.
    pub fn held_by(&self, key: &K) -> u64 {
        self.held().get(key).copied().unwrap_or_default()
    }

    /// Takes an amount for a key, for as long as the share is held.
    ///
    /// # Errors
    /// The key, or all keys together, have less than that left; nothing is taken.
    pub fn try_take(self: &Arc<Self>, key: &K, amount: u64) -> Result<KeyedShare<K>, Exhausted> {
        let mut held = self.held();
        let before = held.get(key).copied().unwrap_or_default();
        let after = before.checked_add(amount).filter(|after| *after <= self.per_key);
        let after = after.ok_or_else(|| self.total.refuse(self.per_key))?;
        let share = self.total.try_take(amount)?;
        held.insert(key.clone(), after);
        Ok(KeyedShare {
            budget: Arc::clone(self),
            key: key.clone(),
            share,
        })
    }

    fn release(&self, key: &K, amount: u64) {
        let mut held = self.held();
        if let Some(now) = held.get_mut(key) {
            *now = now.saturating_sub(amount);
            if *now == 0 {
                held.remove(key);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        self.held.lock()
    }
}

/// An amount that a key has taken from a [`KeyedBudget`]; dropping it returns the amount.
#[derive(Debug)]
#[must_use = "dropping a share returns its amount"]
pub struct KeyedShare<K: Eq + Hash + Clone> {
    budget: Arc<KeyedBudget<K>>,
    key: K,
    share: Share,
}

impl<K: Eq + Hash + Clone> KeyedShare<K> {
    /// The amount held.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.share.amount()
    }

    /// Takes more for the same key.
    ///
    /// # Errors
    /// The key, or all keys together, have less than that left; the share is unchanged.
    pub fn grow(&mut self, by: u64) -> Result<(), Exhausted> {
        let mut held = self.budget.held();
        let before = held.get(&self.key).copied().unwrap_or_default();
        let after = before.checked_add(by).filter(|after| *after <= self.budget.per_key);
        let after = after.ok_or_else(|| self.budget.total.refuse(self.budget.per_key))?;
        self.share.grow(by)?;
        held.insert(self.key.clone(), after);
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> Drop for KeyedShare<K> {
    fn drop(&mut self) {
        self.budget.release(&self.key, self.share.amount());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_cannot_take_the_share_of_another() {
        let budget = KeyedBudget::new("test_connections", 2, 3);
        let first = budget.try_take(&"a", 2).unwrap();
        assert_eq!(budget.try_take(&"a", 1).unwrap_err().limit, 2);
        let second = budget.try_take(&"b", 1).unwrap();
        assert_eq!(budget.try_take(&"c", 1).unwrap_err().limit, 3);
        drop(first);
        assert_eq!(budget.held_by(&"a"), 0);
        let _third = budget.try_take(&"c", 2).unwrap();
        drop(second);
        let usage = budget.total().usage();
        assert_eq!((usage.used, usage.peak, usage.refused), (2, 3, 2));
    }

    #[test]
    fn a_key_that_holds_nothing_is_removed() {
        let budget = KeyedBudget::new("test_connections", 2, 2);
        for key in 0..1_000 {
            drop(budget.try_take(&key, 1).unwrap());
        }
        let mut share = budget.try_take(&7, 1).unwrap();
        share.grow(1).unwrap();
        assert!(share.grow(1).is_err());
        assert_eq!(budget.held().len(), 1);
        drop(share);
        assert!(budget.held().is_empty());
    }
}
