//! The time of day as a port, so that tests can set it. Must not be bypassed: the crates of the server read the time of day
//! from nowhere else. Intervals are measured with the clock of the runtime instead.

#[cfg(feature = "testing")]
pub mod testing;

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// A source of the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> MilliSecondsSinceUnixEpoch;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        MilliSecondsSinceUnixEpoch::now()
    }
}

/// A time in milliseconds since the Unix epoch, for arithmetic.
#[must_use]
pub fn millis(time: MilliSecondsSinceUnixEpoch) -> u64 {
    time.get().into()
}

/// The reverse conversion; a value above 53 bits becomes the greatest possible time.
#[must_use]
pub fn from_millis(millis: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(millis).unwrap_or(UInt::MAX))
}
