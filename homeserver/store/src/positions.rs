//! Positions: the numbers that order all commits, for `/sync`, outboxes and audits.
//!
//! Commits of different rooms run concurrently and complete in any order, so a position is `visible` only when every
//! lower one is decided as well: a reader that has read up to `visible` never misses anything at or below it. The
//! numbers are not dense: those of failed commits stay unused, and opening a store skips some. Must not assign a number
//! twice, also not after a crash, and must not make a number visible that could be assigned again (see `ceiling`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The number of positions that one row of the store allots in advance, so that not every reservation needs a write.
pub(crate) const ALLOTMENT: u64 = 4096;

/// The positions of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Positions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    visible: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// The first position of each undecided reservation, with its length.
    open: BTreeMap<u64, u64>,
    /// The highest position that is allotted on disk. The next start continues after it, so no higher position may
    /// become visible.
    ceiling: u64,
}

impl State {
    fn visible(&self) -> u64 {
        let undecided = self.open.keys().next().copied().unwrap_or(self.next);
        undecided.saturating_sub(1).min(self.ceiling)
    }
}

impl Positions {
    /// Positions after `last` (all up to it are visible), allotted on disk up to `ceiling`.
    pub(crate) fn new(last: u64, ceiling: u64) -> Self {
        let state = State {
            next: last.saturating_add(1),
            open: BTreeMap::new(),
            ceiling,
        };
        let (visible, _) = watch::channel(state.visible());
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                visible,
            }),
        }
    }

    /// Takes the next `count` positions (at least one). They are undecided until the guard is dropped: give it to the
    /// batch that uses them ([`crate::Batch::hold`]), which drops it when the commit is durable or has failed.
    #[must_use = "positions are decided as soon as this is dropped"]
    pub fn reserve(&self, count: u64) -> Reserved {
        let count = count.max(1);
        let mut state = self.shared.lock();
        let first = state.next;
        state.next = first.saturating_add(count);
        state.open.insert(first, count);
        drop(state);
        Reserved {
            first,
            count,
            shared: Arc::clone(&self.shared),
        }
    }

    /// The highest position up to which everything is committed or failed.
    #[must_use]
    pub fn visible(&self) -> u64 {
        *self.shared.visible.borrow()
    }

    /// Watches [`Positions::visible`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.visible.subscribe()
    }

    /// The ceiling to write with the next commit, if the current one is close.
    pub(crate) fn wanted_ceiling(&self) -> Option<u64> {
        let state = self.shared.lock();
        let near = state.next.saturating_add(ALLOTMENT / 2) > state.ceiling;
        near.then(|| state.next.saturating_add(ALLOTMENT))
    }

    /// Records that this ceiling is on disk.
    pub(crate) fn raise_ceiling(&self, ceiling: u64) {
        let mut state = self.shared.lock();
        state.ceiling = state.ceiling.max(ceiling);
        self.shared.publish(&state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can leave it half-changed, so a panic in another thread does not invalidate it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that an earlier value never overwrites a later one.
    fn publish(&self, state: &State) {
        let visible = state.visible();
        self.visible.send_if_modified(|current| {
            let later = visible > *current;
            if later {
                *current = visible;
            }
            later
        });
    }
}

/// Reserved positions that are not decided yet. Dropping it decides them, so it must live until the commit has
/// completed.
#[derive(Debug)]
pub struct Reserved {
    first: u64,
    count: u64,
    shared: Arc<Shared>,
}

impl Reserved {
    /// The first of them.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Their number.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.count).saturating_sub(1)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open.remove(&self.first);
        self.shared.publish(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_visible_only_when_all_before_it_are_decided() {
        let positions = Positions::new(10, 1000);
        assert_eq!(positions.visible(), 10);
        let first = positions.reserve(2);
        let second = positions.reserve(1);
        let third = positions.reserve(3);
        assert_eq!(
            (first.first(), first.last(), second.first(), third.last()),
            (11, 12, 13, 16)
        );
        drop(third);
        assert_eq!(positions.visible(), 10);
        drop(first);
        assert_eq!(positions.visible(), 12);
        drop(second);
        assert_eq!(positions.visible(), 16);
    }

    #[test]
    fn no_position_above_the_durable_ceiling_is_visible() {
        let positions = Positions::new(0, 3);
        drop(positions.reserve(8));
        assert_eq!(positions.visible(), 3);
        assert!(positions.wanted_ceiling().is_some());
        positions.raise_ceiling(ALLOTMENT);
        assert_eq!(positions.visible(), 8);
    }

    #[test]
    fn watchers_wake_once_for_each_advance() {
        let positions = Positions::new(0, 100);
        let mut watcher = positions.watch();
        let (first, second) = (positions.reserve(1), positions.reserve(1));
        drop(second);
        assert!(!watcher.has_changed().unwrap());
        drop(first);
        assert!(watcher.has_changed().unwrap());
        assert_eq!(*watcher.borrow_and_update(), 2);
    }
}
