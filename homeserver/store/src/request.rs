//! The reads of one request: each row is read once, and single reads that are made at the same time become one call.
//!
//! A request that looks at many rooms or events runs the same code for each of them concurrently; without this, an
//! engine across a network would get a call for each row. An embedded engine is called at once. Must not outlive a request, because it does not see later
//! commits, and must not be used by code that reads a row again to see whether it has changed.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
// A request hashes some hundred keys of 60 bytes. The seed is random.
use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::engine::{CommitGroup, Engine, EngineCommitError, KeyRange};
use crate::errors::ReadError;

/// Bytes of rows that a request keeps. Beyond them, rows are read and not kept.
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;
/// Ranges with more rows are not kept: they are the pages of long ranges, which nothing reads twice.
const MAX_KEPT_ROWS: usize = 64;

type Rows = Vec<(Bytes, Bytes)>;

/// See the module.
pub(crate) struct RequestEngine {
    engine: Arc<dyn Engine>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: HashMap<Bytes, Option<Bytes>, RandomState>,
    ranges: HashMap<KeyRange, Rows, RandomState>,
    bytes: usize,
    /// The call that is about to be made.
    next: Option<Gathering>,
}

/// Keys that are read by the next call.
struct Gathering {
    keys: Vec<Bytes>,
    /// Dropped when the call has ended, or its caller was cancelled. They wake in their order, so that a simulation with
    /// the same seed is the same run.
    followers: Vec<oneshot::Sender<()>>,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes >= MAX_KEPT_BYTES
    }

    fn keep(&mut self, keys: Vec<Bytes>, values: Vec<Option<Bytes>>) {
        for (key, value) in keys.into_iter().zip(values) {
            self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            self.rows.insert(key, value);
        }
    }

    fn lacking(&self, keys: &[Bytes]) -> Vec<Bytes> {
        let lacking = keys.iter().filter(|key| !self.rows.contains_key(*key));
        lacking.cloned().collect()
    }

    /// The kept values; `None` if one is not kept.
    fn kept(&self, keys: &[Bytes]) -> Option<Vec<Option<Bytes>>> {
        keys.iter().map(|key| self.rows.get(key).cloned()).collect()
    }
}

/// What a caller does about keys that are not kept.
enum Turn<'a> {
    /// Makes the call for all callers who joined meanwhile.
    Lead(Lead<'a>),
    /// Waits for the call of another.
    Follow(oneshot::Receiver<()>),
}

/// The right to make the next call. If it is dropped before the call, another caller makes one.
struct Lead<'a> {
    request: &'a RequestEngine,
    is_called: bool,
}

impl Lead<'_> {
    async fn call(mut self) -> Result<(), ReadError> {
        // The other futures of the request add their keys.
        tokio::task::yield_now().await;
        let request = self.request;
        self.is_called = true;
        let Some(Gathering { mut keys, followers }) = request.lock().next.take() else {
            return Ok(());
        };
        keys.sort_unstable();
        keys.dedup();
        let values = request.engine.get_many(&keys).await?;
        request.lock().keep(keys, values);
        drop(followers);
        Ok(())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_called {
            let abandoned = self.request.lock().next.take();
            drop(abandoned);
        }
    }
}

impl RequestEngine {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Reads a row that is not kept without waiting for other reads.
    async fn get_at_once(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if let Some(value) = self.lock().rows.get(key) {
            return Ok(value.clone());
        }
        let value = self.engine.get(key).await?;
        let mut state = self.lock();
        if !state.is_full() {
            state.keep(vec![Bytes::copy_from_slice(key)], vec![value.clone()]);
        }
        Ok(value)
    }

    /// Adds keys to the next call.
    fn join(&self, keys: Vec<Bytes>) -> Turn<'_> {
        let mut state = self.lock();
        if let Some(next) = &mut state.next {
            next.keys.extend(keys);
            let (follower, ended) = oneshot::channel();
            next.followers.push(follower);
            return Turn::Follow(ended);
        }
        state.next = Some(Gathering {
            keys,
            followers: Vec::new(),
        });
        Turn::Lead(Lead {
            request: self,
            is_called: false,
        })
    }
}

#[async_trait]
impl Engine for RequestEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if self.engine.is_embedded() {
            return self.get_at_once(key).await;
        }
        let values = self.get_many(&[Bytes::copy_from_slice(key)]).await?;
        Ok(values.into_iter().next().flatten())
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        loop {
            let lacking = {
                let state = self.lock();
                if let Some(values) = state.kept(keys) {
                    return Ok(values);
                }
                (!state.is_full()).then(|| state.lacking(keys))
            };
            let Some(lacking) = lacking else {
                return self.engine.get_many(keys).await;
            };
            if self.engine.is_embedded() {
                let values = self.engine.get_many(&lacking).await?;
                self.lock().keep(lacking, values);
                continue;
            }
            match self.join(lacking) {
                Turn::Lead(lead) => lead.call().await?,
                Turn::Follow(ended) => {
                    // Nothing is ever sent: this returns when the sender is dropped.
                    let _ = ended.await;
                }
            }
        }
    }

    async fn scan(&self, range: KeyRange) -> Result<Rows, ReadError> {
        if let Some(rows) = self.lock().ranges.get(&range) {
            return Ok(rows.clone());
        }
        let rows = self.engine.scan(range.clone()).await?;
        let mut state = self.lock();
        if rows.len() <= MAX_KEPT_ROWS && !state.is_full() {
            let bytes = rows.iter().map(|(key, value)| key.len() + value.len());
            state.bytes += range.start.len() + bytes.sum::<usize>();
            state.ranges.insert(range, rows.clone());
        }
        Ok(rows)
    }

    async fn commit_group(&self, group: CommitGroup) -> Vec<Result<(), EngineCommitError>> {
        self.engine.commit_group(group).await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Op, WriteBatch},
        latency::{LatencyEngine, Meter},
        memory::MemoryEngine,
    };

    fn key(number: u32) -> Bytes {
        Bytes::from(format!("{number:04}"))
    }

    /// An engine with the rows 0 to 99, where each value is its key.
    async fn request() -> (RequestEngine, Meter) {
        let (engine, meter) = LatencyEngine::new(MemoryEngine::new());
        let ops = (0..100).map(|number| Op::Put {
            key: key(number),
            value: key(number),
        });
        let batch = WriteBatch {
            ops: ops.collect(),
            fences: Vec::new(),
        };
        assert_eq!(engine.commit(vec![batch]).await, [Ok(())]);
        meter.start();
        (RequestEngine::new(Arc::new(engine)), meter)
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_reads_are_one_call_and_rows_are_read_once() {
        let (request, meter) = request().await;
        let one = async { request.get(&key(1)).await.unwrap() };
        let two = async { request.get_many(&[key(2), key(200)]).await.unwrap() };
        let again = async { request.get(&key(1)).await.unwrap() };
        let (one, two, again) = tokio::join!(one, two, again);
        assert_eq!((one, again), (Some(key(1)), Some(key(1))));
        assert_eq!(two, [Some(key(2)), None]);
        assert_eq!(request.get(&key(200)).await.unwrap(), None, "absent rows are kept too");
        let (counts, trace) = meter.stop();
        assert_eq!(
            (counts.calls(), counts.round_trips, counts.rows),
            (1, 1, 3),
            "{trace:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn short_ranges_are_read_once() {
        let (request, meter) = request().await;
        for (limit, calls) in [(64, 1), (100, 2)] {
            for _ in 0..2 {
                let rows = request.scan(KeyRange::prefix(Bytes::new(), limit)).await.unwrap();
                assert_eq!(rows.len(), limit);
            }
            assert_eq!(meter.stop().0.scans, calls);
            meter.start();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_caller_does_not_hold_up_the_others() {
        let (request, _meter) = request().await;
        let mut first = Box::pin(request.get(b"0001"));
        let mut second = Box::pin(request.get(b"0002"));
        // Both joined the same call, which the first one makes.
        assert!(futures_poll(&mut first).await.is_none());
        assert!(futures_poll(&mut second).await.is_none());
        drop(first);
        assert_eq!(second.await.unwrap(), Some(key(2)));
        assert_eq!(request.get(b"0001").await.unwrap(), Some(key(1)));
    }

    /// Polls once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut future = std::pin::Pin::new(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
