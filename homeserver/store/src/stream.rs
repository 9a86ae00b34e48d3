//! A range of rows of any length, read page by page. Must not hold more than one page.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Engine, KeyRange};
use crate::errors::ReadError;
use crate::key::Key;
use crate::lane::Lanes;
use crate::store::{decode_row, logical};
use crate::table::Table;
use crate::value::Value;

/// Rows of one page: bounds the memory of a reader and of an engine.
pub(crate) const PAGE: usize = 1000;

/// The rows of a [`crate::Query`], in their order; made by [`crate::Store::stream`].
///
/// Each page is of one point in time, the whole is not: a row that is written behind the place of the reader is not
/// returned, one written before it is. A caller that needs one point in time reads immutable rows, is the only writer,
/// or reads a row before and after that changes with the others.
pub struct RowStream<K: 'static, V: 'static> {
    engine: Arc<dyn Engine>,
    table: &'static Table<K, V>,
    lanes: Lanes,
    /// What is left of the range that is being read; `None` at its end.
    range: Option<KeyRange>,
    /// The ranges after it, those of later lanes.
    later: VecDeque<KeyRange>,
}

impl<K, V> std::fmt::Debug for RowStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStream")
            .field("table", &self.table)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl<K: Key, V: Value> RowStream<K, V> {
    /// The rows of these ranges, one after the other.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        lanes: Lanes,
        table: &'static Table<K, V>,
        ranges: Vec<KeyRange>,
    ) -> Self {
        let pages = ranges.into_iter().map(|range| KeyRange { limit: PAGE, ..range });
        Self {
            engine,
            table,
            lanes,
            range: None,
            later: pages.collect(),
        }
    }

    /// The next rows; `None` at the end. A page is never empty.
    ///
    /// # Errors
    /// The engine can't read, or a row is damaged.
    pub async fn page(&mut self) -> Result<Option<Vec<(K, V)>>, ReadError> {
        let rows = loop {
            let next = || self.later.pop_front();
            let Some(range) = self.range.take().or_else(next) else {
                return Ok(None);
            };
            let rows = self.engine.scan(range.clone()).await?;
            if let Some((last, _)) = rows.last().filter(|_| rows.len() >= PAGE) {
                self.range = Some(continue_after(range, last));
            }
            if !rows.is_empty() {
                break rows;
            }
        };
        rows.into_iter()
            .map(|row| decode_row(self.table, logical(self.lanes, self.table, row)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Whether all rows were returned.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.range.is_none() && self.later.is_empty()
    }

    /// All rows that are left. Only for ranges whose length has a limit elsewhere.
    ///
    /// # Errors
    /// The engine can't read, or a row is damaged.
    pub async fn collect(mut self) -> Result<Vec<(K, V)>, ReadError> {
        let mut all = Vec::new();
        while let Some(mut page) = self.page().await? {
            all.append(&mut page);
        }
        Ok(all)
    }
}

fn continue_after(mut range: KeyRange, last: &Bytes) -> KeyRange {
    if range.reverse {
        range.end = Some(last.clone());
    } else {
        // The smallest key after `last`.
        let mut next = last.to_vec();
        next.push(0);
        range.start = Bytes::from(next);
    }
    range
}
