//! Rate limit: requests per user. What is left of it is in the headers of the answers ([`headers`]).
//!
//! Login has its own, stricter limit in `accounts`; bytes per day are budgets. Must not be persisted: the counts restart with the process.

mod headers;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::{StateInformationMiddleware, StateSnapshot},
    state::keyed::DefaultKeyedStateStore,
};
use ruma::{OwnedUserId, UserId};
use weft_wire::limits::REQUESTS_PER_MINUTE;

use crate::errors::{ApiError, ApiResult};

pub use headers::{Noted, add_headers};

/// Below this number of users in the table nothing is removed.
const SWEEP_ABOVE: usize = 4_096;

/// One bucket per user: [`REQUESTS_PER_MINUTE`] at once, refilled evenly. Cheap to clone.
#[derive(Clone)]
pub struct UserLimiter {
    buckets: Option<Arc<Buckets>>,
}

struct Buckets {
    limiter: RateLimiter<OwnedUserId, DefaultKeyedStateStore<OwnedUserId>, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
    /// Above this many users in the table the idle ones are removed. It is set to twice the number that is left, so
    /// that the average cost per request doesn't depend on the number of active users.
    sweep_above: AtomicUsize,
}

impl UserLimiter {
    /// With the standard limit (`[limits] rate_limit = true`).
    #[must_use]
    pub fn standard() -> Self {
        NonZeroU32::new(REQUESTS_PER_MINUTE).map_or_else(Self::off, Self::per_minute)
    }

    /// With another limit.
    #[must_use]
    pub fn per_minute(requests: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_minute(requests)).with_middleware();
        Self {
            buckets: Some(Arc::new(Buckets {
                limiter,
                clock: DefaultClock::default(),
                sweep_above: AtomicUsize::new(SWEEP_ABOVE),
            })),
        }
    }

    /// Without a limit.
    #[must_use]
    pub fn off() -> Self {
        Self { buckets: None }
    }

    /// Counts one request of `user`.
    ///
    /// # Errors
    /// 429 with the time until the next request is accepted.
    pub fn check(&self, user: &UserId) -> ApiResult<()> {
        self.count(user).map(drop).map_err(|refused| refused.error())
    }

    /// The same, with what is left. `None`: there is no limit.
    ///
    /// # Errors
    /// When nothing was left.
    pub fn count(&self, user: &UserId) -> Result<Option<Standing>, Standing> {
        let Some(buckets) = &self.buckets else { return Ok(None) };
        buckets.sweep();
        match buckets.limiter.check_key(&user.to_owned()) {
            Ok(snapshot) => Ok(Some(Standing::of(&snapshot))),
            Err(refused) => Err(Standing {
                limit: refused.quota().burst_size().get(),
                remaining: 0,
                more_after: refused
                    .wait_time_from(buckets.clock.now())
                    .max(Duration::from_millis(1)),
            }),
        }
    }
}

/// What is left of a user's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The requests of a minute.
    pub limit: u32,
    /// Requests that would be accepted now.
    pub remaining: u32,
    /// When all requests of a minute would be accepted again; if none is left, when the next one would.
    pub more_after: Duration,
}

impl Standing {
    fn of(snapshot: &StateSnapshot) -> Self {
        let (quota, remaining) = (snapshot.quota(), snapshot.remaining_burst_capacity());
        let limit = quota.burst_size().get();
        Self {
            limit,
            remaining,
            more_after: quota.replenish_interval() * limit.saturating_sub(remaining),
        }
    }

    /// The answer to a request for which nothing was left.
    #[must_use]
    pub fn error(&self) -> ApiError {
        ApiError::limit_exceeded(self.more_after)
    }
}

impl Buckets {
    /// Removes idle users if the table has doubled since the last time; returns whether it did.
    fn sweep(&self) -> bool {
        let above = self.sweep_above.load(Ordering::Relaxed);
        if self.limiter.len() <= above {
            return false;
        }
        // Of concurrent requests only one removes users.
        let taken = self
            .sweep_above
            .compare_exchange(above, usize::MAX, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() {
            return false;
        }
        self.limiter.retain_recent();
        let left = self.limiter.len().saturating_mul(2).max(SWEEP_ABOVE);
        self.sweep_above.store(left, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn the_limit_of_one_user_does_not_affect_others() {
        let limiter = UserLimiter::per_minute(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            limiter.check(user_id!("@a:x")).unwrap();
        }
        let refused = limiter.check(user_id!("@a:x")).unwrap_err();
        assert_eq!(refused.status().as_u16(), 429);
        limiter.check(user_id!("@b:x")).unwrap();
    }

    #[test]
    fn the_table_is_rarely_swept_with_many_active_users() {
        let limiter = UserLimiter::per_minute(NonZeroU32::new(3).unwrap());
        let buckets = limiter.buckets.as_ref().unwrap();
        let users = 4 * SWEEP_ABOVE;
        let mut sweeps = 0;
        for n in 0..users {
            // All of them are active: nothing is removed.
            sweeps += usize::from(buckets.sweep());
            let user = UserId::parse(format!("@u{n}:x")).unwrap();
            buckets.limiter.check_key(&user).unwrap();
        }
        assert_eq!(buckets.limiter.len(), users);
        assert!(sweeps <= 2, "{sweeps}");
    }

    #[test]
    fn without_a_limit_all_requests_are_allowed() {
        let limiter = UserLimiter::off();
        for _ in 0..5_000 {
            limiter.check(user_id!("@a:x")).unwrap();
        }
    }
}
