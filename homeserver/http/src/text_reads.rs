//! Limits the number of texts that are built at a time for a user: `GET content`, and the answer to a state vector on a
//! live socket.
//!
//! A text must be built before its bytes can be charged to the user who requested it, and an update of a large document
//! takes many megabytes. Without a limit, 150 requests of one user hold 150 copies of it before the first of them can
//! be refused (T130). A permit is held until the bytes are charged. Users don't wait for each other: a document that
//! can't be read now delays only the users who requested it, and none of them without end.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use ruma::{OwnedUserId, UserId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use weft_wire::limits::{MAX_TEXT_READS_PER_USER, TEXT_READ_WAIT_SECONDS};

type Waiting = Mutex<HashMap<OwnedUserId, Weak<Semaphore>>>;

/// The user's texts are still being built after [`TEXT_READ_WAIT_SECONDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the user's earlier requests for texts are not finished")]
pub struct Overdue;

/// See the module. Cheap to clone; clones share the permits.
#[derive(Debug, Clone, Default)]
pub struct TextReads(Arc<Waiting>);

/// The permit to build one text. Dropping it lets the user's next request continue.
#[derive(Debug)]
#[must_use = "dropping it releases the permit"]
pub struct ReadPermit {
    reads: TextReads,
    user: OwnedUserId,
    permit: Option<OwnedSemaphorePermit>,
}

impl TextReads {
    /// Waits until fewer than [`MAX_TEXT_READS_PER_USER`] texts are being built for the user.
    ///
    /// # Errors
    /// When that takes longer than [`TEXT_READ_WAIT_SECONDS`].
    pub async fn permit(&self, user: &UserId) -> Result<ReadPermit, Overdue> {
        let of_user = self.of(user);
        let mut waiting = ReadPermit {
            reads: self.clone(),
            user: user.to_owned(),
            permit: None,
        };
        let turn = timeout(Duration::from_secs(TEXT_READ_WAIT_SECONDS), of_user.acquire_owned()).await;
        // The semaphore is never closed.
        waiting.permit = turn.map_err(|_| Overdue)?.ok();
        Ok(waiting)
    }

    fn of(&self, user: &UserId) -> Arc<Semaphore> {
        let mut users = self.users();
        if let Some(of_user) = users.get(user).and_then(Weak::upgrade) {
            return of_user;
        }
        let of_user = Arc::new(Semaphore::new(MAX_TEXT_READS_PER_USER));
        users.insert(user.to_owned(), Arc::downgrade(&of_user));
        of_user
    }

    fn users(&self) -> MutexGuard<'_, HashMap<OwnedUserId, Weak<Semaphore>>> {
        self.0.lock()
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut users = self.reads.users();
        if users.get(&self.user).is_some_and(|of_user| of_user.strong_count() == 0) {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use ruma::user_id;

    use super::*;

    #[tokio::test]
    async fn a_user_waits_only_for_own_permits_and_the_entry_is_removed_afterwards() {
        let reads = TextReads::default();
        let mut permits = Vec::new();
        for _ in 0..MAX_TEXT_READS_PER_USER {
            permits.push(reads.permit(user_id!("@a:x")).await.unwrap());
        }
        let mut waiting = Box::pin(reads.permit(user_id!("@a:x")));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(
            reads
                .permit(user_id!("@b:x"))
                .now_or_never()
                .expect("another user waits"),
        );
        permits.pop();
        drop(waiting.await.unwrap());
        assert_eq!(reads.users().len(), 1);
        permits.clear();
        assert!(reads.users().is_empty());
    }

    #[tokio::test]
    async fn a_cancelled_waiting_request_holds_no_permit() {
        let reads = TextReads::default();
        let mut permits = Vec::new();
        for _ in 0..MAX_TEXT_READS_PER_USER {
            permits.push(reads.permit(user_id!("@a:x")).await.unwrap());
        }
        assert!(reads.permit(user_id!("@a:x")).now_or_never().is_none());
        permits.pop();
        assert!(reads.permit(user_id!("@a:x")).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_without_end() {
        let reads = TextReads::default();
        let mut permits = Vec::new();
        for _ in 0..MAX_TEXT_READS_PER_USER {
            permits.push(reads.permit(user_id!("@a:x")).await.unwrap());
        }
        assert_eq!(reads.permit(user_id!("@a:x")).await.err(), Some(Overdue));
        permits.clear();
        assert!(reads.users().is_empty());
        assert!(reads.permit(user_id!("@a:x")).await.is_ok());
    }
}
