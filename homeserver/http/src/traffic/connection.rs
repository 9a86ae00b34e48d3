//! One accepted connection: its share of the budgets, its activity, and its end when it is idle or stalled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
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
    /// `None` for an uncounted connection.
    _share: Option<Share>,
    /// Held until the first authentication; `None` for a proxy's connection.
    stranger: Mutex<Option<KeyedShare<Network>>>,
    /// Requests in progress, including live sockets.
    requests: AtomicUsize,
    /// Answers that are not written completely.
    answers: AtomicUsize,
    /// When the last request ended.
    idle_since: Mutex<Instant>,
    /// When an answer last started, progressed or ended.
    progress: Mutex<Instant>,
}

impl Connection {
    pub(super) fn new(network: Network, share: Share, stranger: Option<KeyedShare<Network>>) -> Arc<Self> {
        Arc::new(Self::make(network, Some(share), stranger))
    }

    /// A connection that is in no budget.
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

    /// A caller has authenticated: the connection is no longer anonymous.
    pub(super) fn authenticated(&self) {
        drop(self.stranger.lock().take());
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

    /// A part of an answer was written.
    pub(super) fn progressed(&self) {
        *self.progress.lock() = Instant::now();
    }

    /// When to check again; `None` if the connection is to be closed: no request has been in progress for long, or answers
    /// wait and nothing of them was written for long.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        if self.answers.load(Ordering::Relaxed) > 0 {
            return Some(*self.progress.lock() + STALL).filter(|end| *end > now);
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Some(now + IDLE);
        }
        Some(*self.idle_since.lock() + IDLE).filter(|end| *end > now)
    }
}

/// A request in progress, or an answer that is being written.
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
            *connection.idle_since.lock() = Instant::now();
            connection.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
