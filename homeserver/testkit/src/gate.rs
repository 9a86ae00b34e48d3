//! A storage engine in memory that can hold one read back, so that a test can commit between a read and the next step of its
//! reader. It also counts the reads. Must not change a result.

#![allow(clippy::missing_panics_doc, reason = "no lock is poisoned")]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use weft_store::{
    ReadError,
    engine::{CommitGroup, Engine, EngineCommitError, KeyRange},
    memory::MemoryEngine,
};

/// Which reads are held.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Any,
    WithoutResult,
    Scans,
}

/// The read that is held, and the two sides that wait for each other.
pub struct Gate {
    /// The key that the read covers.
    held: Mutex<Option<(Bytes, Held)>>,
    reached: Semaphore,
    open: Semaphore,
    records_scans: AtomicBool,
    scans: Mutex<Vec<KeyRange>>,
    largest_batch: AtomicUsize,
    keys_read: AtomicUsize,
    rows_scanned: AtomicUsize,
    largest_read: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
            records_scans: AtomicBool::new(false),
            scans: Mutex::default(),
            largest_batch: AtomicUsize::new(0),
            keys_read: AtomicUsize::new(0),
            rows_scanned: AtomicUsize::new(0),
            largest_read: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    /// Holds the next read that covers this key and has no result, before it returns.
    pub fn hold_next_empty_read(&self, key: Bytes) {
        *self.held.lock().unwrap() = Some((key, Held::WithoutResult));
    }

    /// Holds the next read that covers this key, before it returns.
    pub fn hold_next_read(&self, key: Bytes) {
        *self.held.lock().unwrap() = Some((key, Held::Any));
    }

    /// Holds the next scan of a range that contains this key, before it returns.
    pub fn hold_next_scan(&self, key: Bytes) {
        *self.held.lock().unwrap() = Some((key, Held::Scans));
    }

    /// Returns when such a read is held.
    pub async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    /// Releases it.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    /// Keeps the range of each scan from now on.
    pub fn record_scans(&self) {
        self.records_scans.store(true, Ordering::Relaxed);
    }

    /// The number of rows that were read so far, and of keys without a row that were looked up.
    pub fn rows_read(&self) -> usize {
        self.keys_read() + self.rows_scanned.load(Ordering::Relaxed)
    }

    /// The number of recorded scans of ranges that contain this key.
    pub fn scans_over(&self, key: &Bytes) -> usize {
        let scans = self.scans.lock().unwrap();
        scans.iter().filter(|range| holds(range, key)).count()
    }

    /// The size of the largest batch, in bytes.
    pub fn largest_batch(&self) -> usize {
        self.largest_batch.load(Ordering::Relaxed)
    }

    /// The number of keys that were read one by one or in lists.
    pub fn keys_read(&self) -> usize {
        self.keys_read.load(Ordering::Relaxed)
    }

    /// The bytes of the values that one call returned, at most.
    pub fn largest_read(&self) -> usize {
        self.largest_read.load(Ordering::Relaxed)
    }

    fn note_read<'a>(&self, values: impl Iterator<Item = &'a Bytes>) {
        self.largest_read
            .fetch_max(values.map(Bytes::len).sum(), Ordering::Relaxed);
    }

    async fn pass(&self, is_empty: bool, is_scan: bool, reads: impl FnOnce(&Bytes) -> bool) {
        let is_held = |held: &mut (Bytes, Held)| {
            let is_kind = match held.1 {
                Held::Any => true,
                Held::WithoutResult => is_empty,
                Held::Scans => is_scan,
            };
            is_kind && reads(&held.0)
        };
        let held = self.held.lock().unwrap().take_if(is_held);
        if held.is_some() {
            self.reached.add_permits(1);
            self.open.acquire().await.unwrap().forget();
        }
    }
}

/// A memory engine behind a gate.
pub struct GatedEngine {
    /// The data.
    pub engine: MemoryEngine,
    /// What holds and counts its reads.
    pub gate: Arc<Gate>,
}

impl GatedEngine {
    /// An engine and its gate.
    #[must_use]
    pub fn new(engine: MemoryEngine) -> (Self, Arc<Gate>) {
        let gate = Arc::<Gate>::default();
        let gated = Self {
            engine,
            gate: Arc::clone(&gate),
        };
        (gated, gate)
    }
}

#[async_trait]
impl Engine for GatedEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let value = self.engine.get(key).await?;
        self.gate.keys_read.fetch_add(1, Ordering::Relaxed);
        self.gate.pass(value.is_none(), false, |held| held == key).await;
        Ok(value)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        self.gate.note_read(values.iter().flatten());
        Ok(values)
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let rows = self.engine.scan(range.clone()).await?;
        self.gate.rows_scanned.fetch_add(rows.len(), Ordering::Relaxed);
        if self.gate.records_scans.load(Ordering::Relaxed) {
            self.gate.scans.lock().unwrap().push(range.clone());
        }
        self.gate.note_read(rows.iter().map(|(_, value)| value));
        self.gate.pass(rows.is_empty(), true, |held| holds(&range, held)).await;
        Ok(rows)
    }

    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>> {
        for batch in &group.batches {
            self.gate.largest_batch.fetch_max(batch.write.size(), Ordering::Relaxed);
        }
        self.engine.commit_group(group).await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

fn holds(range: &KeyRange, key: &Bytes) -> bool {
    range.start <= *key && range.end.as_ref().is_none_or(|end| key < end)
}
