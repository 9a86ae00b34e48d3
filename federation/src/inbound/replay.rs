//! Idempotency of transactions: a repeated transaction gets the same response without being processed again.
//!
//! Also serialises the transactions of each server: a server has one in flight at a time. The responses are in memory
//! and lost at a restart, which is harmless: processing an event twice has no effect, it only costs time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedServerName, ServerName};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;
use weft_wire::limits;

use super::{Results, Transaction};

/// The most recently answered transactions of all servers.
#[derive(Default)]
pub struct Transactions {
    servers: Mutex<HashMap<OwnedServerName, Arc<tokio::sync::Mutex<Answered>>>>,
}

#[derive(Default)]
pub(super) struct Answered {
    recent: VecDeque<(Fingerprint, Results)>,
}

type Fingerprint = [u8; 32];

/// The lock of one server: its other transactions wait until this is dropped.
pub(super) struct TransactionGuard {
    fingerprint: Fingerprint,
    answered: OwnedMutexGuard<Answered>,
}

impl Transactions {
    /// A new instance that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) async fn lock(&self, origin: &ServerName, id: &str, transaction: &Transaction) -> TransactionGuard {
        let server = {
            let mut servers = self.servers.lock();
            if servers.len() >= limits::MAX_REMEMBERED_SERVERS && !servers.contains_key(origin) {
                servers.retain(|_, server| Arc::strong_count(server) > 1);
            }
            Arc::clone(servers.entry(origin.to_owned()).or_default())
        };
        TransactionGuard {
            fingerprint: fingerprint(id, transaction),
            answered: server.lock_owned().await,
        }
    }
}

impl TransactionGuard {
    pub(super) fn answered(&self) -> Option<Results> {
        let mut recent = self.answered.recent.iter();
        recent
            .find(|(known, _)| *known == self.fingerprint)
            .map(|(_, answer)| answer.clone())
    }

    pub(super) fn remember(&mut self, results: Results) {
        self.answered.recent.push_back((self.fingerprint, results));
        if self.answered.recent.len() > limits::MAX_REMEMBERED_TRANSACTIONS {
            self.answered.recent.pop_front();
        }
    }
}

/// The hash of the id and the content: a server that lost its counter may reuse an id for another transaction.
fn fingerprint(id: &str, transaction: &Transaction) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    };
    add(id);
    for raw in transaction.pdus.iter().chain(&transaction.edus) {
        add(raw.get());
    }
    hash.finalize().into()
}
