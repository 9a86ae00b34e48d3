//! Working out the text of a document in which clocks are claimed twice: from all events of the room, in a task
//! separate from the worker, which accepts edits meanwhile.
//!
//! The worker records which events arrive meanwhile. The task leaves them out, because the pages that it reads of a
//! long room are not from one instant. When the text is ready, those that count are merged into it one by one. If the
//! worker worked the text out itself meanwhile, or the room was loaded again, the result is dropped; the fact that it
//! is due is on disk. Must not decide when it is done: that is [`super`].

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::Instant,
};
use weft_dag::{Pdu, RoomVersion};

use crate::{
    Unavailable,
    active_room::ActiveRoom,
    ingest::{
        merge_session::MergeSession,
        rebuild::{PersistedEvent, Rebuilt, missing, rebuild},
        stored::StoredRows,
    },
    mailbox::LocalCommand,
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

/// Events that may arrive while a text is worked out. If there are more, it is worked out again.
const MAX_MEANWHILE: usize = 10_000;

/// The events that arrived since a run began. Its identity also distinguishes one run from another.
#[derive(Debug, Clone, Default)]
struct Since(Arc<Mutex<HashSet<OwnedEventId>>>);

impl Since {
    fn lock(&self) -> MutexGuard<'_, HashSet<OwnedEventId>> {
        // A set can't be half-changed, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that is being worked out.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    since: Since,
    /// Events that were accepted since, in order.
    meanwhile: Vec<Arc<Pdu>>,
    /// Some of them may change what stands.
    again: bool,
}

/// A text that was worked out.
pub(crate) struct WorkedOut {
    since: Since,
    began: Instant,
    /// `None` if events are missing, so that the text can't be worked out.
    result: Result<Option<Rebuilt>, Unavailable>,
}

impl ActiveRoom {
    /// Records an event that has arrived; `counts`: this event and others that are accepted from now on.
    pub(crate) fn note_meanwhile<'a>(&mut self, event: &Pdu, counts: impl Iterator<Item = &'a Arc<Pdu>>) {
        let Some(under_way) = self.under_way.as_mut() else {
            return;
        };
        under_way.meanwhile.extend(counts.cloned());
        let mut since = under_way.since.lock();
        since.insert(event.event_id().to_owned());
        let are_too_many = since.len().max(under_way.meanwhile.len()) > MAX_MEANWHILE;
        drop(since);
        if are_too_many {
            self.under_way = None;
        }
    }

    /// Records that what stands may differ from the result of the current run.
    pub(super) fn note_again(&mut self) {
        if let Some(under_way) = self.under_way.as_mut() {
            under_way.again = true;
        }
    }
}

impl Worker {
    /// Begins to work the text out. All events of the room must be on disk.
    pub(super) fn begin_to_work_out(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        let (since, began) = (Since::default(), Instant::now());
        active.under_way = Some(UnderWay {
            since: since.clone(),
            ..UnderWay::default()
        });
        let (shared, ours) = (Arc::clone(&self.shared), self.shared.identity.server_name().to_owned());
        let (room, version) = (active.id.clone(), active.version.clone());
        tokio::spawn(async move {
            let result = work_out(&shared, room.clone(), version, ours, since.clone()).await;
            let worked_out = Box::new(WorkedOut { since, began, result });
            // If the server is stopping: it is due after the next start.
            let _ = shared.send(&room, LocalCommand::Install(worked_out)).await;
        });
    }

    /// Replaces the text by the result.
    pub(crate) async fn install(&mut self, worked_out: WorkedOut, commit: &mut PendingCommit) {
        // Pending edits are sealed first.
        self.seal(commit);
        self.fresh(commit).await;
        if let Err(error) = Box::pin(self.install_now(worked_out, commit)).await {
            self.settle_failed(&error, commit);
        }
    }

    async fn install_now(&mut self, worked_out: WorkedOut, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let WorkedOut { since, began, result } = worked_out;
        let Some(active) = self.open().await? else {
            return Ok(());
        };
        let Some(under_way) = active
            .under_way
            .take_if(|under_way| Arc::ptr_eq(&under_way.since.0, &since.0))
        else {
            return Ok(());
        };
        let Some(rebuilt) = result? else {
            // When the missing events arrive, the text is worked out anyway.
            active.note_not_due(&mut commit.batch);
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mut session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        session.replace_text(rebuilt, began, &under_way.meanwhile).await?;
        if under_way.again {
            active.note_due(&mut commit.batch);
        }
        Ok(())
    }
}

/// From the events that are on disk. `None` if some are missing.
async fn work_out(
    shared: &Shared,
    room: OwnedRoomId,
    version: RoomVersion,
    ours: OwnedServerName,
    since: Since,
) -> Result<Option<Rebuilt>, Unavailable> {
    let rows = StoredRows::load(&shared.reader, &room).await?;
    let work = move || work_out_from(rows, &version, &ours, &since);
    // A runtime of one thread, as in tests, is sequential anyway.
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let worked_out = tokio::task::spawn_blocking(work).await;
    worked_out.unwrap_or(Err(Unavailable::Interrupted))
}

fn work_out_from(
    rows: StoredRows,
    version: &RoomVersion,
    ours: &OwnedServerName,
    since: &Since,
) -> Result<Option<Rebuilt>, Unavailable> {
    let mut events: HashMap<OwnedEventId, PersistedEvent> = rows.read(version)?;
    let since = since.lock();
    events.retain(|id, _| !since.contains(id));
    drop(since);
    if !missing(&events).is_empty() {
        return Ok(None);
    }
    Ok(Some(rebuild(events.into_values().collect(), Some(ours))))
}
