//! Queued EDUs for one server: bounded, only the newest of each key.
//!
//! They are in memory only: a cursor position from before a restart is of no use.

use std::collections::VecDeque;

use ruma::{MilliSecondsSinceUnixEpoch, OwnedRoomId};
use serde_json::value::RawValue;
use weft_wire::limits;

/// An EDU, which may be lost.
#[derive(Debug, Clone)]
pub struct Edu {
    /// The room that it belongs to: it is sent only to servers in that room.
    pub room: Option<OwnedRoomId>,
    /// Its type, such as `m.typing`.
    pub kind: String,
    /// The key of replacement: a later EDU with the same kind and key replaces this one (T57). For awareness it is
    /// room, user, device and client id; for typing room and user; for a receipt room, user and thread.
    pub key: String,
    /// The content, JSON.
    pub content: Box<RawValue>,
    /// When it expires: a cursor of an hour ago is misleading.
    pub expires: Option<MilliSecondsSinceUnixEpoch>,
}

/// EDUs for one server, oldest first.
#[derive(Debug, Clone, Default)]
pub struct EduQueue {
    waiting: VecDeque<Edu>,
}

impl EduQueue {
    /// Adds an EDU; an older one with the same key is dropped, and the oldest of all if the queue is full.
    pub fn push(&mut self, edu: Edu) {
        self.waiting.retain(|old| old.key != edu.key || old.kind != edu.kind);
        self.waiting.push_back(edu);
        if self.waiting.len() > limits::MAX_QUEUED_EDUS {
            self.waiting.pop_front();
        }
    }

    /// Puts back EDUs that were not delivered, unless a newer one has the same key.
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

    /// Takes the oldest EDUs that have not expired, at most as many as a transaction holds.
    pub fn take(&mut self, now: MilliSecondsSinceUnixEpoch) -> Vec<Edu> {
        self.waiting
            .retain(|edu| edu.expires.is_none_or(|expires| now < expires));
        let count = self.waiting.len().min(limits::MAX_TRANSACTION_EDUS);
        self.waiting.drain(..count).collect()
    }

    /// Takes all EDUs, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Edu> + '_ {
        self.waiting.drain(..)
    }

    /// Whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Edu, EduQueue, limits};
    use weft_clock::from_millis;

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
    fn ten_thousand_cursor_movements_become_one_edu() {
        let mut queue = EduQueue::default();
        for clock in 0..10_000 {
            queue.push(edu("cursor", clock, None));
        }
        queue.push(edu("other", 1, None));
        assert_eq!(contents(&queue.take(from_millis(0))), ["9999", "1"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_newer_edu_replaces_an_undelivered_one_and_old_edus_expire() {
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
    fn the_queue_is_bounded_and_returns_at_most_100_at_a_time() {
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
