//! The store as all other crates use it: typed reads, durable commits, positions. Must not know the meaning of any row.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Parts};
use crate::engine::{Engine, KeyRange, WriteBatch};
use crate::errors::{CommitError, OpenError, ReadError};
use crate::key::{AsKey, Key};
use crate::lane::{Lane, Lanes, Placed};
use crate::owned::{Owned, Taker};
use crate::place::Place;
use crate::positions::{LanePositions, Positions, Reserved};
use crate::query::{LimitedQuery, Query};
use crate::request::RequestEngine;
use crate::schema;
use crate::stream::RowStream;
use crate::table::Table;
use crate::value::Value;
use crate::writer::{self, Request, Submitted};

/// A store over any engine. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    writer: mpsc::Sender<Request>,
    lanes: Lanes,
    positions: LanePositions,
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// The number of lanes, for a new store. An existing store with another number is refused; `None` accepts any, and
    /// creates a store with one.
    pub lanes: Option<Lanes>,
    /// Acknowledged commits may be lost: positions that clients hold begin a new era.
    pub new_era: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// As [`Store::open_with`] with the default options.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub async fn open(engine: impl Engine) -> Result<Self, OpenError> {
        Self::open_with(engine, OpenOptions::default()).await
    }

    /// Opens a store: checks its schema version, takes its lanes and restores their positions. Needs a tokio runtime, on
    /// which the writer runs until the last clone is dropped or [`Store::close`] is called.
    ///
    /// # Errors
    /// The store belongs to a newer or another program, or can't be read or written.
    pub async fn open_with(engine: impl Engine, options: OpenOptions) -> Result<Self, OpenError> {
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let lanes = schema::check(engine.as_ref(), options.lanes).await?;
        let by = Taker {
            owner: RandomState::new().hash_one(0),
            new_era: options.new_era,
        };
        let mut owned = Vec::with_capacity(lanes.all().len());
        for lane in lanes.all() {
            owned.push(Owned::take(engine.as_ref(), lanes, lane, by).await?);
        }
        let positions = owned.iter().map(|owned| owned.positions().clone()).collect();
        let positions = LanePositions::new(lanes, by.owner, positions).ok_or(OpenError::Foreign)?;
        let writer = writer::start(Arc::clone(&engine), lanes, owned);
        Ok(Self {
            engine,
            writer,
            lanes,
            positions,
        })
    }

    /// The lanes of the deployment.
    #[must_use]
    pub const fn lanes(&self) -> Lanes {
        self.lanes
    }

    /// The lane of a room, a user or a server.
    #[must_use]
    pub fn lane_of<T: Placed + ?Sized>(&self, placed: &T) -> Lane {
        self.lanes.of(placed)
    }

    /// A handle for the reads of one request: each row is read once, and single reads that are made at the same time are
    /// one call. It does not see commits after the first read of a row.
    #[must_use]
    pub fn for_request(&self) -> Self {
        Self {
            engine: Arc::new(RequestEngine::new(Arc::clone(&self.engine))),
            ..self.clone()
        }
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
        let key = self.stored_key(table, key)?;
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
        let key = self.stored_key(table, key)?;
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
        let keys = keys.into_iter().map(|key| self.stored_key(table, &key));
        let keys = keys.collect::<Result<Vec<Bytes>, ReadError>>()?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.engine.get_many(&keys).await?;
        values
            .into_iter()
            .map(|value| value.map(|bytes| decode_value(table, bytes)).transpose())
            .collect()
    }

    /// Reads the first rows of a range in the order of their keys. They are as of one point in time, unless the query is
    /// over the lists of several lanes.
    ///
    /// # Errors
    /// The engine can't read, a row is damaged, or the query has no scope and its table needs one.
    pub async fn scan<K: Key, V: Value>(&self, query: LimitedQuery<K, V>) -> Result<Vec<(K, V)>, ReadError> {
        let table = query.table();
        let (limit, reverse) = (query.max_rows(), query.is_reversed());
        let ranges = self.ranges(table, query.into_parts()?)?;
        let several = ranges.len() > 1;
        let mut rows = Vec::new();
        for range in ranges {
            let found = self.engine.scan(range).await?;
            rows.extend(found.into_iter().map(|row| logical(self.lanes, table, row)));
        }
        if several {
            rows.sort_unstable_by(|(a, _), (b, _)| if reverse { b.cmp(a) } else { a.cmp(b) });
            rows.truncate(limit);
        }
        rows.into_iter().map(|row| decode_row(table, row)).collect()
    }

    /// The rows of a range of any length, page by page; see [`RowStream`] for what that means for concurrent writes. Lists
    /// of several lanes are read one after the other.
    ///
    /// # Errors
    /// The query has no scope and its table needs one.
    pub fn stream<K: Key, V: Value>(&self, query: Query<K, V>) -> Result<RowStream<K, V>, ReadError> {
        let table = query.table();
        let ranges = self.ranges(table, query.into_parts()?)?;
        Ok(RowStream::new(Arc::clone(&self.engine), self.lanes, table, ranges))
    }

    /// All rows of [`Store::stream`] in memory. Only for ranges whose length has a limit elsewhere.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub async fn scan_all<K: Key, V: Value>(&self, query: Query<K, V>) -> Result<Vec<(K, V)>, ReadError> {
        self.stream(query)?.collect().await
    }

    /// The ranges of a query: one, or one in each lane if it is over the lists of all lanes.
    fn ranges<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        (prefix, range, lane): (Bytes, KeyRange, Option<Lane>),
    ) -> Result<Vec<KeyRange>, ReadError> {
        let place = |lane| self.lanes.physical_range(&prefix, range.clone(), lane);
        if let Some(range) = place(lane) {
            return Ok(vec![range]);
        }
        let all: Option<Vec<KeyRange>> = self.lanes.all().map(|lane| place(Some(lane))).collect();
        all.filter(|_| table.layout().scope.is_list())
            .ok_or(ReadError::NoScope { table: table.name() })
    }

    fn stored_key<K: Key, V: Value>(&self, table: &Table<K, V>, key: &impl AsKey<K>) -> Result<Bytes, ReadError> {
        let key = self.lanes.physical(&table.physical(key));
        key.ok_or(ReadError::NoScope { table: table.name() })
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
        let parts = batch.into_parts()?;
        let lane = self.lane_of_batch(&parts)?;
        for write in parts.ahead {
            self.submit(lane, write, Vec::new(), Vec::new()).await?;
        }
        self.submit(lane, parts.write, parts.fenced, parts.held).await
    }

    async fn submit(
        &self,
        lane: Lane,
        write: WriteBatch,
        fenced: Vec<&'static str>,
        held: Vec<Reserved>,
    ) -> Result<(), CommitError> {
        let write = self
            .lanes
            .physical_batch(write)
            .ok_or_else(|| invalid("a row or a range is in no lane"))?;
        let (answer, result) = oneshot::channel();
        let submitted = Submitted {
            lane,
            write,
            fenced,
            held,
        };
        let request = Request::Commit(submitted, answer);
        self.writer.send(request).await.map_err(|_| CommitError::Closed)?;
        result.await.unwrap_or(Err(CommitError::Closed))
    }

    /// The lane whose fence decides about a batch.
    fn lane_of_batch(&self, parts: &Parts) -> Result<Lane, CommitError> {
        let of_positions = parts.held.first().map(Reserved::lane);
        let stated = parts.home.as_ref().and_then(|key| self.lanes.place(key));
        let lane = match (&parts.stated, of_positions) {
            (false, Some(lane)) => lane,
            _ => match stated {
                Some(Place::Lane(lane)) => lane,
                Some(Place::Deployment) | None => Lane::FIRST,
            },
        };
        if parts.held.iter().all(|reserved| reserved.lane() == lane) {
            Ok(lane)
        } else {
            Err(invalid("positions of another lane"))
        }
    }

    /// The positions of all lanes.
    #[must_use]
    pub const fn positions(&self) -> &LanePositions {
        &self.positions
    }

    /// The positions of the lane of a room, a user or a server.
    #[must_use]
    pub fn positions_of<T: Placed + ?Sized>(&self, placed: &T) -> &Positions {
        self.positions.of(placed)
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

fn invalid(reason: &str) -> CommitError {
    CommitError::Invalid {
        reason: reason.to_owned(),
    }
}

/// A row as its table describes it, from the row as the engine stores it.
pub(crate) fn logical<K: Key, V: Value>(
    lanes: Lanes,
    table: &Table<K, V>,
    (key, value): (Bytes, Bytes),
) -> (Bytes, Bytes) {
    (lanes.logical(table.layout(), key), value)
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
