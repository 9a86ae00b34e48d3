//! Compaction of a document: a task compacts a copy of the text and has the worker write the parts of the snapshot
//! between edits; then the worker installs it, unless the text was replaced meanwhile. It begins after any commit that
//! made the tail long, also one of events of other servers. Must not decide when a tail is long: that is [`weft_document`].

use std::sync::Arc;

use ruma::{OwnedRoomId, RoomId};
use tokio::runtime::{Handle, RuntimeFlavor};
use weft_document::{FoldJob, Folded, RunId};
use weft_room_api::Unavailable;
use weft_store::{
    Batch,
    tables::{documents::DISPUTED_ROOMS, rooms::INCOMPLETE_ROOMS},
};

use crate::{
    mailbox::{LocalCommand, LocalReply},
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

impl Worker {
    /// Begins to compact the text if that is due. Must be called after a commit.
    pub(crate) fn begin_fold(&mut self) {
        let rows = self.shared.config.snapshot_after;
        let Some(active) = self.active.as_mut().filter(|active| active.under_way.is_none()) else {
            return;
        };
        let (extremities, position) = (&active.extremities, active.position);
        let point = || crate::active_room::point(extremities, position);
        let job = active
            .document
            .as_mut()
            .and_then(|document| document.begin_fold(rows, point));
        if let Some(job) = job {
            tokio::spawn(fold(Arc::clone(&self.shared), self.room.clone(), job));
        }
    }

    /// Writes rows that nothing refers to yet. The answer is false if the run that they belong to is obsolete.
    pub(crate) fn write_ahead(&self, run: &RunId, rows: Batch, commit: &mut PendingCommit, reply: LocalReply<bool>) {
        let is_current = self.active.as_ref().is_some_and(|active| {
            let is_folding = active
                .document
                .as_ref()
                .is_some_and(|document| document.is_folding(run));
            is_folding || active.under_way.as_ref().is_some_and(|under_way| under_way.is(run))
        });
        if is_current {
            commit.batch.append(rows);
        }
        commit.answer(reply, is_current);
    }

    /// Installs the snapshot, or drops what was written of it.
    pub(crate) fn install_fold(&mut self, run: &RunId, folded: Option<Folded>, commit: &mut PendingCommit) {
        let checkpoint_after = self.shared.config.checkpoint_after;
        let Some(active) = self.active.as_mut() else { return };
        let Some(document) = active.document.as_mut().filter(|document| document.is_folding(run)) else {
            return;
        };
        match folded {
            None => document.abandon_fold(),
            Some(folded) => {
                document.install_fold(&mut commit.batch, &active.id, folded, checkpoint_after);
                #[cfg(debug_assertions)]
                fail::fail_point!("room::snapshot_folded");
            }
        }
    }
}

async fn fold(shared: Arc<Shared>, room: OwnedRoomId, job: FoldJob) {
    let run = job.run.clone();
    let folded = match compact(&shared, &room, job).await {
        Ok(folded) => folded,
        Err(Unavailable::Stopping) => return,
        Err(error) => {
            tracing::error!(event = "room.compaction_failed", %room, %error, "the document can't be compacted now");
            None
        }
    };
    // If the server is stopping: the tail is as long after the next start.
    let _ = shared.send(&room, LocalCommand::Fold(run, folded.map(Box::new))).await;
}

/// `None` if the run is obsolete.
async fn compact(shared: &Arc<Shared>, room: &RoomId, job: FoldJob) -> Result<Option<Folded>, Unavailable> {
    let run = job.run.clone();
    let owned = room.to_owned();
    let work = move || job.compact(&owned);
    // A runtime of one thread, as in tests, is sequential anyway.
    let (mut folded, parts) = if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        work()
    } else {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Unavailable::Interrupted)?
    };
    if !write_portions(shared, room, &run, parts).await? {
        return Ok(None);
    }
    // A text that is not final is no checkpoint. What makes it so was on disk before the copy was made.
    let is_disputed = shared.store.contains(&DISPUTED_ROOMS, &(room,)).await?;
    if !is_disputed && !shared.store.contains(&INCOMPLETE_ROOMS, &(room,)).await? {
        folded.keep();
    }
    Ok(Some(folded))
}

/// Has the worker write rows ahead, in portions. False if the run is obsolete.
pub(crate) async fn write_portions(
    shared: &Arc<Shared>,
    room: &RoomId,
    run: &RunId,
    portions: Vec<Batch>,
) -> Result<bool, Unavailable> {
    for portion in portions {
        let command = |reply| LocalCommand::WriteAhead(run.clone(), Box::new(portion), reply);
        if !shared.ask(room, command).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
