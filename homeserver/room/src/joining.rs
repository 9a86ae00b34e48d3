//! Joins through other servers that are under way: their servers count us in before we have the room, and what they
//! send in between must not be taken for a stranger's.
//!
//! Only in memory: a join that a crash ends is begun again by whoever wanted it.

use std::{sync::Arc, time::Duration};

use ruma::{OwnedRoomId, RoomId};
use tokio_util::sync::CancellationToken;

use crate::{Rooms, registry::Shared};

/// How long a transaction waits for a join at most: less than the other server waits for its answer.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// A join that is under way, until this is dropped.
#[must_use]
pub struct Joining {
    shared: Arc<Shared>,
    room: OwnedRoomId,
    ended: CancellationToken,
}

impl Rooms {
    /// Notes that this server is joining a room through another one: from before it asks until the room is adopted.
    pub fn joining(&self, room: &RoomId) -> Joining {
        let ended = self.shared.note_joining(room);
        Joining {
            shared: Arc::clone(&self.shared),
            room: room.to_owned(),
            ended,
        }
    }

    /// Returns when no join of this room is under way; after a while in any case.
    pub async fn until_joined(&self, room: &RoomId) {
        let Some(ended) = self.shared.joining(room) else { return };
        if tokio::time::timeout(MAX_WAIT, ended.cancelled()).await.is_err() {
            tracing::warn!(%room, "a join takes long; what comes meanwhile is left out");
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
