//! Locks by name, for the work on one file: storing and removing the same content must not overlap, and a file of another server
//! is requested once. Must not grow: a lock that nobody holds or awaits is removed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::timeout,
};
use weft_wire::limits::MEDIA_FETCH_SECONDS;

use crate::MediaError;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Locks(Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>);

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Locked {
    locks: Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the lock with this name.
    pub(crate) async fn lock(&self, name: &str) -> Locked {
        let lock = Arc::clone(self.0.lock().entry(name.to_owned()).or_default());
        // Removes the lock again also if the caller stops waiting.
        let mut locked = Locked {
            locks: Arc::clone(&self.0),
            name: name.to_owned(),
            guard: None,
        };
        locked.guard = Some(lock.lock_owned().await);
        locked
    }

    /// The same for a request, which does not wait without end for the media store.
    pub(crate) async fn lock_in_time(&self, name: &str) -> Result<Locked, MediaError> {
        let locked = timeout(Duration::from_secs(MEDIA_FETCH_SECONDS), self.lock(name)).await;
        locked.map_err(|_| MediaError::Overdue)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut locks = self.locks.lock();
        self.guard = None;
        // The map has one reference. Others belong to those who wait, each of whom removes it later.
        if locks.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_holds_the_lock_and_nothing_is_left_afterwards() {
        let locks = Locks::default();
        let first = locks.lock("a").await;
        let _other = locks.lock("b").await;
        let waiting = locks.lock("a");
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(locks.lock("a").now_or_never().is_none());
        assert_eq!(locks.len(), 2);
        drop(first);
        drop(waiting.await);
        assert_eq!(locks.len(), 1);
    }
}
