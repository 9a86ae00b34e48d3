//! What a caller wants written: typed puts and deletes, fences, and the positions that become visible with it.

use bytes::Bytes;

use crate::engine::{Fence, MAX_BATCH_BYTES, Op, WriteBatch, prefix_end};
use crate::errors::CommitError;
use crate::key::{AsKey, AsPrefix, Key};
use crate::positions::{Positions, Reserved};
use crate::table::Table;
use crate::value::Value;

/// An atomic change of the store. Filling it can't fail: what can't be encoded is told by the commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows that may be written before the rest, in parts.
    ahead: Vec<Op>,
    write: WriteBatch,
    fenced: Vec<&'static str>,
    held: Vec<Reserved>,
    invalid: Option<String>,
}

/// A batch taken apart for the writer: bytes for the engine, the tables of its fences, its positions.
pub(crate) struct Parts {
    /// To be committed one after the other before `write`.
    pub(crate) ahead: Vec<WriteBatch>,
    pub(crate) write: WriteBatch,
    pub(crate) fenced: Vec<&'static str>,
    pub(crate) held: Vec<Reserved>,
}

impl Parts {
    /// Changes without conditions or positions.
    pub(crate) fn of(write: WriteBatch) -> Self {
        Self {
            ahead: Vec::new(),
            write,
            fenced: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.write.ops.is_empty() && self.ahead.is_empty()
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

    /// Sets a row that nothing refers to before the rest of this batch is written. Such rows may be more than one atomic
    /// batch can hold: they are committed in parts before the rest. After a crash between the two they are left over, so
    /// their keys must be new ones, and whoever makes such keys must not take left-over rows for valid ones.
    pub fn put_ahead<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>, value: &V) {
        if let Some(value) = self.encode(table, value) {
            self.ahead.push(Op::Put {
                key: table.physical(key),
                value,
            });
        }
    }

    /// Removes a row, if it's there.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &impl AsKey<K>) {
        self.write.ops.push(Op::Delete {
            key: table.physical(key),
        });
    }

    /// Removes all rows under these parts. For rare and large removals: engines may pay for it at later reads.
    pub fn delete_range<K: Key, V: Value>(&mut self, table: &Table<K, V>, prefix: &impl AsPrefix<K>) {
        let range = table
            .physical_prefix(prefix)
            .and_then(|start| Some((prefix_end(&start)?, start)));
        match range {
            Some((end, start)) => self.write.ops.push(Op::DeleteRange { start, end }),
            None => self.refuse(table.name(), "a range delete that names no scope"),
        }
    }

    /// Removes all rows under these parts whose keys are below `key`. See [`Batch::delete_range`].
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
            None => self.refuse(table.name(), "a range delete that names no scope"),
        }
    }

    /// The whole batch is written only if this row has this value (None: isn't there) at that moment.
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

    /// Reserves `count` positions that become visible when this batch is durable (or has failed), and gives the
    /// first of them. They travel with the batch, so a caller that is cancelled can't make them visible too early.
    pub fn reserve(&mut self, positions: &Positions, count: u64) -> u64 {
        let reserved = positions.reserve(count);
        let first = reserved.first();
        self.held.push(reserved);
        first
    }

    /// Lets positions that were reserved before travel with this batch.
    pub fn hold(&mut self, reserved: Reserved) {
        self.held.push(reserved);
    }

    /// Appends another batch: both are written together or not at all.
    pub fn append(&mut self, mut other: Self) {
        self.ahead.append(&mut other.ahead);
        self.write.ops.append(&mut other.write.ops);
        self.write.fences.append(&mut other.write.fences);
        self.fenced.append(&mut other.fenced);
        self.held.append(&mut other.held);
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
                    reason: format!("{size} bytes, more than {MAX_BATCH_BYTES}"),
                });
            }
        }
        Ok(Parts {
            ahead,
            write: self.write,
            fenced: self.fenced,
            held: self.held,
        })
    }
}

/// Bytes after which rows that are written ahead begin another batch: what a disk writes in some ten milliseconds.
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
