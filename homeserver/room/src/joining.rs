//! Joins through other servers that are in progress. The other servers send events as soon as they have the join,
//! before this server has stored the room; those events must wait and not be dropped as events of an unknown room.
//!
//! Only in memory: a join that a crash interrupts is repeated by the client. Must not decide about joins.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedRoomId, RoomId};
use tokio_util::sync::CancellationToken;

use crate::{Rooms, registry::Shared};

/// The longest wait of a transaction for a join: shorter than the sending server's request timeout.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A join in progress, until this is dropped.
#[must_use]
pub struct Joining {
    shared: Arc<Shared>,
    room: OwnedRoomId,
    ended: CancellationToken,
}

impl Rooms {
    /// Marks a join through another server as in progress: from before the request until the room is stored.
    pub fn joining(&self, room: &RoomId) -> Joining {
        let ended = self.shared.note_joining(room);
        Joining {
            shared: Arc::clone(&self.shared),
            room: room.to_owned(),
            ended,
        }
    }

    /// Returns when no join of this room is in progress, or at the deadline.
    pub async fn until_joined(&self, room: &RoomId) {
        let Some(ended) = self.shared.joining(room) else { return };
        if tokio::time::timeout(MAX_WAIT, ended.cancelled()).await.is_err() {
            tracing::warn!(
                event = "room.join_unfinished", %room,
                "the join is still in progress; its events are dropped"
            );
        }
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.ended.cancel();
        self.shared.forget_joining(&self.room);
    }
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining")
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
