//! `[access_log]`: how long it is recorded who read which document.

use super::source::Fields;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    /// Whether it is recorded.
    pub(crate) enabled: bool,
    /// Days after which the record of a day is deleted.
    pub(crate) keep_days: u64,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            enabled: true,
            keep_days: 90,
        }
    }
}

/// The longest time: a hundred years, so that sums of times stay in range.
const MAX_DAYS: u64 = 36_525;

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> AccessLog {
    let mut log = AccessLog::default();
    if let Some(found) = fields.truth("enabled") {
        log.enabled = found.value;
    }
    if let Some(found) = fields.count("keep_days") {
        log.keep_days = found.value as u64;
        if log.keep_days > MAX_DAYS {
            fields.wrong("keep_days", &found.origin, format!("is more than {MAX_DAYS}"));
        }
    }
    fields.finish();
    log
}
