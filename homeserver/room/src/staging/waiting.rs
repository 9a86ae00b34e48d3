//! Staged events that wait for others: how many there are, from which row they are read, and the timer after which all
//! of them are retried.
//!
//! Belongs to a room's worker and may be lost with it. Must not decide what an event waits for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Up to this number, all waiting rows are retried each time events arrive, because they may wait for these. If there
/// are more, only when the timer fires: a thousand events that can't be persisted must not make each good one expensive
/// (T19).
const FEW: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Staged rows that wait, as far as known, and the last one that was read.
    rows: usize,
    last_read: u64,
    timer: Timer,
}

/// The timer after which waiting rows are retried.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timer {
    set: Arc<AtomicBool>,
    fired: Arc<AtomicBool>,
}

impl Timer {
    /// The timer fires.
    pub(crate) fn fire(&self) {
        self.fired.store(true, Ordering::Release);
        self.set.store(false, Ordering::Release);
    }
}

impl Waiting {
    /// The row after which a pass begins. `resume`: a row that is read in any case.
    pub(crate) fn begin(&self, resume: Option<u64>) -> u64 {
        let fired = self.timer.fired.swap(false, Ordering::AcqRel);
        if fired || self.rows <= FEW {
            return 0;
        }
        resume.map_or(self.last_read, |row| row.saturating_sub(1).min(self.last_read))
    }

    /// Records the result of a pass; true if rows wait.
    pub(crate) fn end(&mut self, first: u64, last: u64, waiting: usize) -> bool {
        self.rows = if first == 0 {
            waiting
        } else {
            self.rows.saturating_add(waiting)
        };
        self.last_read = last;
        self.rows > 0
    }

    /// The timer to set; `None` if it is already set.
    pub(crate) fn timer(&self) -> Option<Timer> {
        (!self.timer.set.swap(true, Ordering::AcqRel)).then(|| self.timer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_all_read_and_many_only_from_the_resumed_row() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.begin(None), 0);
        assert!(waiting.end(0, 50, FEW));
        assert_eq!(waiting.begin(None), 0);
        assert!(waiting.end(0, 500, FEW + 1));
        assert_eq!(waiting.begin(None), 500);
        assert_eq!(waiting.begin(Some(7)), 6, "the resumed row itself is read");
        assert_eq!(waiting.begin(Some(900)), 500, "and no new row is skipped");
        waiting.timer().unwrap().fire();
        assert_eq!(waiting.begin(None), 0, "all, when the timer fires");
    }
}
