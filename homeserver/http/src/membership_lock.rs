//! Serialises the changes of a user's membership of a room.
//!
//! Joining reads the membership, then requests the join from another server, then writes; two concurrent requests would
//! both join. Must be held from the read until the result is in the store, also if the client disconnects meanwhile.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::OwnedMutexGuard;
use weft_budget::{Budget, KeyedBudget, KeyedShare};
use weft_wire::limits;

use crate::errors::{ApiError, ApiResult};

type Key = (OwnedUserId, OwnedRoomId);
type Locks = Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>;

/// The locks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MembershipLocks {
    locks: Arc<Locks>,
    under_way: Arc<KeyedBudget<OwnedUserId>>,
}

/// Excludes other changes of this membership until it is dropped.
#[must_use = "dropping it releases the lock"]
#[derive(Debug)]
pub struct MembershipGuard {
    locks: Arc<Locks>,
    key: Key,
    held: Option<OwnedMutexGuard<()>>,
    _share: KeyedShare<OwnedUserId>,
}

impl Default for MembershipLocks {
    fn default() -> Self {
        Self {
            locks: Arc::default(),
            under_way: KeyedBudget::new(
                "membership_changes",
                limits::MAX_MEMBERSHIP_CHANGES_PER_ACCOUNT,
                limits::MAX_MEMBERSHIP_CHANGES,
            ),
        }
    }
}

impl MembershipLocks {
    /// The budget of changes in progress, for metrics.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.under_way.total()
    }

    /// Waits for the lock. `caller` is the user who changes the membership of `user`.
    ///
    /// # Errors
    /// 429 if the caller has too many changes in progress.
    pub async fn lock(&self, caller: &UserId, user: &UserId, room: &RoomId) -> ApiResult<MembershipGuard> {
        let share = self.under_way.try_take(&caller.to_owned(), 1);
        let share = share.map_err(|_| ApiError::limit_exceeded(std::time::Duration::from_secs(5)))?;
        let key = (user.to_owned(), room.to_owned());
        let lock = Arc::clone(entries(&self.locks).entry(key.clone()).or_default());
        // Created before the wait, so that a cancelled waiter leaves no entry behind.
        let mut guard = MembershipGuard {
            locks: Arc::clone(&self.locks),
            key,
            held: None,
            _share: share,
        };
        guard.held = Some(lock.lock_owned().await);
        Ok(guard)
    }
}

impl MembershipGuard {
    /// Makes the change in a task of its own and releases the lock afterwards. If the client disconnects meanwhile, the
    /// change still comes to its end: another server may have accepted a part of it already.
    ///
    /// # Errors
    /// Those of the change.
    pub async fn run<T: Send + 'static>(
        self,
        change: impl Future<Output = ApiResult<T>> + Send + 'static,
    ) -> ApiResult<T> {
        let changing = tokio::spawn(async move {
            let changed = change.await;
            drop(self);
            changed
        });
        changing
            .await
            .map_err(|error| ApiError::internal("changing a membership", &error))?
    }
}

impl Drop for MembershipGuard {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = entries(&self.locks);
        // Under the map's lock nobody can clone the entry, so a single reference means that it is neither held nor awaited.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

fn entries(locks: &Locks) -> MutexGuard<'_, HashMap<Key, Arc<tokio::sync::Mutex<()>>>> {
    locks.lock()
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[tokio::test]
    async fn changes_of_one_membership_are_serialised_and_leave_no_entry() {
        let locks = MembershipLocks::default();
        let (alice, bob, room) = (user_id!("@alice:x"), user_id!("@bob:x"), room_id!("!r:x"));
        let first = locks.lock(alice, alice, room).await.unwrap();
        let _other_user = locks.lock(bob, bob, room).await.unwrap();
        let _other_room = locks.lock(alice, alice, room_id!("!s:x")).await.unwrap();
        let mut second = Box::pin(locks.lock(alice, alice, room));
        let is_waiting = futures_util::poll!(&mut second).is_pending();
        assert!(is_waiting);
        // A cancelled waiter doesn't affect the others.
        let mut third = Box::pin(locks.lock(alice, alice, room));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        drop(first);
        drop(second.await.unwrap());
        assert_eq!(entries(&locks.locks).len(), 2);
        drop((_other_user, _other_room));
        assert!(entries(&locks.locks).is_empty());
        assert_eq!(locks.budget().usage().used, 0);
    }

    #[tokio::test]
    async fn a_change_comes_to_its_end_without_its_client() {
        let locks = MembershipLocks::default();
        let (alice, room) = (user_id!("@alice:x"), room_id!("!r:x"));
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let guard = locks.lock(alice, alice, room).await.unwrap();
        let mut request = Box::pin(guard.run(async move {
            let _ = wait.await;
            let _ = done.send(());
            Ok(())
        }));
        assert!(futures_util::poll!(&mut request).is_pending());
        drop(request);
        let mut next = Box::pin(locks.lock(alice, alice, room));
        assert!(futures_util::poll!(&mut next).is_pending(), "the change is still made");
        go.send(()).unwrap();
        is_done.await.unwrap();
        drop(next.await.unwrap());
    }

    #[tokio::test]
    async fn an_account_has_a_limit_on_concurrent_changes() {
        let locks = MembershipLocks::default();
        let (alice, bob) = (user_id!("@alice:x"), user_id!("@bob:x"));
        let mut held = Vec::new();
        for number in 0..limits::MAX_MEMBERSHIP_CHANGES_PER_ACCOUNT {
            let room = RoomId::parse(format!("!r{number}:x")).unwrap();
            held.push(locks.lock(alice, alice, &room).await.unwrap());
        }
        let refused = locks.lock(alice, alice, room_id!("!more:x")).await.unwrap_err();
        assert_eq!(refused.status().as_u16(), 429);
        let _other = locks.lock(bob, alice, room_id!("!more:x")).await.unwrap();
    }
}
