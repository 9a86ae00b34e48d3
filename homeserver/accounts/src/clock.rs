//! The clock as a port, so that tests can set the time. Must not be bypassed: this crate reads the time from nowhere else.

use ruma::MilliSecondsSinceUnixEpoch;

/// A source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> MilliSecondsSinceUnixEpoch;
}

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch::now()
    }
}
