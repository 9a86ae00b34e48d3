//! The changes of the earlier batches of a group, so that the fences of later batches see them. Must not write
//! anything.

use std::collections::HashMap;

use bytes::Bytes;
use weft_store::WriteBatch;
use weft_store::engine::Op;

/// The changes of a group so far.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// The last change of each key, with its sequence number in the group.
    keys: HashMap<Bytes, (usize, Option<Bytes>)>,
    /// Removed ranges, with their sequence numbers.
    ranges: Vec<(usize, Bytes, Bytes)>,
    time: usize,
}

impl Overlay {
    /// Adds an accepted batch.
    pub(crate) fn apply(&mut self, batch: &WriteBatch) {
        for op in &batch.ops {
            self.time += 1;
            match op {
                Op::Put { key, value } => {
                    self.keys.insert(key.clone(), (self.time, Some(value.clone())));
                }
                Op::Delete { key } => {
                    self.keys.insert(key.clone(), (self.time, None));
                }
                Op::DeleteRange { start, end } => self.ranges.push((self.time, start.clone(), end.clone())),
            }
        }
    }

    /// The value of a key after the group so far; `None` if the group doesn't change it.
    pub(crate) fn get(&self, key: &Bytes) -> Option<Option<&Bytes>> {
        let removed = self
            .ranges
            .iter()
            .rev()
            .find(|(_, start, end)| start <= key && key < end);
        match (self.keys.get(key), removed) {
            (Some((changed, value)), Some((removed, ..))) if changed > removed => Some(value.as_ref()),
            (Some((_, value)), None) => Some(value.as_ref()),
            (_, Some(_)) => Some(None),
            (None, None) => None,
        }
    }
}
