//! The entries of a worker's mailbox: commands of callers, and commands of the room's own tasks.
//!
//! A [`LocalCommand`] never leaves the process: it comes from a task that the worker started, and such tasks run where
//! the room is served. So it may carry events that were checked here, results of computations, and channels. Everything
//! that comes from elsewhere must be a [`RoomCommand`](weft_room_api::RoomCommand).

use ruma::{OwnedUserId, RoomId};
use tokio::sync::oneshot;
use tracing::Span;
use weft_dag::Verified;
use weft_document::{AdmittedUpdate, CopiedPast, Folded, RunId};
use weft_ingest::Portion;
use weft_room_api::{ConnectionId, EditOutcome, Lacks, RoomError, RoomReply, RoutedCommand, Unavailable};
use weft_store::Batch;

use crate::{history::UndecidedEvent, work_out::WorkedOut};

/// An entry of the mailbox.
pub(crate) enum Command {
    /// A command of a caller, and where the answer goes.
    Room(RoutedCommand, oneshot::Sender<Result<RoomReply, RoomError>>),
    /// From a task of the room, and the span in which it was sent.
    Local(LocalCommand, Span),
}

impl From<LocalCommand> for Command {
    fn from(command: LocalCommand) -> Self {
        Self::Local(command, Span::current())
    }
}

impl Command {
    /// The span of the work on this command. It continues the trace of its sender: over its ids, which may come from another
    /// process, or below the span of the task.
    pub(crate) fn span(&self, room: &RoomId) -> Span {
        match self {
            Self::Room(RoutedCommand { command, traceparent }, _) => {
                let traceparent = traceparent.as_ref().map(tracing::field::display);
                tracing::debug_span!("room_command", %room, command = command.name(), traceparent)
            }
            Self::Local(command, sender) => {
                tracing::debug_span!(parent: sender, "room_command", %room, command = command.name())
            }
        }
    }
}

/// A command of a task of the room to its worker.
pub(crate) enum LocalCommand {
    /// Recompute when the seal is due: a user of another server became live. Also wakes a worker that must stop.
    Nudge,
    /// Copy what the admission of a large edit of this user depends on. The answer is `None` if the user may not edit.
    CopyPast(OwnedUserId, LocalReply<Option<Box<CopiedPast>>>),
    /// Apply a large edit that was admitted in a task. The answer is `None` if it is to be admitted again.
    Edit(
        OwnedUserId,
        ConnectionId,
        Box<AdmittedUpdate>,
        Reply<Option<EditOutcome>>,
    ),
    /// Merge staged events: a timer fired, or this server has just joined the room.
    Ingest,
    /// The same, and process this row and those after it in any case: something that they wait for is here.
    Resume(u64),
    /// Merge a portion of the fetched events. The answer lists what its events still need.
    Merge(Box<Portion>, LocalReply<Vec<Lacks>>),
    /// Work the text out again, if rival claims make that due.
    Settle,
    /// Write a portion of the rows of a text that is being worked out or compacted. The answer is false if that run is
    /// obsolete.
    WriteAhead(RunId, Box<Batch>, LocalReply<bool>),
    /// Install the compacted text. `None`: this run failed.
    Fold(RunId, Option<Box<Folded>>),
    /// Replace the text by the one that was worked out.
    Install(Box<WorkedOut>),
    /// Reference the updates that other servers may have soft-failed, if no event does yet.
    Reconcile(LocalReply<()>),
    /// Send the witness event that was due at this time, unless another event made it unnecessary.
    Witness(u64, LocalReply<()>),
    /// Persist backfilled events, oldest first. The answer names those that can't be decided; it is sent when the
    /// others are on disk.
    History(Vec<Verified>, LocalReply<Vec<UndecidedEvent>>),
    /// All backfilled events are here: work the text out. The answer is sent when it is on disk.
    WorkOut(LocalReply<()>),
    /// Replace pruned updates by these complete copies.
    RestoreUpdates(Vec<Verified>, LocalReply<()>),
}

impl LocalCommand {
    /// The name in traces.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Nudge => "nudge",
            Self::CopyPast(..) => "copy_past",
            Self::Edit(..) => "admitted_edit",
            Self::Ingest => "ingest_staged",
            Self::Resume(_) => "resume",
            Self::Merge(..) => "merge",
            Self::Settle => "settle",
            Self::WriteAhead(..) => "write_ahead",
            Self::Fold(..) => "fold",
            Self::Install(_) => "install",
            Self::Reconcile(_) => "reconcile",
            Self::Witness(..) => "witness",
            Self::History(..) => "history",
            Self::WorkOut(_) => "work_out",
            Self::RestoreUpdates(..) => "restore_updates",
        }
    }
}

/// The channel for an answer. The receiver may be gone; that is no error.
pub(crate) struct Reply<T, E = RoomError>(Box<dyn FnOnce(Result<T, E>) + Send + Sync>);

/// The channel for an answer to a task of the room.
pub(crate) type LocalReply<T> = Reply<T, Unavailable>;

impl<T, E> Reply<T, E> {
    /// Answers.
    pub(crate) fn send(self, answer: Result<T, E>) {
        (self.0)(answer);
    }
}

impl<T: Into<RoomReply>> Reply<T> {
    /// An answer to a caller, who may be in another process.
    pub(crate) fn to_caller(answer: oneshot::Sender<Result<RoomReply, RoomError>>) -> Self {
        Self(Box::new(move |result: Result<T, RoomError>| {
            let _ = answer.send(result.map(Into::into));
        }))
    }
}

impl<T: Send + 'static, E: Send + 'static> Reply<T, E> {
    /// An answer to a task of the room.
    pub(crate) fn to_task(answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self(Box::new(move |result| {
            let _ = answer.send(result);
        }))
    }
}
