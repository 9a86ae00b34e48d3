//! When to request missing updates from a client (sync step 1). Backs off when the client can't supply them, because Yjs
//! answers each step 1 with everything it has. Pure; time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// After this many incomplete answers in a row, step 1 is only sent when the client sends an edit that depends on it.
const TRIES_BY_ITSELF: u32 = 8;
/// Longest interval between two requests. It starts at one second and doubles with each incomplete answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// A step 1 was sent and not answered yet.
    outstanding: bool,
    /// Incomplete answers in a row.
    in_vain: u32,
    not_before: Option<Instant>,
}

impl Asking {
    /// Records that a step 1 was sent.
    pub(super) fn asked(&mut self) {
        self.outstanding = true;
    }

    /// Records a step 2 that is on disk. `whole`: all of it was accepted.
    pub(super) fn answered(&mut self, whole: bool, now: Instant) {
        self.outstanding = false;
        if whole {
            self.in_vain = 0;
            self.not_before = None;
        } else {
            let pause = Duration::from_secs(1) * 2_u32.saturating_pow(self.in_vain.min(TRIES_BY_ITSELF));
            self.not_before = Some(now + pause.min(LONGEST_PAUSE));
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// Whether a step 1 may be sent now.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.outstanding && self.not_before.is_none_or(|at| at <= now)
    }

    /// When to send the next step 1 if the client sends nothing.
    pub(super) fn ask_again_at(&self) -> Option<Instant> {
        self.not_before
            .filter(|_| !self.outstanding && self.in_vain <= TRIES_BY_ITSELF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_to_a_client_without_the_missing_updates_back_off_and_stop() {
        let (mut asking, mut now) = (Asking::default(), Instant::now());
        assert!(asking.may_ask(now) && asking.ask_again_at().is_none());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            asking.asked();
            assert!(
                !asking.may_ask(now + Duration::from_secs(3_600)),
                "one request at a time"
            );
            asking.answered(false, now);
            let Some(at) = asking.ask_again_at() else { break };
            pauses.push((at - now).as_secs());
            now = at;
            assert!(asking.may_ask(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(!asking.may_ask(now) && asking.may_ask(now + LONGEST_PAUSE));
        asking.asked();
        asking.answered(true, now);
        assert!(asking.may_ask(now) && asking.ask_again_at().is_none());
    }
}
