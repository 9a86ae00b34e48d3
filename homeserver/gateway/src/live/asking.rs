//! When a client is asked for what its edits build on (sync step 1), so that a client that can't bring it is not asked without
//! end: stock Yjs answers each time with all that it has. Pure; time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// After so many answers in vain the client is asked only where it sends something that needs it.
const TRIES_BY_ITSELF: u32 = 8;
/// Between two questions at most: one second, doubled with each answer in vain.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// A question was sent and not answered yet.
    outstanding: bool,
    /// Answers in a row that did not bring all.
    in_vain: u32,
    not_before: Option<Instant>,
}

impl Asking {
    /// A step 1 was sent.
    pub(super) fn asked(&mut self) {
        self.outstanding = true;
    }

    /// A step 2 came and is on disk; `whole`: nothing of it was left out.
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

    /// Whether to ask now for something that is missing.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.outstanding && self.not_before.is_none_or(|at| at <= now)
    }

    /// When to ask again although the client sends nothing.
    pub(super) fn ask_again_at(&self) -> Option<Instant> {
        self.not_before
            .filter(|_| !self.outstanding && self.in_vain <= TRIES_BY_ITSELF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_cannot_bring_it_is_asked_ever_more_seldom_and_then_not_by_itself() {
        let (mut asking, mut now) = (Asking::default(), Instant::now());
        assert!(asking.may_ask(now) && asking.ask_again_at().is_none());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            asking.asked();
            assert!(
                !asking.may_ask(now + Duration::from_secs(3_600)),
                "one question at a time"
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
