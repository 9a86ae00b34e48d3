//! The engine: the calls of the engine interface, and the threads that they run on. Must not run a call that may block
//! on a thread of async tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocksdb::DB;
use tokio::task::spawn_blocking;
use weft_store::engine::{CommitGroup, EngineCommitError};
use weft_store::{Engine, KeyRange, ReadError};

use crate::commit::Writer;
use crate::descriptors::Spare;
use crate::open::{OpenReport, RocksOpenError, open};
use crate::options::RocksOptions;
use crate::read::{self, Miss, Reach};

/// Rows and keys up to which a read is first tried on the caller's thread: a longer one would occupy it too long even
/// if all rows are in memory.
pub(crate) const INLINE_ROWS: usize = 64;

/// RocksDB as an engine.
#[derive(Debug)]
pub struct RocksEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// `None` once closed. Users of the database hold the lock for reading, so that closing waits for them.
    pub(crate) db: RwLock<Option<DB>>,
    pub(crate) writer: Mutex<Writer>,
    /// The path and options of the store, to reopen it.
    pub(crate) path: PathBuf,
    pub(crate) options: RocksOptions,
}

impl RocksEngine {
    /// Opens (or creates) a store in a directory, and reports what recovery found. Blocks.
    ///
    /// # Errors
    /// Another process has it open, the disk is full, or the files are damaged or can't be accessed.
    pub fn open(path: impl AsRef<Path>, options: &RocksOptions) -> Result<(Self, OpenReport), RocksOpenError> {
        let opened = open(path.as_ref(), options)?;
        let writer = Writer {
            acknowledged: opened.acknowledged,
            last: opened.report.recovered,
            poisoned: None,
            closed: false,
            spare: Spare::take(),
        };
        let inner = Inner {
            db: RwLock::new(Some(opened.db)),
            writer: Mutex::new(writer),
            path: path.as_ref().to_owned(),
            options: options.clone(),
        };
        Ok((Self { inner: Arc::new(inner) }, opened.report))
    }

    /// Reads from memory if `inline` is set and the rows are there, otherwise on a thread that may block.
    async fn read<T, F>(&self, inline: bool, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Fn(&DB, Reach) -> Result<T, Miss> + Send + 'static,
    {
        if inline {
            match self.inner.with_db(|db| read(db, Reach::Memory))? {
                Ok(answer) => return Ok(answer),
                Err(Miss::Failed(error)) => return Err(error),
                Err(Miss::NotInMemory | Miss::TooMany) => {}
            }
        }
        let inner = Arc::clone(&self.inner);
        let answer = spawn_blocking(move || inner.with_db(|db| read(db, Reach::Disk))).await;
        let answer = answer.map_err(|error| ReadError::Engine {
            reason: error.to_string(),
        })?;
        answer?.map_err(Miss::into_error)
    }
}

impl Inner {
    fn with_db<T>(&self, work: impl FnOnce(&DB) -> T) -> Result<T, ReadError> {
        let db = self.db.read();
        db.as_ref().map(work).ok_or(ReadError::Closed)
    }

    fn close(&self) {
        let mut writer = self.writer.lock();
        writer.closed = true;
        let Some(db) = self.db.write().take() else {
            return;
        };
        // Dropping waits for background work and releases the lock.
        drop(db);
        let last = writer.last;
        if writer.poisoned.is_none()
            && let Err(error) = writer.acknowledged.close(last)
        {
            tracing::warn!(
                event = "store.record_failed", %error,
                "the number of the last commit could not be recorded"
            );
        }
        if let Err(error) = writer.acknowledged.unlock() {
            tracing::warn!(
                event = "store.unlock_failed", %error,
                "the store can't be unlocked before the process ends"
            );
        }
    }
}

#[async_trait]
impl Engine for RocksEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let key = Bytes::copy_from_slice(key);
        self.read(true, move |db, reach| read::get(db, &key, reach)).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let keys = keys.to_vec();
        self.read(keys.len() <= INLINE_ROWS, move |db, reach| {
            read::get_many(db, &keys, reach)
        })
        .await
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        // Always tried: most scans without a limit find few rows, and another thread costs more than they do.
        self.read(true, move |db, reach| read::scan(db, &range, reach)).await
    }

    fn is_embedded(&self) -> bool {
        true
    }

    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>> {
        let count = group.batches.len();
        let inner = Arc::clone(&self.inner);
        // A blocking task completes even if the caller is cancelled.
        let results = spawn_blocking(move || inner.commit(&group)).await;
        results.unwrap_or_else(|error| {
            vec![
                Err(EngineCommitError::Poisoned {
                    reason: error.to_string()
                });
                count
            ]
        })
    }

    async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        if let Err(error) = spawn_blocking(move || inner.close()).await {
            tracing::error!(event = "store.close_failed", %error, "closing the store failed");
        }
    }
}
