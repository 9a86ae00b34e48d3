//! How many tests of webhooks a user may send: a test is a request to any public address at once. Must not be stored.

use std::num::NonZeroU32;

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use ruma::{OwnedUserId, UserId};
use weft_wire::limits::WEBHOOK_TESTS_PER_HOUR;

use crate::WebhookError;

/// Above this number of users those are removed who have sent none for an hour.
const SWEEP_ABOVE: usize = 1_024;

/// See the module.
pub(crate) struct Tests(Option<DefaultKeyedRateLimiter<OwnedUserId>>);

impl Tests {
    pub(crate) fn new() -> Self {
        let limit = NonZeroU32::new(WEBHOOK_TESTS_PER_HOUR);
        Self(limit.map(|limit| RateLimiter::keyed(Quota::per_hour(limit))))
    }

    /// Counts a test.
    pub(crate) fn count(&self, user: &UserId) -> Result<(), WebhookError> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > SWEEP_ABOVE {
            limiter.retain_recent();
        }
        limiter.check_key(&user.to_owned()).map_err(|refused| {
            let wait = refused.wait_time_from(DefaultClock::default().now()).as_millis();
            WebhookError::Limited {
                retry_after_ms: u64::try_from(wait).unwrap_or(u64::MAX).max(1),
            }
        })
    }
}
