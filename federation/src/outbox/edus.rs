//! EDUs that wait for one server: bounded, the newest of each kind of news only.
//!
//! They live in memory: after a restart nobody misses a cursor of before it.

use std::collections::VecDeque;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId};
use serde_json::value::RawValue;
use weft_wire::limits;

/// News that may be lost.
#[derive(Debug, Clone)]
pub struct Edu {
    /// The room that it is news of: only servers in it are told.
    pub room: Option<OwnedRoomId>,
    /// Its type, such as `m.typing`.
    pub kind: String,
    /// What it is news of: a later EDU with the same kind and key takes its place (T57). For awareness that is room,
    /// user, device and client id; for typing room and user; for a receipt room, user and thread.
    pub key: String,
    /// The content, JSON.
    pub content: Box<RawValue>,
    /// When it is no news any more: a cursor of an hour ago misleads.
    pub expires: Option<MilliSecondsSinceUnixEpoch>,
}

/// EDUs for one server, oldest first.
#[derive(Debug, Clone, Default)]
pub struct EduQueue {
    waiting: VecDeque<Edu>,
}

impl EduQueue {
    /// Adds news; older news of the same are dropped, and the oldest of all where there is no room.
    pub fn push(&mut self, edu: Edu) {
        self.waiting.retain(|old| old.key != edu.key || old.kind != edu.kind);
        self.waiting.push_back(edu);
        if self.waiting.len() > limits::MAX_QUEUED_EDUS {
            self.waiting.pop_front();
        }
    }

    /// Puts back what wasn't delivered, unless there is newer news of it.
    pub fn put_back(&mut self, edus: Vec<Edu>) {
        for edu in edus.into_iter().rev() {
            let newer = self
                .waiting
                .iter()
                .any(|other| other.key == edu.key && other.kind == edu.kind);
            if !newer && self.waiting.len() < limits::MAX_QUEUED_EDUS {
                self.waiting.push_front(edu);
            }
        }
    }

    /// The oldest that are still news, at most a transaction's worth.
    pub fn take(&mut self, now: MilliSecondsSinceUnixEpoch) -> Vec<Edu> {
        self.waiting
            .retain(|edu| edu.expires.is_none_or(|expires| now < expires));
        let count = self.waiting.len().min(limits::MAX_TRANSACTION_EDUS);
        self.waiting.drain(..count).collect()
    }

    /// All of them, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Edu> + '_ {
        self.waiting.drain(..)
    }

    /// Whether anything waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Edu, EduQueue, limits};
    use crate::clock::from_millis;

    fn edu(key: &str, content: u64, expires: Option<u64>) -> Edu {
        Edu {
            room: None,
            kind: "dev.weft.awareness".to_owned(),
            key: key.to_owned(),
            content: serde_json::value::to_raw_value(&content).unwrap(),
            expires: expires.map(from_millis),
        }
    }

    fn contents(edus: &[Edu]) -> Vec<&str> {
        edus.iter().map(|edu| edu.content.get()).collect()
    }

    #[test]
    fn ten_thousand_movements_of_a_cursor_are_one() {
        let mut queue = EduQueue::default();
        for clock in 0..10_000 {
            queue.push(edu("cursor", clock, None));
        }
        queue.push(edu("other", 1, None));
        assert_eq!(contents(&queue.take(from_millis(0))), ["9999", "1"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn newer_news_win_over_what_was_not_delivered_and_old_news_expire() {
        let mut queue = EduQueue::default();
        queue.push(edu("a", 1, Some(100)));
        queue.push(edu("b", 1, None));
        let sent = queue.take(from_millis(50));
        queue.push(edu("a", 2, Some(200)));
        queue.put_back(sent);
        assert_eq!(contents(&queue.take(from_millis(150))), ["1", "2"]);
        queue.push(edu("a", 3, Some(200)));
        assert!(queue.take(from_millis(200)).is_empty());
    }

    #[test]
    fn is_bounded_and_gives_a_hundred_at_a_time() {
        let mut queue = EduQueue::default();
        for at in 0..5_000_u64 {
            queue.push(edu(&at.to_string(), at, None));
        }
        assert_eq!(queue.waiting.len(), limits::MAX_QUEUED_EDUS);
        let first = queue.take(from_millis(0));
        assert_eq!(
            (first.len(), first[0].content.get()),
            (limits::MAX_TRANSACTION_EDUS, "4000")
        );
    }
}
