//! How many syncs of a device and of a user wait at once.
//!
//! A new one beyond that ends the oldest, which answers with what it has: a client that comes back has given the old one
//! up. Must not refuse anybody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedDeviceId, OwnedUserId};
use tokio::sync::Notify;
use weft_accounts::Session;

/// Syncs of one device: one that is being given up, and one that takes its place.
const MAX_OF_DEVICE: usize = 2;
/// Syncs of one user: each is woken by whatever concerns the user.
const MAX_OF_USER: usize = 40;

#[derive(Default)]
struct Waiters {
    /// The oldest first.
    by_user: HashMap<OwnedUserId, VecDeque<(u64, OwnedDeviceId, Arc<Notify>)>>,
    last: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(in crate::client) struct Waiting {
    waiters: Arc<Mutex<Waiters>>,
}

/// A sync that may wait. It no longer counts when this is dropped.
pub(super) struct Waiter {
    waiting: Waiting,
    user: OwnedUserId,
    number: u64,
    end: Arc<Notify>,
}

impl Waiting {
    /// Counts a sync, and ends the oldest where there are too many.
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
        // The map is changed by single calls only: a panic elsewhere leaves it whole.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_one(of_user: &mut VecDeque<(u64, OwnedDeviceId, Arc<Notify>)>, index: usize) {
    if let Some((_, _, end)) = of_user.remove(index) {
        // Kept for one who isn't waiting yet.
        end.notify_one();
    }
}

impl Waiter {
    /// Returns when a newer sync takes this one's place.
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
