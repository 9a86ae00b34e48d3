//! The time, as something that tests can set.

use ruma::MilliSecondsSinceUnixEpoch;

/// Tells the time.
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

/// A time in milliseconds, for arithmetic.
pub(crate) fn millis(time: MilliSecondsSinceUnixEpoch) -> u64 {
    time.get().into()
}

/// The other way; what would not fit 53 bits becomes the greatest time there is.
pub(crate) fn from_millis(millis: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(ruma::UInt::try_from(millis).unwrap_or(ruma::UInt::MAX))
}
