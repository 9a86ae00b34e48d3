//! Limits of the deliveries in progress: to one host, by one user's webhooks, and in total. A delivery waits for its turn in the
//! order of arrival; one that waits for a slow host has no turn of the total. Must not count failures.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_wire::limits::{MAX_WEBHOOK_DELIVERIES, MAX_WEBHOOK_DELIVERIES_PER_HOST, MAX_WEBHOOK_DELIVERIES_PER_USER};

/// See the module.
pub(crate) struct Turns {
    total: Arc<Semaphore>,
    hosts: Keyed,
    users: Keyed,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 3],
    /// They exist while somebody uses them.
    _semaphores: [Arc<Semaphore>; 2],
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            total: Arc::new(Semaphore::new(MAX_WEBHOOK_DELIVERIES)),
            hosts: Keyed::new(MAX_WEBHOOK_DELIVERIES_PER_HOST),
            users: Keyed::new(MAX_WEBHOOK_DELIVERIES_PER_USER),
        }
    }

    pub(crate) async fn take(&self, host: &str, user: &str) -> Turn {
        let semaphores = [self.users.of(user), self.hosts.of(host)];
        let [of_user, of_host] = semaphores.clone();
        // The narrowest last: nobody waits for a host with a turn of the total.
        let permits = [
            of_user.acquire_owned().await.ok(),
            of_host.acquire_owned().await.ok(),
            Arc::clone(&self.total).acquire_owned().await.ok(),
        ];
        Turn {
            _permits: permits,
            _semaphores: semaphores,
        }
    }
}

/// A semaphore for each key that is in use.
struct Keyed {
    at_once: usize,
    semaphores: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Keyed {
    fn new(at_once: usize) -> Self {
        Self {
            at_once,
            semaphores: Mutex::default(),
        }
    }

    fn of(&self, key: &str) -> Arc<Semaphore> {
        let mut semaphores = self.semaphores.lock();
        if let Some(semaphore) = semaphores.get(key).and_then(Weak::upgrade) {
            return semaphore;
        }
        semaphores.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.at_once));
        semaphores.insert(key.to_owned(), Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// The result of a future that need not wait, however much its task has done before.
    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::task::unconstrained(future).now_or_never()
    }

    #[tokio::test]
    async fn a_slow_host_or_user_delays_no_other() {
        let turns = Turns::new();
        let mut slow = Vec::new();
        for number in 0..MAX_WEBHOOK_DELIVERIES_PER_HOST {
            slow.push(turns.take("slow.example", &format!("@{number}:x")).await);
        }
        assert!(turns.take("slow.example", "@other:x").now_or_never().is_none());
        let mut of_user = Vec::new();
        for number in 0..MAX_WEBHOOK_DELIVERIES_PER_USER {
            of_user.push(turns.take(&format!("{number}.example"), "@busy:x").await);
        }
        assert!(turns.take("free.example", "@busy:x").now_or_never().is_none());
        assert!(turns.take("free.example", "@other:x").now_or_never().is_some());
        drop(slow.pop());
        assert!(turns.take("slow.example", "@other:x").now_or_never().is_some());
    }

    #[tokio::test]
    async fn all_turns_together_are_limited_and_given_back() {
        let turns = Turns::new();
        let mut all = Vec::new();
        for number in 0..MAX_WEBHOOK_DELIVERIES {
            all.push(turns.take(&number.to_string(), &number.to_string()).await);
        }
        assert!(at_once(turns.take("one.more", "@more:x")).is_none());
        all.clear();
        assert!(at_once(turns.take("one.more", "@more:x")).is_some());
        assert!(turns.hosts.semaphores.lock().len() <= 1 + MAX_WEBHOOK_DELIVERIES);
    }
}
