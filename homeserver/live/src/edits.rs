//! The edits of one document on one socket that are not committed yet: in order, one commit at a time, batched.
//!
//! Edits that arrive during a commit are merged into the next one. If a merged batch is refused, its edits are committed
//! one by one, so that one bad edit doesn't discard good ones.

use std::collections::VecDeque;

use bytes::Bytes;
use weft_crdt::Update;

use super::inbox::Held;

/// Edits that may wait for the commit in progress; above it the socket is not read.
pub(super) const MAX_WAITING: usize = 64;
/// Maximum bytes of edits that are merged into one commit.
const MAX_MERGED_BYTES: usize = 256 * 1024;

/// One update from the client.
#[derive(Debug)]
pub(super) struct Edit {
    /// The update as received.
    pub(super) update: Bytes,
    /// It answers a step 1: it has everything that the server lacks.
    pub(super) answers: bool,
    /// Its share of the inbox, held until the edit is on disk.
    #[expect(dead_code, reason = "held until the edit is on disk")]
    pub(super) held: Held,
}

/// Edits to commit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// The merged update.
    pub(super) update: Bytes,
    /// Number of client edits in the batch: each is acknowledged.
    pub(super) count: usize,
    /// At least one of them answers a step 1.
    pub(super) answers: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Edits {
    waiting: VecDeque<Edit>,
    /// The edits of the batch in progress.
    under_way: Vec<Edit>,
    /// Number of waiting edits, from the first, to commit one by one.
    singly: usize,
}

impl Edits {
    /// Whether another edit can be added.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Adds an edit.
    pub(super) fn push(&mut self, edit: Edit) {
        self.waiting.push_back(edit);
    }

    /// The next batch to commit, if any edit waits. Must only be called when no batch is in progress.
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.under_way.clear();
        let mut taken = vec![self.waiting.pop_front()?];
        if self.singly > 0 {
            self.singly -= 1;
        } else {
            let mut bytes = taken.iter().map(|edit| edit.update.len()).sum::<usize>();
            while let Some(next) = self.waiting.front() {
                bytes += next.update.len();
                if bytes > MAX_MERGED_BYTES {
                    break;
                }
                taken.extend(self.waiting.pop_front());
            }
        }
        Some(self.batch(taken))
    }

    fn batch(&mut self, taken: Vec<Edit>) -> Batch {
        if let Some(update) = merged(&taken) {
            let batch = Batch {
                update,
                count: taken.len(),
                answers: taken.iter().any(|edit| edit.answers),
            };
            self.under_way = taken;
            return batch;
        }
        // One of them can't be decoded: the room refuses that one and accepts the others.
        self.under_way = taken;
        self.split();
        self.singly = self.singly.saturating_sub(1);
        let first = self.waiting.pop_front();
        let batch = Batch {
            update: first.as_ref().map(|edit| edit.update.clone()).unwrap_or_default(),
            count: 1,
            answers: first.as_ref().is_some_and(|edit| edit.answers),
        };
        self.under_way = first.into_iter().collect();
        batch
    }

    /// The batch in progress was refused: true if its edits will be committed one by one, false if it had a single edit.
    pub(super) fn split(&mut self) -> bool {
        if self.under_way.len() < 2 {
            return false;
        }
        self.singly = self.under_way.len();
        for edit in self.under_way.drain(..).rev() {
            self.waiting.push_front(edit);
        }
        true
    }

    /// The batch in progress is finished.
    pub(super) fn done(&mut self) {
        self.under_way.clear();
    }
}

/// One update for all, or `None` if one of several can't be decoded.
fn merged(edits: &[Edit]) -> Option<Bytes> {
    if let [only] = edits {
        return Some(only.update.clone());
    }
    let parsed = edits
        .iter()
        .map(|edit| Update::parse(edit.update.clone()))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    Some(weft_crdt::merge(&parsed).ok()?.encode().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Client 1 types one letter at each clock.
    fn letter(clock: u8) -> Bytes {
        let mut bytes = vec![1, 1, 1, clock];
        if clock == 0 {
            bytes.extend([4, 1, 1, b't', 1, b'a']);
        } else {
            bytes.extend([0x84, 1, clock - 1, 1, b'a']);
        }
        bytes.push(0);
        bytes.into()
    }

    fn edit(update: Bytes) -> Edit {
        Edit {
            update,
            answers: false,
            held: Held::default(),
        }
    }

    #[test]
    fn waiting_edits_are_committed_together() {
        let mut edits = Edits::default();
        (0..5).for_each(|clock| edits.push(edit(letter(clock))));
        let batch = edits.next().unwrap();
        assert_eq!(batch.count, 5);
        let ranges = Update::parse(batch.update).unwrap().ranges();
        assert_eq!(ranges.values().copied().collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(edits.next(), None);
    }

    #[test]
    fn a_refused_batch_is_committed_one_by_one_and_in_order() {
        let mut edits = Edits::default();
        (0..3).for_each(|clock| edits.push(edit(letter(clock))));
        edits.next().unwrap();
        edits.push(edit(letter(3)));
        edits.push(edit(letter(4)));
        assert!(edits.split());
        for clock in 0..3 {
            assert_eq!(
                edits.next(),
                Some(Batch {
                    update: letter(clock),
                    count: 1,
                    answers: false,
                })
            );
        }
        assert_eq!(edits.next().unwrap().count, 2, "later edits are merged again");
    }

    #[test]
    fn an_undecodable_edit_does_not_discard_the_others() {
        let mut edits = Edits::default();
        let bad = Bytes::from_static(b"\xff\xff");
        for update in [letter(0), bad.clone(), letter(1)] {
            edits.push(edit(update));
        }
        for expected in [letter(0), bad, letter(1)] {
            assert_eq!(
                edits.next(),
                Some(Batch {
                    update: expected,
                    count: 1,
                    answers: false,
                })
            );
            assert!(!edits.split());
        }
        assert_eq!(edits.next(), None);
    }

    #[test]
    fn the_number_of_waiting_edits_is_bounded() {
        let mut edits = Edits::default();
        (0..MAX_WAITING).for_each(|_| edits.push(edit(Bytes::new())));
        assert!(!edits.has_room());
    }
}
