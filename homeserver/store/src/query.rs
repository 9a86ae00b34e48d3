//! Which rows of a table to read: prefix, bounds, direction, limit. Must not read them.

use bytes::Bytes;

use crate::engine::{KeyRange, prefix_end};
use crate::errors::ReadError;
use crate::key::{AsPrefix, Key};
use crate::lane::Lane;
use crate::table::Table;
use crate::value::Value;

/// A range of a table's rows; made by [`Table::under`]. Bounds may be complete keys or their first parts. It is read as a
/// stream, or with a limit at once ([`Query::limit`]).
pub struct Query<K: 'static, V: 'static> {
    table: &'static Table<K, V>,
    /// The parts with which all keys begin, which place the range; and the range, without a limit.
    range: Option<(Bytes, KeyRange)>,
    lane: Option<Lane>,
}

/// The first rows of a [`Query`].
pub struct LimitedQuery<K: 'static, V: 'static> {
    query: Query<K, V>,
    limit: usize,
}

impl<K, V> std::fmt::Debug for LimitedQuery<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimitedQuery")
            .field("query", &self.query)
            .field("limit", &self.limit)
            .finish()
    }
}

impl<K: Key, V: Value> LimitedQuery<K, V> {
    pub(crate) fn table(&self) -> &'static Table<K, V> {
        self.query.table
    }

    pub(crate) const fn max_rows(&self) -> usize {
        self.limit
    }

    pub(crate) fn is_reversed(&self) -> bool {
        self.query.is_reversed()
    }

    /// As those of the query, with the limit.
    pub(crate) fn into_parts(self) -> Result<(Bytes, KeyRange, Option<Lane>), ReadError> {
        let (prefix, range, lane) = self.query.into_parts()?;
        let limit = self.limit;
        Ok((prefix, KeyRange { limit, ..range }, lane))
    }
}

impl<K, V> std::fmt::Debug for Query<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query")
            .field("table", &self.table)
            .field("range", &self.range)
            .finish()
    }
}

impl<K, V> Clone for Query<K, V> {
    fn clone(&self) -> Self {
        Self {
            table: self.table,
            range: self.range.clone(),
            lane: self.lane,
        }
    }
}

impl<K: Key, V: Value> Query<K, V> {
    pub(crate) fn new(table: &'static Table<K, V>, prefix: &impl AsPrefix<K>) -> Self {
        let prefix = table.physical_prefix(prefix);
        Self {
            table,
            range: prefix.map(|prefix| (prefix.clone(), KeyRange::prefix(prefix, usize::MAX))),
            lane: None,
        }
    }

    /// Only the list of one lane. Without effect on a query that names a scope.
    #[must_use]
    pub const fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = Some(lane);
        self
    }

    fn raise_start(mut self, bound: Option<Bytes>) -> Self {
        if let (Some((_, range)), Some(bound)) = (&mut self.range, bound)
            && bound > range.start
        {
            range.start = bound;
        }
        self
    }

    fn lower_end(mut self, bound: Option<Bytes>) -> Self {
        if let (Some((_, range)), Some(bound)) = (&mut self.range, bound)
            && range.end.as_ref().is_none_or(|end| bound < *end)
        {
            range.end = Some(bound);
        }
        self
    }

    /// Only rows at this key or later.
    #[must_use]
    pub fn from(self, key: &impl AsPrefix<K>) -> Self {
        let bound = self.table.physical_prefix(key);
        self.raise_start(bound)
    }

    /// Only rows after this key (and after all keys that begin with these parts).
    #[must_use]
    pub fn after(self, key: &impl AsPrefix<K>) -> Self {
        let bound = self.table.physical_prefix(key).and_then(|key| prefix_end(&key));
        self.raise_start(bound)
    }

    /// Only rows before this key.
    #[must_use]
    pub fn before(self, key: &impl AsPrefix<K>) -> Self {
        let bound = self.table.physical_prefix(key);
        self.lower_end(bound)
    }

    /// Only rows up to and including this key (and all keys that begin with these parts).
    #[must_use]
    pub fn through(self, key: &impl AsPrefix<K>) -> Self {
        let bound = self.table.physical_prefix(key).and_then(|key| prefix_end(&key));
        self.lower_end(bound)
    }

    /// Starts with the last row.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        if let Some((_, range)) = &mut self.range {
            range.reverse = true;
        }
        self
    }

    /// At most this many rows, to be read at once.
    #[must_use]
    pub fn limit(self, limit: usize) -> LimitedQuery<K, V> {
        LimitedQuery { query: self, limit }
    }

    pub(crate) fn table(&self) -> &'static Table<K, V> {
        self.table
    }

    pub(crate) fn is_reversed(&self) -> bool {
        self.range.as_ref().is_some_and(|(_, range)| range.reverse)
    }

    /// The prefix, the range without a limit, and the lane that was chosen.
    pub(crate) fn into_parts(self) -> Result<(Bytes, KeyRange, Option<Lane>), ReadError> {
        let (prefix, range) = self.range.ok_or(ReadError::NoScope {
            table: self.table.name(),
        })?;
        Ok((prefix, range, self.lane))
    }
}
