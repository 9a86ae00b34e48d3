//! The store as all other crates use it: typed reads, durable commits, positions. Must not know the meaning of any row.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Parts};
use crate::engine::Engine;
use crate::errors::{CommitError, OpenError, ReadError};
use crate::key::{AsKey, Key};
use crate::positions::Positions;
use crate::query::{LimitedQuery, Query};
use crate::schema;
use crate::stream::RowStream;
use crate::table::Table;
use crate::value::Value;
use crate::writer::{self, Request};

/// A store over any engine. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    writer: mpsc::Sender<Request>,
    positions: Positions,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("visible", &self.positions.visible())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store: checks its schema version and restores its positions. Needs a tokio runtime, on which the writer
    /// runs until the last clone is dropped or [`Store::close`] is called.
    ///
    /// # Errors
    /// The store belongs to a newer or another program, or can't be read or written.
    pub async fn open(engine: impl Engine) -> Result<Self, OpenError> {
        let engine: Arc<dyn Engine> = Arc::new(engine);
        schema::check(engine.as_ref()).await?;
        let positions = schema::restore_positions(engine.as_ref()).await?;
        let writer = writer::start(Arc::clone(&engine), positions.clone());
        Ok(Self {
            engine,
            writer,
            positions,
        })
    }

    /// Reads a row.
    ///
    /// # Errors
    /// The engine can't read, or the row is damaged.
    pub async fn get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        key: &impl AsKey<K>,
    ) -> Result<Option<V>, ReadError> {
        let key = table.physical(key);
        self.engine
            .get(&key)
            .await?
            .map(|bytes| decode_value(table, bytes))
            .transpose()
    }

    /// Whether a row exists.
    ///
    /// # Errors
    /// The engine can't read.
    pub async fn contains<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        key: &impl AsKey<K>,
    ) -> Result<bool, ReadError> {
        let key = table.physical(key);
        Ok(self.engine.get(&key).await?.is_some())
    }

    /// Reads rows by their keys, in the order of the keys. Not necessarily from one point in time.
    ///
    /// # Errors
    /// The engine can't read, or a row is damaged.
    pub async fn get_many<K: Key, V: Value, A: AsKey<K>>(
        &self,
        table: &Table<K, V>,
        keys: impl IntoIterator<Item = A>,
    ) -> Result<Vec<Option<V>>, ReadError> {
        let keys: Vec<Bytes> = keys.into_iter().map(|key| table.physical(&key)).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.engine.get_many(&keys).await?;
        values
            .into_iter()
            .map(|value| value.map(|bytes| decode_value(table, bytes)).transpose())
            .collect()
    }

    /// Reads the first rows of a range, as of one point in time, in the order of their keys.
    ///
    /// # Errors
    /// The engine can't read, a row is damaged, or the query has no scope and its table needs one.
    pub async fn scan<K: Key, V: Value>(&self, query: LimitedQuery<K, V>) -> Result<Vec<(K, V)>, ReadError> {
        let table = query.table();
        let rows = self.engine.scan(query.into_range()?).await?;
        rows.into_iter().map(|row| decode_row(table, row)).collect()
    }

    /// The rows of a range of any length, page by page; see [`RowStream`] for what that means for concurrent writes.
    ///
    /// # Errors
    /// The query has no scope and its table needs one.
    pub fn stream<K: Key, V: Value>(&self, query: Query<K, V>) -> Result<RowStream<K, V>, ReadError> {
        RowStream::new(Arc::clone(&self.engine), query)
    }

    /// All rows of [`Store::stream`] in memory. Only for ranges whose length has a limit elsewhere.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn scan_all<K: Key, V: Value>(&self, query: Query<K, V>) -> Result<Vec<(K, V)>, ReadError> {
        self.stream(query)?.collect().await
    }

    /// Writes a batch atomically and returns when it is on disk. Concurrent callers share one fsync. Rows written ahead
    /// ([`Batch::put_ahead`]) are on disk before the rest is written.
    ///
    /// An accepted commit completes even if the caller is cancelled. A commit with rows written ahead does so only once
    /// the rest is accepted.
    ///
    /// # Errors
    /// A fence fails, the batch can't be encoded or is too large, or the store is closed or poisoned.
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let mut parts = batch.into_parts()?;
        for write in std::mem::take(&mut parts.ahead) {
            let (answer, result) = oneshot::channel();
            let part = Request::Commit(Parts::of(write), answer);
            self.writer.send(part).await.map_err(|_| CommitError::Closed)?;
            result.await.unwrap_or(Err(CommitError::Closed))?;
        }
        let (answer, result) = oneshot::channel();
        let request = Request::Commit(parts, answer);
        self.writer.send(request).await.map_err(|_| CommitError::Closed)?;
        result.await.unwrap_or(Err(CommitError::Closed))
    }

    /// The positions of the commit stream.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Completes the pending commits, then closes the engine. Later calls on any clone fail.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.writer.send(Request::Close(answer)).await.is_ok() {
            // An error means that the writer has ended for another reason, which closes the store too.
            let _ = closed.await;
        }
    }
}

fn decode_value<K: Key, V: Value>(table: &Table<K, V>, bytes: Bytes) -> Result<V, ReadError> {
    V::decode(bytes).map_err(|error| ReadError::Corrupt {
        table: table.name(),
        reason: error.to_string(),
    })
}

pub(crate) fn decode_row<K: Key, V: Value>(
    table: &Table<K, V>,
    (key, value): (Bytes, Bytes),
) -> Result<(K, V), ReadError> {
    let key = K::decode(table.layout(), &key).map_err(|error| ReadError::Corrupt {
        table: table.name(),
        reason: error.to_string(),
    })?;
    Ok((key, decode_value(table, value)?))
}
