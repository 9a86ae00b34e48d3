//! A batch: typed puts and deletes, fences, and the positions that become visible with it. Must not write anything:
//! that is the task of the writer.

use bytes::Bytes;

use crate::engine::{Fence, MAX_BATCH_BYTES, Op, WriteBatch, prefix_end};
use crate::errors::CommitError;
use crate::key::{AsKey, AsPart, AsPrefix, Key};
use crate::lane::Placed;
use crate::positions::{Positions, Reserved};
use crate::table::Table;
use crate::value::Value;

/// An atomic change of the store. Filling it can't fail: an encoding error is returned by the commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows that may be written before the others, in parts.
    ahead: Vec<Op>,
    write: WriteBatch,
    fenced: Vec<&'static str>,
    held: Vec<Reserved>,
    /// A key in the lane that the batch belongs to, if it was stated.
    home: Option<Bytes>,
    invalid: Option<String>,
}

/// A batch as the writer needs it: bytes for the engine, the tables of its fences, its positions.
pub(crate) struct Parts {
    /// To be committed one after the other before `write`.
    pub(crate) ahead: Vec<WriteBatch>,
    pub(crate) write: WriteBatch,
    pub(crate) fenced: Vec<&'static str>,
    pub(crate) held: Vec<Reserved>,
    /// A key in the lane whose fence decides about the batch; `None` if the batch is empty.
    pub(crate) home: Option<Bytes>,
    /// The caller stated the lane.
    pub(crate) stated: bool,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the batch has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.write.ops.is_empty() && self.ahead.is_empty()
    }

    /// The number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.write.ops.len().saturating_add(self.ahead.len())
    }

    /// Sets a row.
    pub fn put<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>, value: &V) {
        if let Some(value) = self.encode(table, value) {
            self.write.ops.push(Op::Put {
                key: table.physical(key),
                value,
            });
        }
    }

    /// Sets a row that is written before the rest of this batch and that nothing refers to yet. Such rows may exceed
    /// the limit of one atomic batch: they are committed in parts. A crash between the parts and the rest leaves these
    /// rows unreferenced, so their keys must be new ones, and the code that makes such keys must not treat leftover
    /// rows as valid.
    pub fn put_ahead<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>, value: &V) {
        if let Some(value) = self.encode(table, value) {
            self.ahead.push(Op::Put {
                key: table.physical(key),
                value,
            });
        }
    }

    /// Removes a row, if it exists.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>) {
        self.write.ops.push(Op::Delete {
            key: table.physical(key),
        });
    }

    /// Removes all rows whose keys begin with these parts. For rare and large removals: some engines pay for it at
    /// later reads.
    pub fn delete_range<K: Key, V: Value>(&mut self, table: &Table<K, V>, prefix: &impl AsPrefix<K>) {
        let range = table
            .physical_prefix(prefix)
            .and_then(|start| Some((prefix_end(&start)?, start)));
        match range {
            Some((end, start)) => self.write.ops.push(Op::DeleteRange { start, end }),
            None => self.refuse(table.name(), "a range delete without a scope"),
        }
    }

    /// Removes the rows whose keys begin with these parts and are below `key`. See [`Batch::delete_range`].
    pub fn delete_before<K: Key, V: Value>(
        &mut self,
        table: &Table<K, V>,
        prefix: &impl AsPrefix<K>,
        key: &impl AsKey<K>,
    ) {
        match table.physical_prefix(prefix) {
            Some(start) => self.write.ops.push(Op::DeleteRange {
                start,
                end: table.physical(key),
            }),
            None => self.refuse(table.name(), "a range delete without a scope"),
        }
    }

    /// A fence: the batch is written only if this row has this value (`None`: does not exist) at the time of the
    /// commit.
    pub fn require<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>, value: Option<&V>) {
        let expected = match value {
            None => None,
            Some(value) => match self.encode(table, value) {
                None => return,
                encoded => encoded,
            },
        };
        self.write.fences.push(Fence {
            key: table.physical(key),
            expected,
        });
        self.fenced.push(table.name());
    }

    /// Reserves `count` positions that become visible when this batch is durable or has failed, and returns the first.
    /// The batch owns them, so a cancelled caller can't make them visible too early.
    pub fn reserve(&mut self, positions: &Positions, count: u64) -> u64 {
        let reserved = positions.reserve(count);
        let first = reserved.first();
        self.held.push(reserved);
        first
    }

    /// Gives the batch positions that were reserved before.
    pub fn hold(&mut self, reserved: Reserved) {
        self.held.push(reserved);
    }

    /// States the lane that the batch belongs to: the batch is written only while this process owns it. Without this it is
    /// the lane of its positions, or else of the first row that it requires, or else of the first that it changes. Positions
    /// of another lane are refused by the commit.
    pub fn belongs_to<T: Placed + ?Sized>(&mut self, placed: &T) {
        let mut key = vec![T::TAG];
        AsPart::<Vec<u8>>::write(placed.id(), &mut key);
        self.home = Some(Bytes::from(key));
    }

    /// Appends another batch: both are written together or not at all.
    pub fn append(&mut self, mut other: Self) {
        self.ahead.append(&mut other.ahead);
        self.write.ops.append(&mut other.write.ops);
        self.write.fences.append(&mut other.write.fences);
        self.fenced.append(&mut other.fenced);
        self.held.append(&mut other.held);
        self.home = self.home.take().or(other.home);
        self.invalid = self.invalid.take().or(other.invalid);
    }

    fn encode<K: Key, V: Value>(&mut self, table: &Table<K, V>, value: &V) -> Option<Bytes> {
        match value.encode() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.refuse(table.name(), &error.to_string());
                None
            }
        }
    }

    fn refuse(&mut self, table: &'static str, reason: &str) {
        self.invalid.get_or_insert_with(|| format!("table {table}: {reason}"));
    }

    pub(crate) fn into_parts(self) -> Result<Parts, CommitError> {
        if let Some(reason) = self.invalid {
            return Err(CommitError::Invalid { reason });
        }
        let ahead = in_parts(self.ahead);
        for size in ahead.iter().chain([&self.write]).map(WriteBatch::size) {
            if size > MAX_BATCH_BYTES {
                return Err(CommitError::Invalid {
                    reason: format!("{size} bytes, the limit is {MAX_BATCH_BYTES}"),
                });
            }
        }
        let stated = self.home.is_some();
        let home = self.home.or_else(|| {
            let required = self.write.fences.first().map(|fence| &fence.key);
            let changed = ahead.iter().chain([&self.write]).flat_map(|write| &write.ops).next();
            required.or(changed.map(Op::key)).cloned()
        });
        Ok(Parts {
            ahead,
            write: self.write,
            fenced: self.fenced,
            held: self.held,
            home,
            stated,
        })
    }
}

/// Bytes after which rows written ahead start another batch: what a disk writes in about ten milliseconds.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

fn in_parts(ops: Vec<Op>) -> Vec<WriteBatch> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    let mut part = WriteBatch::default();
    for op in ops {
        bytes += op.size();
        part.ops.push(op);
        if bytes >= AHEAD_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
    }
    if !part.ops.is_empty() {
        parts.push(part);
    }
    parts
}
