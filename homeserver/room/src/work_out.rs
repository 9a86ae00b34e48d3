//! Working out the text of a document from all events of its room ([`run`]), in a task separate from the worker, which accepts
//! edits meanwhile: where clocks are claimed twice ([`crate::dispute`]), after the history was fetched
//! ([`crate::history`]), and after an update that was received redacted was restored ([`crate::pruned`]).
//!
//! The worker records which events arrive meanwhile. The task leaves them out, because the pages that it reads of a
//! long room are not from one instant. It prepares all rows of the new text, and has the worker write those that
//! nothing refers to in portions, between edits. Then the worker exchanges the text, and merges the events that arrived
//! meanwhile into it one by one. If another run has begun since, or the room was loaded again, the result is dropped;
//! the fact that it is due is on disk. Must not decide when it is done.

mod run;

use std::{collections::HashSet, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use ruma::OwnedEventId;
use tokio::time::Instant;
use weft_dag::Pdu;
use weft_document::{OpenText, RunId};
use weft_room_api::Unavailable;
use weft_store::Batch;

use self::run::{Outcome, Run};
use crate::{
    active_room::{ActiveRoom, point},
    mailbox::{LocalCommand, LocalReply},
    merge::merge_session::MergeSession,
    pending_commit::PendingCommit,
    worker::Worker,
};

/// Events that may arrive while a text is worked out. If there are more, it is worked out again.
const MAX_MEANWHILE: usize = 10_000;

/// The events that arrived since a run began.
#[derive(Debug, Clone, Default)]
struct Since(Arc<Mutex<HashSet<OwnedEventId>>>);

impl Since {
    fn lock(&self) -> MutexGuard<'_, HashSet<OwnedEventId>> {
        self.0.lock()
    }
}

/// A text that is being worked out.
#[derive(Default)]
pub(crate) struct UnderWay {
    run: RunId,
    since: Since,
    /// Events that were accepted since, in order.
    meanwhile: Vec<Arc<Pdu>>,
    /// Some of them may change what stands.
    again: bool,
    /// The run may have read an update without its content, which is here now.
    lacks_content: bool,
    /// It has the whole history: nothing is missing once the text is installed.
    completes: bool,
    /// Callers that wait for the result.
    waiting: Vec<LocalReply<()>>,
}

/// A text that was worked out.
pub(crate) struct WorkedOut {
    run: RunId,
    began: Instant,
    result: Result<Outcome, Unavailable>,
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
    pub(crate) fn note_again(&mut self) {
        if let Some(under_way) = self.under_way.as_mut() {
            under_way.again = true;
        }
    }

    /// Records that an update that was received redacted is complete: the text must be worked out with it.
    pub(crate) fn note_restored(&mut self, batch: &mut Batch) {
        if let Some(under_way) = self.under_way.as_mut() {
            under_way.lacks_content = true;
        }
        self.note_text_due(batch);
    }

    /// Records an event from before the events that are here. The current run may lack it.
    pub(crate) fn note_earlier(&mut self) {
        if let Some(under_way) = self.under_way.as_mut() {
            under_way.again = true;
            under_way.completes = false;
        }
    }
}

impl Worker {
    /// Begins to work the text out. All events of the room must be on disk, and pending edits sealed. With `completes`,
    /// the history counts as complete if no event is missing. The reply is sent when the result is on disk.
    pub(crate) fn begin_to_work_out(&mut self, completes: bool, reply: Option<LocalReply<()>>) {
        let Some(active) = self.active.as_mut() else { return };
        // An earlier run has fewer events than this one.
        let before = active.under_way.take().unwrap_or_default();
        let mut waiting = before.waiting;
        waiting.extend(reply);
        let (run, since, began) = (RunId::default(), Since::default(), Instant::now());
        active.under_way = Some(UnderWay {
            run: run.clone(),
            since: since.clone(),
            completes: completes || before.completes,
            waiting,
            ..UnderWay::default()
        });
        let point = point(&active.extremities, active.position);
        let run = Run {
            id: run,
            point,
            shared: Arc::clone(&self.shared),
            room: active.id.clone(),
            version: active.version.clone(),
            ours: self.shared.identity.server_name().to_owned(),
            numbers: active.document.as_mut().map(OpenText::reserve_numbers),
            has_rivals: active.has_rivals(),
            since,
        };
        tokio::spawn(async move {
            let result = match run.work_out().await {
                Ok(Some(outcome)) => Ok(outcome),
                // Another run has begun, or the room was loaded again.
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let Run {
                id: run, shared, room, ..
            } = run;
            let worked_out = Box::new(WorkedOut { run, began, result });
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
        let WorkedOut { run, began, result } = worked_out;
        let Some(active) = self.open().await? else {
            return Ok(());
        };
        let Some(under_way) = active.under_way.take_if(|under_way| under_way.is(&run)) else {
            return Ok(());
        };
        let text = match result? {
            Outcome::Text(text) => Some(text),
            Outcome::NoText => None,
            Outcome::Incomplete => {
                // When the missing events arrive, the text is worked out anyway.
                active.note_not_due(&mut commit.batch);
                under_way.answer(commit);
                return Ok(());
            }
        };
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Ok(());
        };
        let mut session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        if let Some(text) = text {
            session.replace_text(*text, began, &under_way.meanwhile).await?;
        }
        if under_way.completes {
            session.note_complete_unless_missing();
        }
        if under_way.lacks_content {
            active.note_text_due(&mut commit.batch);
        } else if under_way.again {
            active.note_due(&mut commit.batch);
        }
        under_way.answer(commit);
        Ok(())
    }
}

impl UnderWay {
    /// Whether it is this run.
    pub(crate) fn is(&self, run: &RunId) -> bool {
        self.run == *run
    }

    /// Answers the callers when the turn is on disk.
    fn answer(self, commit: &mut PendingCommit) {
        for reply in self.waiting {
            commit.answer(reply, ());
        }
    }
}
