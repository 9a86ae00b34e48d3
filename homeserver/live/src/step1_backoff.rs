//! When to request missing updates from a client (sync step 1). Backs off when the client can't supply them, because Yjs
//! answers each step 1 with everything it has. Pure; time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// After this many incomplete answers in a row, step 1 is only sent when the client sends an edit that depends on it.
const UNPROMPTED_TRIES: u32 = 8;
/// Longest interval between two requests. It starts at one second and doubles with each incomplete answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Step1Backoff {
    /// A step 1 was sent and not answered yet.
    outstanding: bool,
    /// Incomplete answers in a row.
    incomplete: u32,
    not_before: Option<Instant>,
}

impl Step1Backoff {
    /// Records that a step 1 was sent.
    pub(super) fn sent(&mut self) {
        self.outstanding = true;
    }

    /// Records a step 2 that is on disk. `whole`: all of it was accepted.
    pub(super) fn answered(&mut self, whole: bool, now: Instant) {
        self.outstanding = false;
        if whole {
            self.incomplete = 0;
            self.not_before = None;
        } else {
            let pause = Duration::from_secs(1) * 2_u32.saturating_pow(self.incomplete.min(UNPROMPTED_TRIES));
            self.not_before = Some(now + pause.min(LONGEST_PAUSE));
            self.incomplete = self.incomplete.saturating_add(1);
        }
    }

    /// Whether a step 1 may be sent now.
    pub(super) fn may_send(&self, now: Instant) -> bool {
        !self.outstanding && self.not_before.is_none_or(|at| at <= now)
    }

    /// When to send the next step 1 if the client sends nothing.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.not_before
            .filter(|_| !self.outstanding && self.incomplete <= UNPROMPTED_TRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_a_client_without_the_missing_updates_back_off_and_stop() {
        let (mut backoff, mut now) = (Step1Backoff::default(), Instant::now());
        assert!(backoff.may_send(now) && backoff.next_at().is_none());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            backoff.sent();
            assert!(
                !backoff.may_send(now + Duration::from_secs(3_600)),
                "one request at a time"
            );
            backoff.answered(false, now);
            let Some(at) = backoff.next_at() else { break };
            pauses.push((at - now).as_secs());
            now = at;
            assert!(backoff.may_send(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(!backoff.may_send(now) && backoff.may_send(now + LONGEST_PAUSE));
        backoff.sent();
        backoff.answered(true, now);
        assert!(backoff.may_send(now) && backoff.next_at().is_none());
    }
}
