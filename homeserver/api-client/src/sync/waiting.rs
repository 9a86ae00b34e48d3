//! Limits the syncs of a device and of a user that wait at the same time.
//!
//! A new sync above the limit ends the oldest, which answers with its current results: a client that reconnects has abandoned
//! the old request. Must not refuse a sync.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedDeviceId, OwnedUserId};
use tokio::sync::Notify;
use weft_accounts::Session;

/// Waiting syncs of one device: an abandoned one and its replacement.
const MAX_OF_DEVICE: usize = 2;
/// Waiting syncs of one user: each is woken by every change that concerns the user.
const MAX_OF_USER: usize = 40;

#[derive(Default)]
struct Waiters {
    /// Oldest first.
    by_user: HashMap<OwnedUserId, VecDeque<(u64, OwnedDeviceId, Arc<Notify>)>>,
    last: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Waiting {
    waiters: Arc<Mutex<Waiters>>,
}

/// A sync that may wait. Dropping it ends the count.
pub(super) struct Waiter {
    waiting: Waiting,
    user: OwnedUserId,
    number: u64,
    end: Arc<Notify>,
}

impl Waiting {
    /// Counts a sync, and ends the oldest if there are too many.
    pub(super) fn begin(&self, session: &Session) -> Waiter {
        let end = Arc::new(Notify::new());
        let mut waiters = self.lock();
        waiters.last = waiters.last.wrapping_add(1);
        let number = waiters.last;
        let user = session.user_id.clone();
        let of_user = waiters.by_user.entry(user.clone()).or_default();
        of_user.push_back((number, session.device_id.clone(), Arc::clone(&end)));
        let is_of_device = |(_, device, _): &(u64, OwnedDeviceId, Arc<Notify>)| *device == session.device_id;
        if of_user.iter().filter(|waiter| is_of_device(waiter)).count() > MAX_OF_DEVICE
            && let Some(oldest) = of_user.iter().position(is_of_device)
        {
            end_one(of_user, oldest);
        }
        if of_user.len() > MAX_OF_USER {
            end_one(of_user, 0);
        }
        drop(waiters);
        Waiter {
            waiting: self.clone(),
            user,
            number,
            end,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock()
    }
}

fn end_one(of_user: &mut VecDeque<(u64, OwnedDeviceId, Arc<Notify>)>, index: usize) {
    if let Some((_, _, end)) = of_user.remove(index) {
        // The permit is stored if the other sync is not waiting yet.
        end.notify_one();
    }
}

impl Waiter {
    /// Returns when a newer sync replaces this one.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiting.lock();
        if let Some(of_user) = waiters.by_user.get_mut(&self.user) {
            of_user.retain(|(number, ..)| *number != self.number);
            if of_user.is_empty() {
                waiters.by_user.remove(&self.user);
            }
        }
    }
}
