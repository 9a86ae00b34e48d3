//! Recovery at start: seals acknowledged edits, merges staged events, and resumes interrupted work. Must be idempotent.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use ruma::{OwnedRoomId, RoomId};
use weft_jobs::Outcome;
use weft_room_api::{RoomCommand, Unavailable};
use weft_store::tables::{documents::JOURNALED_ROOMS, rooms::STAGED_ROOMS};

use crate::{Rooms, jobs, mailbox::LocalCommand, registry::Shared};

/// Rooms that are recovered at a time: enough to share commits, few enough to limit memory.
const AT_ONCE: usize = 16;

impl Rooms {
    /// At start: seals edits that were acknowledged and not sealed, and has staged events merged. Idempotent.
    ///
    /// # Errors If the store can't be read. A room that fails is logged and does not stop the others.
    pub async fn recover(&self) -> Result<(), Unavailable> {
        let store = &self.shared.store;
        let journaled = store.scan_all(JOURNALED_ROOMS.under(&())).await?;
        let staged = store.scan_all(STAGED_ROOMS.under(&())).await?;
        tracing::info!(journaled = journaled.len(), staged = staged.len(), "recovering rooms");
        #[cfg(debug_assertions)]
        fail::fail_point!("room::recovery_begun");
        let seals = journaled.into_iter().map(|((room,), ())| self.recover_room(room));
        stream::iter(seals)
            .buffer_unordered(AT_ONCE)
            .for_each(|()| async {})
            .await;
        #[cfg(debug_assertions)]
        fail::fail_point!("room::recovery_sealed");
        let staged: Vec<OwnedRoomId> = staged.into_iter().map(|((room,), _)| room).collect();
        jobs::request_ingest(&self.shared, &staged).await?;
        self.settle_again().await?;
        self.note_coming_histories().await?;
        jobs::repeat_failed(&self.shared).await
    }

    async fn recover_room(&self, room: OwnedRoomId) {
        if let Err(error) = self.call::<()>(&room, RoomCommand::Seal).await {
            tracing::error!(
                event = "room.seal_failed", %room, %error,
                "acknowledged edits could not be sealed; they stay in the journal"
            );
        }
    }
}

/// One run of the job that merges what was staged before the start.
pub(crate) async fn ingest(shared: &Arc<Shared>, room: &RoomId) -> Result<Outcome, Unavailable> {
    shared.send(room, LocalCommand::Ingest).await?;
    Ok(Outcome::Done)
}
