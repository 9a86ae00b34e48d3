//! File descriptors that the store reserves, so that it can open its files when the rest of the process has used up all
//! others. Must not be relied on for more than that: the options bound how many files RocksDB keeps open.

use std::fs::File;

use rocksdb::DB;

/// Opening needs a lock, a manifest, logs and some tables at one time, in addition to the files that were open before. A
/// read may need all tables of level 0: RocksDB stops writes at 36 of them.
const SPARE: usize = 64;
/// A file that always exists and that nobody writes to.
const PLACEHOLDER: &str = "/dev/null";
/// Properties of RocksDB that are 0 when it has no work that opens files.
const BACKGROUND_WORK: [&str; 4] = [
    "rocksdb.mem-table-flush-pending",
    "rocksdb.num-running-flushes",
    "rocksdb.compaction-pending",
    "rocksdb.num-running-compactions",
];

/// Reserved descriptors.
#[derive(Debug)]
pub(crate) struct Spare(Vec<File>);

impl Spare {
    /// Takes as many as are available, at most [`SPARE`].
    pub(crate) fn take() -> Self {
        Self((0..SPARE).map_while(|_| File::open(PLACEHOLDER).ok()).collect())
    }

    /// Releases them for the files opened next. Returns whether there were any.
    pub(crate) fn release(&mut self) -> bool {
        let any = !self.0.is_empty();
        self.0.clear();
        any
    }

    /// Takes them again after a release, once RocksDB has nothing to flush or compact: with no descriptor left, such work
    /// fails and leaves ever more tables to read.
    pub(crate) fn retake(&mut self, db: &DB) {
        if self.0.is_empty() && is_idle(db) {
            *self = Self::take();
        }
    }
}

fn is_idle(db: &DB) -> bool {
    let mut work = BACKGROUND_WORK.iter().map(|property| db.property_int_value(*property));
    work.all(|value| matches!(value, Ok(Some(0))))
}
