//! File descriptors that the store reserves, so that it can open its files when the rest of the process has used up all
//! others. Must not be relied on for more than that: the options bound how many files RocksDB keeps open.

use std::fs::File;

/// Opening needs a lock, a manifest, logs and some tables at one time, in addition to the files that were open before.
const SPARE: usize = 32;
/// A file that always exists and that nobody writes to.
const PLACEHOLDER: &str = "/dev/null";

/// Reserved descriptors.
#[derive(Debug)]
pub(crate) struct Spare(Vec<File>);

impl Spare {
    /// Takes as many as are available, at most [`SPARE`].
    pub(crate) fn take() -> Self {
        Self((0..SPARE).map_while(|_| File::open(PLACEHOLDER).ok()).collect())
    }

    /// Releases them for the files opened next.
    pub(crate) fn release(&mut self) {
        self.0.clear();
    }
}
