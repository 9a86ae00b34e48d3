//! What the outcome of an attempt means for the next one. Pure.

use std::time::Duration;

use weft_jobs::pause;
use weft_store::tables::webhooks::{WebhookDeliveryRow, WebhookProgressRow};
use weft_wire::limits::{
    MAX_WEBHOOK_DELIVERIES_SHOWN, WEBHOOK_FIRST_PAUSE_MS, WEBHOOK_GIVE_UP_MS, WEBHOOK_LONGEST_PAUSE_MS,
};

use crate::receivers::Answer;

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) document: String,
    /// The position of its first event.
    pub(crate) first: u64,
    /// When it ended, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) answer: Answer,
}

/// Notes an attempt. Returns why the webhook is to be paused, if it is. `random` is any number.
pub(crate) fn note(progress: &mut WebhookProgressRow, attempt: Attempt, random: u64) -> Option<String> {
    let attempts = progress.attempts.saturating_add(1);
    show(progress, &attempt, attempts);
    let Some(failure) = attempt.answer.failure() else {
        if let Some(span) = &mut progress.span {
            span.reached = attempt.first;
        }
        settle(progress);
        return None;
    };
    progress.attempts = attempts;
    let since = *progress.failing_since.get_or_insert(attempt.at);
    let pauses = (
        Duration::from_millis(WEBHOOK_FIRST_PAUSE_MS),
        Duration::from_millis(WEBHOOK_LONGEST_PAUSE_MS),
    );
    let after = u64::try_from(pause(pauses, attempts, random).as_millis()).unwrap_or(u64::MAX);
    progress.next_at = attempt.at.saturating_add(after);
    if attempt.answer.is_gone() {
        return Some("The receiver answered 410: it wants no more events.".to_owned());
    }
    let is_given_up = attempt.at.saturating_sub(since) >= WEBHOOK_GIVE_UP_MS;
    is_given_up.then(|| format!("A delivery failed for a day; the last time: {failure}."))
}

/// Nothing has failed: the next attempt is made at once.
pub(crate) fn settle(progress: &mut WebhookProgressRow) {
    progress.attempts = 0;
    progress.failing_since = None;
    progress.next_at = 0;
}

fn show(progress: &mut WebhookProgressRow, attempt: &Attempt, attempts: u32) {
    // A change of the webhook resets the count of failures, and what is shown is the sum.
    let before = progress.recent.iter().position(|row| row.id == attempt.id);
    let before = before.map(|index| progress.recent.remove(index));
    let earlier = before.map_or(0, |row| row.attempts);
    let row = WebhookDeliveryRow {
        id: attempt.id.clone(),
        name: attempt.name.clone(),
        document: attempt.document.clone(),
        at: attempt.at,
        attempts: attempts.max(earlier.saturating_add(1)),
        status: attempt.answer.status(),
        error: attempt.answer.failure(),
    };
    progress.recent.insert(0, row);
    progress.recent.truncate(MAX_WEBHOOK_DELIVERIES_SHOWN);
}

#[cfg(test)]
mod tests {
    use weft_store::tables::webhooks::WebhookSpanRow;

    use super::*;

    fn attempt(at: u64, status: u16) -> Attempt {
        Attempt {
            id: "msg_1".to_owned(),
            name: "chat".to_owned(),
            document: "!d:x".to_owned(),
            first: 7,
            at,
            answer: Answer::Status(status),
        }
    }

    fn begun() -> WebhookProgressRow {
        WebhookProgressRow {
            span: Some(WebhookSpanRow {
                lane: 0,
                through: 9,
                reached: 5,
            }),
            ..WebhookProgressRow::default()
        }
    }

    #[test]
    fn failures_are_repeated_for_a_day_with_growing_pauses_then_the_webhook_is_paused() {
        let mut progress = begun();
        let (mut at, mut pauses) = (1_000, Vec::new());
        let reason = loop {
            let reason = note(&mut progress, attempt(at, 500), 0);
            assert_eq!(progress.span.map(|span| span.reached), Some(5));
            if let Some(reason) = reason {
                break reason;
            }
            pauses.push(progress.next_at - at);
            at = progress.next_at;
        };
        assert!(reason.contains("500"), "{reason}");
        assert!(at - 1_000 >= WEBHOOK_GIVE_UP_MS);
        assert!(at - 1_000 <= WEBHOOK_GIVE_UP_MS + 2 * WEBHOOK_LONGEST_PAUSE_MS);
        assert!(pauses.is_sorted() && pauses.len() < 60, "{pauses:?}");
        assert_eq!(progress.recent.len(), 1);
        assert_eq!(progress.recent[0].attempts as usize, pauses.len() + 1);
    }

    #[test]
    fn a_success_ends_a_delivery_and_its_failures() {
        let mut progress = begun();
        assert_eq!(note(&mut progress, attempt(1, 302), 1), None);
        assert!(progress.next_at > 1 && progress.attempts == 1);
        assert!(progress.recent[0].error.as_ref().unwrap().contains("redirects"));
        assert_eq!(note(&mut progress, attempt(9_000, 204), 1), None);
        assert_eq!(
            (progress.next_at, progress.attempts, progress.failing_since),
            (0, 0, None)
        );
        assert_eq!(progress.span.map(|span| span.reached), Some(7));
        let shown = &progress.recent;
        assert_eq!((shown.len(), shown[0].attempts, shown[0].status), (1, 2, Some(204)));
    }

    #[test]
    fn a_receiver_that_is_gone_pauses_at_once() {
        assert!(note(&mut begun(), attempt(1, 410), 1).is_some());
    }

    #[test]
    fn a_limited_number_of_deliveries_is_shown() {
        let mut progress = begun();
        for number in 0..100 {
            let id = format!("msg_{number}");
            note(
                &mut progress,
                Attempt {
                    id,
                    ..attempt(number, 200)
                },
                1,
            );
        }
        assert_eq!(progress.recent.len(), MAX_WEBHOOK_DELIVERIES_SHOWN);
        assert_eq!(progress.recent[0].id, "msg_99");
    }
}
