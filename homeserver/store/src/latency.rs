//! An engine that is as far away as a database across a network: it delays each call and counts them. For tests that
//! assert how many round trips an operation needs.
//!
//! Must not be used with a real clock: in tokio's paused time, the delays take no time and the counts are exact.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::catalogue;
use crate::engine::{CommitGroup, Engine, EngineCommitError, KeyRange, Op};
use crate::errors::ReadError;

/// The delay of a call unless a test chooses another: a round trip between two machines of one site, with the work of
/// the database.
pub const DELAY: Duration = Duration::from_millis(2);

/// Delays and counts the calls of another engine.
#[derive(Debug)]
pub struct LatencyEngine<E> {
    engine: E,
    meter: Meter,
}

/// Counts of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls one after the other: calls that overlap count as one.
    pub round_trips: u32,
    /// Calls of [`Engine::get`].
    pub gets: u32,
    /// Calls of [`Engine::get_many`].
    pub multi_gets: u32,
    /// Calls of [`Engine::scan`].
    pub scans: u32,
    /// Calls of [`Engine::commit`].
    pub commits: u32,
    /// Keys that were read by `get` and `get_many`, and rows that scans returned.
    pub rows: usize,
}

impl Counts {
    /// All calls.
    #[must_use]
    pub const fn calls(&self) -> u32 {
        self.gets + self.multi_gets + self.scans + self.commits
    }
}

/// Reads and resets the counts of a [`LatencyEngine`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    shared: Arc<Mutex<State>>,
    tables: Arc<BTreeMap<u16, &'static str>>,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: calls are neither delayed nor counted.
    since: Option<Instant>,
    /// Increases with each start and stop: calls of an earlier count are not in flight in the next one.
    number: u64,
    in_flight: usize,
    /// When the first of the calls in flight began.
    busy_from: Option<Instant>,
    /// The time in which at least one call was in flight.
    busy: Duration,
    counts: Counts,
    trace: Vec<String>,
}

impl State {
    fn begin(&mut self, count: impl FnOnce(&mut Counts), what: impl FnOnce() -> String) -> Option<u64> {
        let since = self.since?;
        let now = Instant::now();
        if self.in_flight == 0 {
            self.busy_from = Some(now);
        }
        self.in_flight += 1;
        count(&mut self.counts);
        self.trace.push(format!("{:?} {}", now - since, what()));
        Some(self.number)
    }

    fn end(&mut self, number: u64) {
        if number != self.number {
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0
            && let Some(from) = self.busy_from.take()
        {
            self.busy += from.elapsed();
        }
    }
}

/// Ends the count of a call, also of one that was cancelled.
struct Call<'a>(&'a Meter, u64);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.lock().end(self.1);
    }
}

impl Meter {
    fn new() -> Self {
        let tables = catalogue::all().into_iter().map(|table| (table.tag, table.name));
        Self {
            shared: Arc::default(),
            tables: Arc::new(tables.collect()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Delays and counts calls from now on.
    pub fn start(&self) {
        let mut state = self.lock();
        *state = State {
            since: Some(Instant::now()),
            number: state.number.wrapping_add(1),
            ..State::default()
        };
    }

    /// The counts since [`Meter::start`], and the calls in their order with the time at which each began. Calls are no
    /// longer delayed.
    #[must_use]
    pub fn stop(&self) -> (Counts, Vec<String>) {
        let mut state = self.lock();
        let next = State {
            number: state.number.wrapping_add(1),
            ..State::default()
        };
        let ended = std::mem::replace(&mut *state, next);
        let busy = ended.busy + ended.busy_from.map_or(Duration::ZERO, |from| from.elapsed());
        // The clock advances in whole milliseconds, so the first delay may be up to one longer.
        let trips = busy.as_nanos() / DELAY.as_nanos();
        let counts = Counts {
            round_trips: u32::try_from(trips).unwrap_or(u32::MAX),
            ..ended.counts
        };
        (counts, ended.trace)
    }

    async fn delay(&self, count: impl FnOnce(&mut Counts), what: impl FnOnce(&Self) -> String) -> Option<Call<'_>> {
        let number = self.lock().begin(count, || what(self))?;
        let call = Call(self, number);
        tokio::time::sleep(DELAY).await;
        Some(call)
    }

    fn add_rows(&self, rows: usize) {
        let mut state = self.lock();
        if state.since.is_some() {
            state.counts.rows += rows;
        }
    }

    /// The name of the table of a key.
    fn table(&self, key: &[u8]) -> &'static str {
        let tag = match key.split_first() {
            Some((b'g', rest)) => rest.first_chunk::<2>(),
            // The scope id is a string, which ends with 00 01. A zero byte within it is 00 FF.
            Some((_, rest)) => {
                let end = rest.windows(2).position(|bytes| bytes == [0, 1]);
                end.and_then(|end| rest.get(end + 2..)?.first_chunk::<2>())
            }
            None => None,
        };
        tag.and_then(|tag| self.tables.get(&u16::from_be_bytes(*tag)))
            .copied()
            .unwrap_or("?")
    }

    fn tables_of<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> String {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for key in keys {
            *counted.entry(self.table(key)).or_default() += 1;
        }
        let names = counted.into_iter().map(|(name, count)| format!("{name}*{count}"));
        names.collect::<Vec<_>>().join(" ")
    }
}

impl<E: Engine> LatencyEngine<E> {
    /// Wraps an engine, and returns the meter of its calls. Calls are not delayed before [`Meter::start`].
    #[must_use]
    pub fn new(engine: E) -> (Self, Meter) {
        let meter = Meter::new();
        let wrapped = Self {
            engine,
            meter: meter.clone(),
        };
        (wrapped, meter)
    }
}

fn written(op: &Op) -> &[u8] {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
        Op::DeleteRange { start, .. } => start,
    }
}

#[async_trait]
impl<E: Engine> Engine for LatencyEngine<E> {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let count = |counts: &mut Counts| {
            counts.gets += 1;
            counts.rows += 1;
        };
        let _call = self
            .meter
            .delay(count, |meter| format!("get {}", meter.table(key)))
            .await;
        self.engine.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let count = |counts: &mut Counts| {
            counts.multi_gets += 1;
            counts.rows += keys.len();
        };
        let what = |meter: &Meter| format!("get_many {}", meter.tables_of(keys.iter().map(|key| &**key)));
        let _call = self.meter.delay(count, what).await;
        self.engine.get_many(keys).await
    }

    async fn scan(&self, range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        let what = |meter: &Meter| format!("scan {} limit {}", meter.table(&range.start), range.limit);
        let _call = self.meter.delay(|counts| counts.scans += 1, what).await;
        let rows = self.engine.scan(range).await?;
        self.meter.add_rows(rows.len());
        Ok(rows)
    }

    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>> {
        let what = |meter: &Meter| {
            let ops = group.batches.iter().flat_map(|batch| &batch.write.ops);
            format!("commit {}", meter.tables_of(ops.map(written)))
        };
        let _call = self.meter.delay(|counts| counts.commits += 1, what).await;
        self.engine.commit_group(group).await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::WriteBatch;
    use crate::memory::MemoryEngine;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn overlapping_calls_are_one_round_trip() {
        let (engine, meter) = LatencyEngine::new(MemoryEngine::new());
        engine.get(b"a").await.unwrap();
        meter.start();
        let keys = [key("a"), key("b")];
        let (one, many, rows) = tokio::join!(
            engine.get(b"a"),
            engine.get_many(&keys),
            engine.scan(KeyRange::prefix(Bytes::new(), 10)),
        );
        assert_eq!((one.unwrap(), many.unwrap().len(), rows.unwrap().len()), (None, 2, 0));
        assert_eq!(engine.commit(vec![WriteBatch::default()]).await, [Ok(())]);
        let (counts, trace) = meter.stop();
        let expected = Counts {
            round_trips: 2,
            gets: 1,
            multi_gets: 1,
            scans: 1,
            commits: 1,
            rows: 3,
        };
        assert_eq!(counts, expected, "{trace:?}");
        assert_eq!((counts.calls(), trace.len()), (4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_begin_later_than_others_lengthen_the_chain() {
        let (engine, meter) = LatencyEngine::new(MemoryEngine::new());
        meter.start();
        let chain = async {
            for _ in 0..3 {
                engine.get(b"a").await.unwrap();
            }
        };
        // A second chain of calls, which starts half a delay after the first one.
        let later = async {
            tokio::time::sleep(DELAY / 2).await;
            engine.get(b"b").await.unwrap();
            engine.get(b"b").await.unwrap();
        };
        tokio::join!(chain, later);
        assert_eq!(meter.stop().0.round_trips, 3);
        engine.get(b"a").await.unwrap();
        assert_eq!(meter.stop().0, Counts::default(), "the meter is stopped");
    }
}
