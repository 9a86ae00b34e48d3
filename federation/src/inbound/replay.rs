//! The same transaction twice: done once, answered twice.
//!
//! A server has one transaction in flight, so this also lets one of each server in at a time. What is remembered is
//! lost at a restart, and that does no harm: taking an event twice is nothing, it is only work.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;
use weft_wire::limits;

use super::{Results, Transaction};

/// The transactions of all servers that were answered lately.
#[derive(Default)]
pub struct Transactions {
    servers: Mutex<HashMap<OwnedServerName, Arc<tokio::sync::Mutex<Answered>>>>,
}

#[derive(Default)]
pub(super) struct Answered {
    recent: VecDeque<(Fingerprint, Results)>,
}

type Fingerprint = [u8; 32];

/// One server's turn: others of its transactions wait until this is dropped.
pub(super) struct TransactionGuard {
    fingerprint: Fingerprint,
    answered: OwnedMutexGuard<Answered>,
}

impl Transactions {
    /// Nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) async fn turn(&self, origin: &ServerName, id: &str, transaction: &Transaction) -> TransactionGuard {
        let server = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
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

/// The id and the content: a server that lost its counter may use an id again for something else.
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
