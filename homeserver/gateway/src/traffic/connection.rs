//! One accepted connection: its place in the budgets, what it is doing, and the end that it comes to when it does nothing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use weft_accounts::Network;
use weft_budget::{KeyedShare, Share};
use weft_wire::limits::{CONNECTION_IDLE_MS, WRITE_STALL_MS};

const IDLE: Duration = Duration::from_millis(CONNECTION_IDLE_MS);
const STALL: Duration = Duration::from_millis(WRITE_STALL_MS);

/// See the module.
#[derive(Debug)]
pub struct Connection {
    network: Network,
    /// None for a connection that nobody counts.
    _share: Option<Share>,
    /// Held until somebody has authenticated; None for a proxy's.
    stranger: Mutex<Option<KeyedShare<Network>>>,
    /// Requests that aren't answered to their end, live sockets among them.
    requests: AtomicUsize,
    /// Answers that aren't written to their end.
    answers: AtomicUsize,
    /// When a request last ended.
    idle_since: Mutex<Instant>,
    /// When an answer last began, went on or ended.
    progress: Mutex<Instant>,
}

impl Connection {
    pub(super) fn new(network: Network, share: Share, stranger: Option<KeyedShare<Network>>) -> Arc<Self> {
        Arc::new(Self::make(network, Some(share), stranger))
    }

    /// A connection that is not in any budget.
    pub(super) fn uncounted(network: Network) -> Arc<Self> {
        Arc::new(Self::make(network, None, None))
    }

    fn make(network: Network, share: Option<Share>, stranger: Option<KeyedShare<Network>>) -> Self {
        let now = Instant::now();
        Self {
            network,
            _share: share,
            stranger: Mutex::new(stranger),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            idle_since: Mutex::new(now),
            progress: Mutex::new(now),
        }
    }

    pub(super) fn network(&self) -> Network {
        self.network
    }

    /// Somebody has authenticated: it is no stranger's connection any more.
    pub(super) fn authenticated(&self) {
        drop(lock(&self.stranger).take());
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> Activity {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Activity {
            connection: Arc::clone(self),
            answer: false,
        }
    }

    pub(super) fn begin_answer(self: &Arc<Self>) -> Activity {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.progressed();
        Activity {
            connection: Arc::clone(self),
            answer: true,
        }
    }

    /// Some of an answer was taken.
    pub(super) fn progressed(&self) {
        *lock(&self.progress) = Instant::now();
    }

    /// When to look again; None where its time is up: no request is under way and none has come for long, or answers
    /// wait and nothing of them was taken for long.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        if self.answers.load(Ordering::Relaxed) > 0 {
            return Some(*lock(&self.progress) + STALL).filter(|end| *end > now);
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Some(now + IDLE);
        }
        Some(*lock(&self.idle_since) + IDLE).filter(|end| *end > now)
    }
}

/// A request that is under way, or an answer that is being written.
#[derive(Debug)]
pub(super) struct Activity {
    connection: Arc<Connection>,
    answer: bool,
}

impl Drop for Activity {
    fn drop(&mut self) {
        let connection = &self.connection;
        if self.answer {
            connection.progressed();
            connection.answers.fetch_sub(1, Ordering::Relaxed);
        } else {
            *lock(&connection.idle_since) = Instant::now();
            connection.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values are replaced whole, so a panic elsewhere doesn't spoil them.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
