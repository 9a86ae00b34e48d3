//! The time source of workers. Pure code must take timestamps as arguments instead.

use ruma::MilliSecondsSinceUnixEpoch;

/// The time of day. Tests supply one that is set by hand.
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
