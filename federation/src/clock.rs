//! The current time, replaceable in tests.

use ruma::MilliSecondsSinceUnixEpoch;

/// A source of the current time.
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

/// A time in milliseconds, for arithmetic.
pub(crate) fn millis(time: MilliSecondsSinceUnixEpoch) -> u64 {
    time.get().into()
}

/// The reverse conversion; a value above 53 bits becomes the greatest possible time.
pub(crate) fn from_millis(millis: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(ruma::UInt::try_from(millis).unwrap_or(ruma::UInt::MAX))
}
