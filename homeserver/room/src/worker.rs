//! The worker of one room: its only writer. Takes commands from the mailbox, applies them in memory, commits them as
//! one batch, answers, and publishes the changes.
//!
//! Commands that arrive during a commit go into the next one. This file is only the loop: the decisions are in the
//! files of the commands.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use ruma::{OwnedRoomId, ServerName};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Instrument as _;
use weft_dag::Signer;
use weft_document::{OpenText, Published};
use weft_room_api::{RoomCommand, RoomError, RoomReply, RoutedCommand, Unavailable};
use weft_store::CommitError;

use crate::{
    active_room::ActiveRoom,
    mailbox::{Command, LocalCommand, Reply},
    pending_commit::PendingCommit,
    reconcile::Reconciliation,
    registry::Shared,
    staging::{IngestQueue, Waiting},
};

/// Commands of one turn at most.
const MAX_COMMANDS: usize = 256;
/// Bytes of edits and events of one turn at most: what a disk writes in a few milliseconds.
const MAX_COMMIT_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) room: OwnedRoomId,
    pub(crate) active: Option<ActiveRoom>,
    /// Staged events that wait for others.
    pub(crate) waiting: Waiting,
    /// Staged events that are being merged.
    pub(crate) ingest_queue: IngestQueue,
    /// Extremities that other servers may not have received.
    pub(crate) reconciliation: Reconciliation,
    /// The text for readers.
    published: Arc<Published>,
    mailbox: mpsc::Receiver<Command>,
    /// A turn for commands has been taken since the last portion of staged events.
    portion_is_next: bool,
    last_work: Instant,
}

/// What woke the worker.
enum Wake {
    Command(Command),
    Portion,
    Seal,
    EvictText,
    Idle,
    Closed,
}

/// The purpose of a turn. Each turn also seals what is due.
enum Work {
    Commands(Command),
    Portion,
    Seal,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        room: OwnedRoomId,
        mailbox: mpsc::Receiver<Command>,
        published: Arc<Published>,
    ) -> Self {
        Self {
            shared,
            room,
            active: None,
            waiting: Waiting::default(),
            ingest_queue: IngestQueue::default(),
            reconciliation: Reconciliation::default(),
            published,
            mailbox,
            portion_is_next: false,
            last_work: Instant::now(),
        }
    }

    /// Runs until the room is idle or the server stops. A panic costs the commands of one turn; the room is then loaded
    /// from disk again.
    pub(crate) async fn supervise(mut self) {
        while AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            tracing::error!(
                event = "room.worker_panicked", room = %self.room,
                "the room's worker panicked and is restarted"
            );
            self.forget();
            self.ingest_queue.stop();
        }
    }

    async fn run(&mut self) {
        loop {
            match self.wake().await {
                Wake::Command(first) => self.work(Work::Commands(first)).await,
                Wake::Portion => self.work(Work::Portion).await,
                Wake::Seal => self.work(Work::Seal).await,
                Wake::EvictText => self.evict_text(),
                // The result of a task would be lost with the room's memory.
                Wake::Idle if self.awaits_task() => self.last_work = Instant::now(),
                Wake::Idle => self.mailbox.close(),
                Wake::Closed => return,
            }
            if self.shared.is_stopping() {
                self.mailbox.close();
                self.ingest_queue.stop();
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        if self.ingest_queue.is_under_way() {
            // Alternate, so that neither has to wait until the other is done.
            self.portion_is_next = !self.portion_is_next;
            let command = self.portion_is_next.then(|| self.mailbox.try_recv().ok()).flatten();
            return command.map_or(Wake::Portion, Wake::Command);
        }
        let idle = self.last_work + self.shared.idle();
        let (due, wake) = match (self.seal_due(), self.eviction_due()) {
            (Some(due), _) => (due, Wake::Seal),
            (None, Some(due)) if due < idle => (due, Wake::EvictText),
            (None, _) => (idle, Wake::Idle),
        };
        tokio::select! {
            biased;
            command = self.mailbox.recv() => command.map_or(Wake::Closed, Wake::Command),
            () = tokio::time::sleep_until(due) => wake,
        }
    }

    /// When the text is to leave memory.
    fn eviction_due(&self) -> Option<Instant> {
        let active = self.active.as_ref().filter(|active| active.under_way.is_none())?;
        active.document.as_ref()?.evict_at(self.shared.config.text_eviction)
    }

    /// Drops the text from memory; connections to the document stay.
    fn evict_text(&mut self) {
        if let Some(document) = self.active.as_mut().and_then(|active| active.document.as_mut()) {
            document.evict();
            document.publish(&self.published);
        }
    }

    /// Whether a task works for this room.
    fn awaits_task(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.under_way.is_some() || active.document.as_ref().is_some_and(OpenText::is_being_folded)
        })
    }

    fn document(&self) -> Option<&OpenText> {
        self.active.as_ref()?.document.as_ref()
    }

    fn seal_due(&self) -> Option<Instant> {
        let (first, last) = self.document()?.waiting()?;
        Some(self.shared.seal_due(&self.room, first, last))
    }

    /// One turn.
    async fn work(&mut self, work: Work) {
        let mut commit = PendingCommit::new(&self.room, self.shared.clock.now());
        let mut next = None;
        match work {
            Work::Commands(first) => next = Some(first),
            Work::Portion => self.ingest_portion(&mut commit).await,
            Work::Seal => {}
        }
        let mut done = 0;
        while let Some(command) = next.take() {
            self.handle(command, &mut commit).await;
            done += 1;
            if done < MAX_COMMANDS && commit.bytes() < MAX_COMMIT_BYTES && !commit.is_abandoned() {
                next = self.mailbox.try_recv().ok();
            }
        }
        let due = self.seal_due().is_some_and(|due| due <= Instant::now());
        if (due || self.shared.is_stopping()) && !commit.is_abandoned() {
            self.seal(&mut commit);
        }
        self.commit(commit).await;
        if self.document().is_some_and(OpenText::is_outdated) {
            self.forget();
        }
        self.last_work = Instant::now();
        if self.active.is_none() && self.mailbox.is_empty() {
            // The room does not exist here, or it must be loaded again: there is no reason to stay in memory.
            self.mailbox.close();
        }
    }

    async fn handle(&mut self, command: Command, commit: &mut PendingCommit) {
        let span = command.span(&self.room);
        async {
            match command {
                Command::Room(RoutedCommand { command, .. }, answer) => self.handle_call(command, answer, commit).await,
                Command::Local(command, _) => self.handle_local(command, commit).await,
            }
        }
        .instrument(span)
        .await;
    }

    async fn handle_call(
        &mut self,
        command: RoomCommand,
        answer: oneshot::Sender<Result<RoomReply, RoomError>>,
        commit: &mut PendingCommit,
    ) {
        match command {
            RoomCommand::Create(new) => self.create(*new, commit, Reply::to_caller(answer)).await,
            RoomCommand::Send(event) => self.send(*event, commit, Reply::to_caller(answer)).await,
            RoomCommand::SendIf(event, conditions) => {
                let reply = Reply::to_caller(answer);
                self.send_if(*event, &conditions, commit, reply).await;
            }
            RoomCommand::SendOfText(event) => self.send_of_text(*event, commit, Reply::to_caller(answer)).await,
            RoomCommand::Draft(event) => self.draft(*event, Reply::to_caller(answer)).await,
            RoomCommand::Edit(edit) => self.edit(edit, commit, Reply::to_caller(answer)).await,
            RoomCommand::RequestEdit(edit) => self.request_edit(*edit, commit, Reply::to_caller(answer)).await,
            RoomCommand::SendEdit(edit) => self.send_edit(*edit, commit, Reply::to_caller(answer)).await,
            RoomCommand::Vector => self.vector(commit, Reply::to_caller(answer)).await,
            RoomCommand::Diff(vector) => self.diff(&vector, commit, Reply::to_caller(answer)).await,
            RoomCommand::Text => self.text(commit, Reply::to_caller(answer)).await,
            RoomCommand::Seal => self.seal_now(commit, Reply::to_caller(answer)).await,
            RoomCommand::Ingest => {
                self.ingest(commit, None).await;
                commit.answer(Reply::to_caller(answer), ());
            }
            RoomCommand::Adopt(joined) => self.adopt(*joined, commit, Reply::to_caller(answer)).await,
            RoomCommand::Template(request) => self.template(request, Reply::to_caller(answer)).await,
            RoomCommand::Accept(signed) => self.accept(*signed, commit, Reply::to_caller(answer)).await,
        }
    }

    async fn handle_local(&mut self, command: LocalCommand, commit: &mut PendingCommit) {
        match command {
            LocalCommand::Nudge => {}
            LocalCommand::CopyPast(user, reply) => reply.send(self.copy_past(&user).await),
            LocalCommand::Edit(user, session, update, reply) => {
                self.edit_admitted((user, session), *update, commit, reply).await;
            }
            LocalCommand::Ingest => self.ingest(commit, None).await,
            LocalCommand::Resume(row) => self.ingest(commit, Some(row)).await,
            LocalCommand::Merge(portion, reply) => self.merge(*portion, commit, reply).await,
            LocalCommand::Settle => self.settle(commit).await,
            LocalCommand::WriteAhead(run, rows, reply) => self.write_ahead(&run, *rows, commit, reply),
            LocalCommand::Fold(run, folded) => self.install_fold(&run, folded.map(|folded| *folded), commit),
            LocalCommand::Install(worked_out) => self.install(*worked_out, commit).await,
            LocalCommand::Reconcile(reply) => self.reconcile_extremities(commit, reply).await,
            LocalCommand::Witness(due, reply) => self.witness(due, commit, reply).await,
            LocalCommand::History(events, reply) => self.history(events, commit, reply).await,
            LocalCommand::WorkOut(reply) => self.history_is_here(commit, reply).await,
            LocalCommand::RestoreUpdates(events, reply) => self.restore_updates(events, commit, reply).await,
        }
    }

    /// Commits the turn, answers, publishes. If the commit fails, memory is ahead of the disk and is dropped.
    pub(crate) async fn commit(&mut self, mut commit: PendingCommit) {
        if commit.is_abandoned() {
            self.forget();
            return;
        }
        if let Some(active) = self.active.as_mut() {
            if let Some(document) = active.document.as_mut() {
                document.write_adopted(&mut commit.batch, &active.id);
            }
            active.schedule_naming(&mut commit);
            active.put_extremities(&mut commit.batch);
            active.put_indexes(&mut commit.batch, self.shared.identity.server_name());
            commit.is_document = active.document.is_some();
        }
        let (requests_jobs, gap) = (commit.requests_jobs(), commit.gap);
        let wants = std::mem::take(&mut commit.wants);
        #[cfg(debug_assertions)]
        fail::fail_point!("room::before_commit");
        let version = self.active.as_ref().map(|active| active.version.id());
        let positions = self.shared.store.positions_of(&*self.room);
        let mut finished = commit.finish(positions, self.shared.identity.server_name(), version);
        let batch = std::mem::take(&mut finished.batch);
        let result: Result<(), CommitError> = if batch.is_empty() {
            Ok(())
        } else {
            let (events, edits) = finished.counts();
            let span = tracing::debug_span!("room_commit", room = %self.room, events, edits);
            self.shared.store.commit(batch).instrument(span).await
        };
        if let Err(error) = &result {
            tracing::error!(
                event = "room.commit_failed", room = %self.room, %error,
                "the changes of a room could not be committed"
            );
            self.forget();
        } else {
            // First: a caller that is notified or answered must be able to read the change.
            self.publish();
            if let Some(change) = finished.to_publish() {
                // Readers are notified before the callers: when a caller gets its answer, others are already being
                // notified.
                self.shared.changes.publish(change);
            }
        }
        let background = || Arc::clone(&self.shared.background);
        if requests_jobs && result.is_ok() {
            background().requested(&self.room, gap);
        }
        if !wants.is_empty() && result.is_ok() {
            background().fetch_missing(&self.shared, &self.room, wants);
        }
        if result.is_ok() {
            self.note_position(finished.last_accepted());
            self.settle_later();
            self.begin_fold();
        }
        #[cfg(debug_assertions)]
        fail::fail_point!("room::before_answer");
        finished.conclude(&result);
    }

    fn note_position(&mut self, last: Option<u64>) {
        if let Some((active, last)) = self.active.as_mut().zip(last) {
            active.position = active.position.max(last);
        }
    }

    /// Memory may be ahead of the disk: drop it, so that the room is loaded again.
    fn forget(&mut self) {
        self.active = None;
        self.reconciliation.forget_schedule();
        self.published.evicted();
    }

    /// Publishes what the turn did to the text.
    fn publish(&mut self) {
        match self.active.as_mut().and_then(|active| active.document.as_mut()) {
            Some(document) => document.publish(&self.published),
            None => self.published.evicted(),
        }
    }

    /// The room, loaded if necessary; `None` if this server does not have it.
    pub(crate) async fn open(&mut self) -> Result<Option<&mut ActiveRoom>, Unavailable> {
        let positions = self.shared.store.positions_of(&*self.room);
        if positions.is_lost() {
            // Another process writes to the room: what is in memory here is out of date.
            let lane = positions.lane();
            self.forget();
            return Err(CommitError::LaneLost { lane }.into());
        }
        if self.active.is_none() {
            let ours = self.shared.identity.server_name();
            self.active = Box::pin(ActiveRoom::load(&self.shared.reader, ours, &self.room)).await?;
        }
        Ok(self.active.as_mut())
    }

    /// The room, loaded if necessary, with the text of its document.
    pub(crate) async fn open_with_text(&mut self) -> Result<Option<&mut ActiveRoom>, Unavailable> {
        if self.open().await?.is_none() {
            return Ok(None);
        }
        if let Some(active) = self.active.as_mut() {
            active.load_text(&self.shared.reader).await?;
        }
        Ok(self.active.as_mut())
    }

    pub(crate) fn ours(&self) -> &ServerName {
        self.shared.identity.server_name()
    }

    pub(crate) fn signer(&self) -> Arc<Signer> {
        self.shared.identity.signer()
    }
}
