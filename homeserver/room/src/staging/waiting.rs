//! Staged events that wait for others: how many there are, from which row they are looked at, and the timer after which
//! all of them are looked at again.
//!
//! Belongs to a room's worker and may be lost with it. Must not decide what an event waits for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// So many rows that wait are looked at each time something comes, which may be what they wait for. If there are more,
/// only when the timer rings: a thousand events that nobody can place must not make each good one dear (T19).
const FEW: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Staged rows that wait, as far as is known, and the last one that was looked at.
    rows: usize,
    looked_at: u64,
    timer: Timer,
}

/// The timer after which what waits is looked at again.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timer {
    set: Arc<AtomicBool>,
    rung: Arc<AtomicBool>,
}

impl Timer {
    /// The time has come.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.set.store(false, Ordering::Release);
    }
}

impl Waiting {
    /// After which row a drain begins. `resume`: a row that is to be looked at in any case.
    pub(crate) fn begin(&self, resume: Option<u64>) -> u64 {
        let rung = self.timer.rung.swap(false, Ordering::AcqRel);
        if rung || self.rows <= FEW {
            return 0;
        }
        resume.map_or(self.looked_at, |row| row.saturating_sub(1).min(self.looked_at))
    }

    /// Notes what a drain has found; true where rows wait.
    pub(crate) fn end(&mut self, first: u64, last: u64, waiting: usize) -> bool {
        self.rows = if first == 0 {
            waiting
        } else {
            self.rows.saturating_add(waiting)
        };
        self.looked_at = last;
        self.rows > 0
    }

    /// The timer to set; None where it is set already.
    pub(crate) fn timer(&self) -> Option<Timer> {
        (!self.timer.set.swap(true, Ordering::AcqRel)).then(|| self.timer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_all_looked_at_and_many_only_from_the_row_that_is_resumed() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.begin(None), 0);
        assert!(waiting.end(0, 50, FEW));
        assert_eq!(waiting.begin(None), 0);
        assert!(waiting.end(0, 500, FEW + 1));
        assert_eq!(waiting.begin(None), 500);
        assert_eq!(waiting.begin(Some(7)), 6, "the resumed row itself is looked at");
        assert_eq!(waiting.begin(Some(900)), 500, "and no row that is new is passed over");
        waiting.timer().unwrap().ring();
        assert_eq!(waiting.begin(None), 0, "all, when the timer rings");
    }
}
