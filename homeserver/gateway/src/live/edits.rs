//! The edits of one document on one socket, on their way to disk: in order, one commit at a time, batched by nature.
//!
//! What comes in while a commit is on its way is merged into the next one. When a merged batch is refused, its edits
//! are tried one by one, so that one bad edit does not take good ones with it.

use std::collections::VecDeque;

use bytes::Bytes;
use weft_crdt::Update;

use super::inbox::Held;

/// Edits that may wait for the commit before them; above it the socket is not read from.
pub(super) const MAX_WAITING: usize = 64;
/// Bytes of edits that are merged into one commit.
const MAX_MERGED_BYTES: usize = 256 * 1024;

/// One update of the client.
#[derive(Debug)]
pub(super) struct Edit {
    /// As it came.
    pub(super) update: Bytes,
    /// It answers a step 1: all that the client has and the server had not.
    pub(super) answers: bool,
    /// Its place in the inbox, until it is on disk.
    #[expect(dead_code, reason = "held until the edit is on disk")]
    pub(super) held: Held,
}

/// Edits to be committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// The merged update.
    pub(super) update: Bytes,
    /// How many edits of the client it stands for: each is acknowledged.
    pub(super) count: usize,
    /// One of them answers a step 1.
    pub(super) answers: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Edits {
    waiting: VecDeque<Edit>,
    /// What the batch under way was made of.
    under_way: Vec<Edit>,
    /// This many of the first waiting edits are to be tried one by one.
    singly: usize,
}

impl Edits {
    /// Whether another edit may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Takes an edit.
    pub(super) fn push(&mut self, edit: Edit) {
        self.waiting.push_back(edit);
    }

    /// The next batch to commit, if any waits. To be called only when none is under way.
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
        // One of them can't be read: the room says so for that one, and takes the others.
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

    /// The batch under way was refused: true if its edits will be tried one by one, false if it was a single one.
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

    /// The batch under way is settled.
    pub(super) fn done(&mut self) {
        self.under_way.clear();
    }
}

/// One update for all, or nothing where one of several can't be read.
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
    fn what_waited_is_committed_together() {
        let mut edits = Edits::default();
        (0..5).for_each(|clock| edits.push(edit(letter(clock))));
        let batch = edits.next().unwrap();
        assert_eq!(batch.count, 5);
        let ranges = Update::parse(batch.update).unwrap().ranges();
        assert_eq!(ranges.values().copied().collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(edits.next(), None);
    }

    #[test]
    fn a_refused_batch_is_tried_one_by_one_and_in_order() {
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
        assert_eq!(edits.next().unwrap().count, 2, "what came later is merged again");
    }

    #[test]
    fn one_that_cannot_be_read_does_not_take_the_others_with_it() {
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
    fn room_is_bounded() {
        let mut edits = Edits::default();
        (0..MAX_WAITING).for_each(|_| edits.push(edit(Bytes::new())));
        assert!(!edits.has_room());
    }
}
