//! Which rows of a table to read: prefix, bounds, direction, limit. Must not read them.

use bytes::Bytes;

use crate::engine::{KeyRange, prefix_end};
use crate::errors::ReadError;
use crate::key::{AsPrefix, Key};
use crate::table::Table;
use crate::value::Value;

/// A range of a table's rows; made by [`Table::under`]. Bounds may be complete keys or their first parts. It is read as a
/// stream, or with a limit at once ([`Query::limit`]).
pub struct Query<K: 'static, V: 'static> {
    table: &'static Table<K, V>,
    /// Without a limit.
    range: Option<KeyRange>,
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

    pub(crate) fn into_range(self) -> Result<KeyRange, ReadError> {
        let range = self.query.into_range()?;
        Ok(KeyRange {
            limit: self.limit,
            ..range
        })
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
        }
    }
}

impl<K: Key, V: Value> Query<K, V> {
    pub(crate) fn new(table: &'static Table<K, V>, prefix: &impl AsPrefix<K>) -> Self {
        Self {
            table,
            range: table
                .physical_prefix(prefix)
                .map(|prefix| KeyRange::prefix(prefix, usize::MAX)),
        }
    }

    fn raise_start(mut self, bound: Option<Bytes>) -> Self {
        if let (Some(range), Some(bound)) = (&mut self.range, bound)
            && bound > range.start
        {
            range.start = bound;
        }
        self
    }

    fn lower_end(mut self, bound: Option<Bytes>) -> Self {
        if let (Some(range), Some(bound)) = (&mut self.range, bound)
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
        if let Some(range) = &mut self.range {
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

    /// The range, without a limit.
    pub(crate) fn into_range(self) -> Result<KeyRange, ReadError> {
        self.range.ok_or(ReadError::NoScope {
            table: self.table.name(),
        })
    }
}
