//! File descriptors that the store keeps for itself, so that it can open its files when everything else of the process has
//! used up the rest. Must not be counted on for more than that: how many files RocksDB holds open is bounded by its options.

use std::fs::File;

/// Opening takes a lock, a manifest, logs and some tables at one time, beside those that were open before.
const SPARE: usize = 32;
/// A file that is always there and that nobody writes to.
const PLACEHOLDER: &str = "/dev/null";

/// Descriptors that are held for later.
#[derive(Debug)]
pub(crate) struct Spare(Vec<File>);

impl Spare {
    /// Takes as many as there are, at most [`SPARE`].
    pub(crate) fn take() -> Self {
        Self((0..SPARE).map_while(|_| File::open(PLACEHOLDER).ok()).collect())
    }

    /// Gives them to whoever opens a file next.
    pub(crate) fn release(&mut self) {
        self.0.clear();
    }
}
