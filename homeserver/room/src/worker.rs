//! The worker of one room: its only writer. Takes what is in the mailbox, does it in memory, commits it as one batch,
//! answers, and tells the sink.
//!
//! What arrives while a commit is on its way goes into the next one. Decisions are in the files of the commands; here
//! is only the loop.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use ruma::{OwnedRoomId, ServerName};
use tokio::{sync::mpsc, time::Instant};
use weft_dag::Signer;
use weft_store::CommitError;

use crate::{
    Unavailable, gaps::InVain, history, hot::Hot, intake::Draining, mailbox::Command, registry::Shared, turn::Turn,
    vouch::Vouching, witness,
};

/// Commands of one turn at most.
const MAX_COMMANDS: usize = 256;
/// Bytes of edits and events of one turn at most: what a disk writes in a few milliseconds.
const MAX_TURN_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) room: OwnedRoomId,
    pub(crate) hot: Option<Hot>,
    /// What other servers were asked for in vain.
    pub(crate) in_vain: InVain,
    /// Staged events that are being merged.
    pub(crate) draining: Draining,
    /// What others may not have heard.
    pub(crate) vouching: Vouching,
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
    Idle,
    Closed,
}

/// What a turn is for. Whichever it is, what is due to be sealed is sealed.
enum Work {
    Commands(Command),
    Portion,
    Seal,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, room: OwnedRoomId, mailbox: mpsc::Receiver<Command>) -> Self {
        Self {
            shared,
            room,
            hot: None,
            in_vain: InVain::default(),
            draining: Draining::default(),
            vouching: Vouching::default(),
            mailbox,
            portion_is_next: false,
            last_work: Instant::now(),
        }
    }

    /// Runs until the room is idle or the server stops. A panic costs the commands of one turn; the room is then loaded
    /// again from what is on disk.
    pub(crate) async fn supervise(mut self) {
        while AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            tracing::error!(room = %self.room, "the room's worker panicked and starts again");
            self.hot = None;
            self.draining.stop();
        }
    }

    async fn run(&mut self) {
        loop {
            match self.wake().await {
                Wake::Command(first) => self.work(Work::Commands(first)).await,
                Wake::Portion => self.work(Work::Portion).await,
                Wake::Seal => self.work(Work::Seal).await,
                Wake::Idle => self.mailbox.close(),
                Wake::Closed => return,
            }
            if self.shared.is_stopping() {
                self.mailbox.close();
                self.draining.stop();
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        if self.draining.is_under_way() {
            // In turn, so that neither has to wait until the other is done.
            self.portion_is_next = !self.portion_is_next;
            let command = self.portion_is_next.then(|| self.mailbox.try_recv().ok()).flatten();
            return command.map_or(Wake::Portion, Wake::Command);
        }
        let due = self.seal_due();
        let idle = self.last_work + self.shared.idle();
        tokio::select! {
            biased;
            command = self.mailbox.recv() => command.map_or(Wake::Closed, Wake::Command),
            () = tokio::time::sleep_until(due.unwrap_or(idle)) => if due.is_some() { Wake::Seal } else { Wake::Idle },
        }
    }

    fn seal_due(&self) -> Option<Instant> {
        let (first, last) = self.hot.as_ref()?.document.as_ref()?.waiting()?;
        Some(self.shared.seal_due(&self.room, first, last))
    }

    /// One turn.
    async fn work(&mut self, work: Work) {
        let mut turn = Turn::new(&self.room, self.shared.ports.clock.now());
        let mut next = None;
        match work {
            Work::Commands(first) => next = Some(first),
            Work::Portion => self.drain_portion(&mut turn).await,
            Work::Seal => {}
        }
        let mut done = 0;
        while let Some(command) = next.take() {
            self.obey(command, &mut turn).await;
            done += 1;
            if done < MAX_COMMANDS && turn.bytes() < MAX_TURN_BYTES && !turn.is_abandoned() {
                next = self.mailbox.try_recv().ok();
            }
        }
        let due = self.seal_due().is_some_and(|due| due <= Instant::now());
        if (due || self.shared.is_stopping()) && !turn.is_abandoned() {
            self.seal(&mut turn);
        }
        self.commit(turn).await;
        self.last_work = Instant::now();
        if self.hot.is_none() && self.mailbox.is_empty() {
            // Nothing is known of such a room, or it must be loaded again: no reason to stay in memory.
            self.mailbox.close();
        }
    }

    async fn obey(&mut self, command: Command, turn: &mut Turn) {
        match command {
            Command::Create(plan, reply) => self.create(*plan, turn, reply).await,
            Command::Send(event, reply) => self.send(*event, turn, reply).await,
            Command::Draft(event, reply) => self.draft(*event, reply).await,
            Command::Edit(edit, reply) => self.edit(edit, turn, reply).await,
            Command::Vector(reply) => self.vector(turn, reply).await,
            Command::Diff(vector, reply) => self.diff(vector, turn, reply).await,
            Command::Seal(reply) => self.seal_now(turn, reply).await,
            Command::Nudge => {}
            Command::Drain => self.drain(turn).await,
            Command::Settle => self.settle(turn).await,
            Command::Vouch => self.vouch_for_all(turn).await,
            Command::Witness(due, reply) => self.witness(due, turn, reply).await,
            Command::Adopt(joined, reply) => self.adopt(*joined, turn, reply).await,
            Command::History(events, reply) => self.history(events, turn, reply).await,
            Command::FillIn(events, reply) => self.fill_in(events, turn, reply).await,
            Command::Template(request, reply) => self.template(request, reply).await,
            Command::Accept(origin, event, reply) => self.accept(&origin, *event, turn, reply).await,
        }
    }

    /// Commits the turn, answers, tells the sink. Where it fails, memory is ahead of the disk and is thrown away.
    pub(crate) async fn commit(&mut self, mut turn: Turn) {
        if turn.is_abandoned() {
            self.hot = None;
            return;
        }
        self.fold(&mut turn);
        if let Some(hot) = self.hot.as_mut() {
            hot.owe_names(&mut turn);
        }
        let (hollow, gap, unwitnessed) = (turn.hollow, turn.gap, turn.unwitnessed);
        #[cfg(debug_assertions)]
        fail::fail_point!("room::before_commit");
        let mut finished = turn.finish(self.shared.store.positions(), self.shared.identity.server_name());
        let batch = std::mem::take(&mut finished.batch);
        let result: Result<(), CommitError> = if batch.is_empty() {
            Ok(())
        } else {
            self.shared.store.commit(batch).await
        };
        if let Err(error) = &result {
            tracing::error!(room = %self.room, %error, "a room's changes could not be committed");
            self.hot = None;
        } else if let Some(news) = finished.news() {
            // Readers are told before the callers, so that who is answered finds others already on their way.
            self.shared.ports.sink.committed(news);
        }
        if hollow && result.is_ok() {
            self.ask_for_hollow_updates();
        }
        if result.is_ok() {
            self.settle_later();
        }
        if gap && result.is_ok() {
            history::begin(&self.shared, self.room.clone());
        }
        if unwitnessed && result.is_ok() {
            witness::begin(&self.shared, self.room.clone());
        }
        #[cfg(debug_assertions)]
        fail::fail_point!("room::before_answer");
        finished.conclude(&result);
    }

    /// The room, loaded if need be; None where it isn't known here.
    pub(crate) async fn open(&mut self) -> Result<Option<&mut Hot>, Unavailable> {
        if self.hot.is_none() {
            let ours = self.shared.identity.server_name();
            self.hot = Hot::load(&self.shared.reader, ours, &self.room).await?;
        }
        Ok(self.hot.as_mut())
    }

    pub(crate) fn ours(&self) -> &ServerName {
        self.shared.identity.server_name()
    }

    pub(crate) fn signer(&self) -> Arc<Signer> {
        self.shared.identity.signer()
    }
}
