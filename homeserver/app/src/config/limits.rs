//! `[limits]`: what one user may ask for.

use super::source::Fields;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Is a user who asks too often told to wait? (1,000 requests a minute.)
    pub(crate) rate_limit: bool,
}

/// See the module.
pub(super) fn read(mut fields: Fields<'_>) -> Limits {
    let rate_limit = fields.truth("rate_limit").is_none_or(|found| found.value);
    fields.finish();
    Limits { rate_limit }
}
