//! Clocks that a test controls. Must only be compiled for tests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ruma::MilliSecondsSinceUnixEpoch;

use crate::{Clock, from_millis};

/// A clock that only the test advances. Times are in milliseconds.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    /// Added after each reading.
    step: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `millis`.
    #[must_use]
    pub fn at(millis: u64) -> Arc<Self> {
        Self::stepping(millis, 0)
    }

    /// A clock that advances by `step` after each reading, so that no two readings are equal.
    #[must_use]
    pub fn stepping(millis: u64, step: u64) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicU64::new(millis),
            step: AtomicU64::new(step),
        })
    }

    /// The current time, without a step.
    #[must_use]
    pub fn millis(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Sets the time.
    pub fn set(&self, millis: u64) {
        self.now.store(millis, Ordering::SeqCst);
    }

    /// Advances the time.
    pub fn advance(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the time back.
    pub fn set_back(&self, millis: u64) {
        self.now.fetch_sub(millis, Ordering::SeqCst);
    }

    /// From now on, readings do not advance the time.
    pub fn stop(&self) {
        self.step.store(0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        from_millis(self.now.fetch_add(self.step.load(Ordering::SeqCst), Ordering::SeqCst))
    }
}

/// A clock that follows the clock of the runtime, which a test can pause.
#[derive(Debug)]
pub struct RuntimeClock {
    /// The time at the start, in milliseconds, and one more for each reading of a clock whose readings are distinct.
    start: AtomicU64,
    started: tokio::time::Instant,
    step: u64,
}

impl RuntimeClock {
    /// A clock that stands at `millis` now.
    #[must_use]
    pub fn starting_at(millis: u64) -> Self {
        Self::since(tokio::time::Instant::now(), millis)
    }

    /// A clock that stood at `millis` at that time: several clocks of one beginning differ by a constant.
    #[must_use]
    pub fn since(started: tokio::time::Instant, millis: u64) -> Self {
        Self {
            start: AtomicU64::new(millis),
            started,
            step: 0,
        }
    }

    /// The same, with one more millisecond after each reading, so that no two readings are equal.
    #[must_use]
    pub fn distinct(millis: u64) -> Self {
        Self {
            step: 1,
            ..Self::starting_at(millis)
        }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let start = self.start.fetch_add(self.step, Ordering::SeqCst);
        from_millis(start.saturating_add(passed))
    }
}
