//! Where a worker gets the time from. Pure code takes timestamps as arguments instead.

use ruma::MilliSecondsSinceUnixEpoch;

/// The time of day. Tests supply one that stands still.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> MilliSecondsSinceUnixEpoch;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch::now()
    }
}
