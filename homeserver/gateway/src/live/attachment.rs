//! One document on one socket: sync, edits, acknowledgements, awareness, and the rights that hold at this moment.
//!
//! Framing-blind: what comes in was opened by `plain` or `hocuspocus`, what goes out passes a [`Voice`]. Nothing is
//! acknowledged before `room` says that it is on disk.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use weft_fanout::{Change, Joined, RoomSubscription};
use weft_room::{Edit, EditError, EditOutcome, OpenError, SessionId};
use weft_wire::{
    limits::MAX_AWARENESS_PER_SECOND,
    live::{
        awareness,
        close::{self, Close},
        sync::SyncMessage,
    },
};

use super::{
    LivePorts,
    edits::Edits,
    outgoing::Out,
    target::{self, Target},
    voice::Voice,
};

/// A message about the document, out of its envelope.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A state vector: answer with what is missing.
    Step1(Bytes),
    /// An update: the answer to our step 1, or a change.
    Update(Bytes),
    /// An awareness body.
    Awareness(Bytes),
    /// Tell all states.
    QueryAwareness,
}

impl Incoming {
    pub(super) fn from_sync(message: SyncMessage<'_>) -> Self {
        match message {
            SyncMessage::Step1(vector) => Self::Step1(Bytes::copy_from_slice(vector)),
            SyncMessage::Step2(update) | SyncMessage::Update(update) => Self::Update(Bytes::copy_from_slice(update)),
        }
    }
}

/// Why an attachment ends.
#[derive(Debug)]
enum End {
    /// The client detached it, or its socket has gone.
    Gone,
    /// The server ends it.
    Close(Close),
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// What happened first.
enum Next {
    Change(Change),
    Committed(usize, Result<EditOutcome, EditError>),
    Message(Incoming),
    AwarenessTurn,
    /// The writer can take messages again.
    Writable,
    /// The access token's time is over.
    TokenExpired,
    Gone,
}

/// The answer to a batch of edits, and how many edits it stands for.
type Committing = BoxFuture<'static, (usize, Result<EditOutcome, EditError>)>;

/// See the module.
pub(super) struct Attachment {
    ports: LivePorts,
    voice: Voice,
    target: Target,
    session: SessionId,
    joined: Joined,
    subscription: RoomSubscription,
    out: Out,
    edits: Edits,
    committing: Option<Committing>,
    /// Edits that built on something missing: acknowledged with the step 2 that brings it.
    owed: usize,
    /// A state vector that the client certainly has: what it is brought up to date from when it was too slow.
    served: Bytes,
    /// The newest awareness body that waits for its turn.
    awareness: Option<Bytes>,
    awareness_turn: Instant,
}

impl Attachment {
    pub(super) async fn new(ports: LivePorts, voice: Voice, target: Target, out: Out) -> Self {
        let session = ports.sessions.next();
        let (user, device) = (&target.session.user_id, &target.session.device_id);
        let subscription = ports.fanout.subscribe(&target.room, session, user, device);
        let member = ports.roster.member(&target.room, &target.session.user_id).await;
        let joined = Joined {
            room: target.room.clone(),
            session,
            user: target.session.user_id.clone(),
            device: target.session.device_id.clone(),
            display_name: member.and_then(|member| member.display_name),
        };
        Self {
            ports,
            voice,
            target,
            session,
            joined,
            subscription,
            out,
            edits: Edits::default(),
            committing: None,
            owed: 0,
            served: Bytes::from_static(&[0]),
            awareness: None,
            awareness_turn: Instant::now(),
        }
    }

    /// Serves the document until the client or the server ends it; gives the close code where it was the server.
    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>) -> Option<Close> {
        // A change between authentication and subscription has woken nobody.
        let mut outcome = self.look_at_rights().await;
        let end = loop {
            match outcome {
                Ok(()) => outcome = self.step(&mut incoming).await,
                Err(end) => break end,
            }
        };
        if matches!(end, End::Gone) {
            self.commit_rest(incoming).await;
        }
        self.ports.awareness.leave(&self.joined).await;
        match end {
            End::Gone => None,
            End::Close(close) => {
                if let Some(message) = self.voice.detached(close.reason) {
                    // A socket that takes nothing more is closed by its writer.
                    self.out.try_say(message);
                }
                Some(close)
            }
        }
    }

    async fn step(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> Result<(), End> {
        self.commit_next();
        let may_write = self.out.has_room();
        let may_read = self.edits.has_room() && may_write;
        let awareness_turn = self.awareness_turn;
        let out = self.out.clone();
        let token_lasts = self.ports.accounts.time_left(&self.target.session);
        let next = tokio::select! {
            change = self.subscription.next(may_write) => Next::Change(change),
            (count, outcome) = finished(&mut self.committing) => Next::Committed(count, outcome),
            message = incoming.recv(), if may_read => message.map_or(Next::Gone, Next::Message),
            () = sleep_until(awareness_turn), if self.awareness.is_some() => Next::AwarenessTurn,
            room = out.room(), if !may_write => room.map_or(Next::Gone, |()| Next::Writable),
            () = out.closed(), if may_write => Next::Gone,
            () = elapsed(token_lasts) => Next::TokenExpired,
        };
        match next {
            Next::Change(change) => self.change(change).await,
            Next::Committed(count, outcome) => self.committed(count, outcome).await,
            Next::Message(message) => self.message(message).await,
            Next::AwarenessTurn => {
                self.tell_awareness().await;
                Ok(())
            }
            Next::Writable => Ok(()),
            Next::TokenExpired => self.look_at_rights().await,
            Next::Gone => Err(End::Gone),
        }
    }

    async fn send(&mut self, message: Bytes) -> Result<(), End> {
        self.out.say(message).await.map_err(|_| End::Gone)
    }

    // --- from the client ---

    async fn message(&mut self, message: Incoming) -> Result<(), End> {
        match message {
            Incoming::Step1(vector) => self.synchronise(&vector).await,
            Incoming::Update(update) => {
                self.edits.push(update);
                Ok(())
            }
            Incoming::Awareness(body) => {
                self.awareness = Some(body);
                if Instant::now() >= self.awareness_turn {
                    self.tell_awareness().await;
                }
                Ok(())
            }
            Incoming::QueryAwareness => self.show_awareness().await,
        }
    }

    /// Step 2 with what the client lacks, step 1 for what the server lacks, and who is there.
    async fn synchronise(&mut self, vector: &[u8]) -> Result<(), End> {
        let ours = self
            .bring_up_to_date(vector, |update| SyncMessage::Step2(update))
            .await?;
        self.send(self.voice.sync(SyncMessage::Step1(&ours))).await?;
        self.show_awareness().await
    }

    /// Sends what is missing from a vector and remembers that the client has it; gives the server's vector.
    async fn bring_up_to_date(
        &mut self,
        vector: &[u8],
        message: impl Fn(&[u8]) -> SyncMessage<'_>,
    ) -> Result<Bytes, End> {
        // The vector is read first: what is committed in between is in the difference as well, never in neither.
        let room = &self.target.room;
        let ours = self
            .ports
            .rooms
            .open(room)
            .await
            .map_err(|error| unopened(&error))?
            .state_vector;
        let missing = self
            .ports
            .rooms
            .diff(room, vector)
            .await
            .map_err(|error| unopened(&error))?;
        self.send(self.voice.sync(message(&missing))).await?;
        self.served = ours.clone();
        Ok(ours)
    }

    async fn show_awareness(&mut self) -> Result<(), End> {
        let entries = self.ports.awareness.states(&self.target.room);
        if entries.is_empty() {
            Ok(())
        } else {
            self.send(self.voice.awareness(&entries)).await
        }
    }

    async fn tell_awareness(&mut self) {
        let Some(body) = self.awareness.take() else { return };
        self.awareness_turn = Instant::now() + Duration::from_secs(1) / MAX_AWARENESS_PER_SECOND;
        // A body that can't be read is of no use to anybody, and no reason to disturb the person who types.
        if let Ok(entries) = awareness::parse(&body) {
            self.ports.awareness.local(&self.joined, entries).await;
        }
    }

    // --- to disk and back ---

    fn commit_next(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let Some(batch) = self.edits.next() else { return };
        let edit = Edit {
            user: self.joined.user.clone(),
            session: self.session,
            update: batch.update,
        };
        let (rooms, room) = (self.ports.rooms.clone(), self.target.room.clone());
        self.committing = Some(async move { (batch.count, rooms.edit(&room, edit).await) }.boxed());
    }

    /// What was read before the client went is committed all the same. Nobody is told, but who types a last word and
    /// closes the window means it to stay.
    async fn commit_rest(&mut self, mut incoming: mpsc::Receiver<Incoming>) {
        incoming.close();
        while let Some(message) = incoming.recv().await {
            if let Incoming::Update(update) = message {
                self.edits.push(update);
            }
        }
        loop {
            self.commit_next();
            if self.committing.is_none() {
                return;
            }
            let (_, outcome) = finished(&mut self.committing).await;
            self.committing = None;
            match outcome {
                Ok(_) => {}
                Err(error) if is_about_one_edit(&error) && self.edits.split() => {}
                Err(error) => {
                    tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not taken");
                    return;
                }
            }
        }
    }

    async fn committed(&mut self, count: usize, outcome: Result<EditOutcome, EditError>) -> Result<(), End> {
        self.committing = None;
        match outcome {
            Ok(EditOutcome::Journaled | EditOutcome::NothingNew) => {
                let acknowledged = count + std::mem::take(&mut self.owed);
                self.acknowledge(acknowledged, Ok(())).await
            }
            Ok(EditOutcome::Missing { server_vector }) => {
                self.owed += count;
                self.send(self.voice.sync(SyncMessage::Step1(&server_vector))).await
            }
            Err(error) if is_about_one_edit(&error) && self.edits.split() => Ok(()),
            Err(error) => self.refused(count, &error).await,
        }
    }

    async fn acknowledge(&mut self, count: usize, outcome: Result<(), &str>) -> Result<(), End> {
        let Some(message) = self.voice.status(outcome) else {
            return Ok(());
        };
        for _ in 0..count {
            self.send(message.clone()).await?;
        }
        Ok(())
    }

    async fn refused(&mut self, count: usize, error: &EditError) -> Result<(), End> {
        let close = match error {
            EditError::Forbidden { .. } => {
                return self
                    .acknowledge(count, Err("you may read this document, not edit it"))
                    .await;
            }
            EditError::NotJoined => close::FORBIDDEN,
            EditError::UnknownRoom(_) | EditError::NotADocument(_) => close::NOT_FOUND,
            EditError::Malformed(_) | EditError::Refused(_) | EditError::TooManyClients(_) => close::REFUSED,
            EditError::TooLarge { .. } => close::TOO_LARGE,
            EditError::Unavailable(_) => close::UNAVAILABLE,
        };
        tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not taken");
        self.acknowledge(count, Err(close.reason)).await?;
        Err(close.into())
    }

    // --- from the room ---

    async fn change(&mut self, change: Change) -> Result<(), End> {
        match change {
            Change::Edit(frame) => self.send(self.voice.edit(&frame)).await,
            Change::Awareness(entries) => self.send(self.voice.awareness(&entries)).await,
            Change::Lagged => {
                let served = self.served.clone();
                self.bring_up_to_date(&served, |update| SyncMessage::Update(update))
                    .await
                    .map(drop)
            }
            Change::AccessChanged => self.look_at_rights().await,
            Change::Reload => Err(close::RELOAD.into()),
            Change::Stopping => Err(close::RESTART.into()),
        }
    }

    async fn look_at_rights(&mut self) -> Result<(), End> {
        target::recheck(&self.ports, &self.target.session).await?;
        let access = target::standing(&self.ports, &self.target.room, &self.target.session).await?;
        let read_only = !access.can_edit;
        if read_only == self.target.read_only {
            return Ok(());
        }
        self.target.read_only = read_only;
        match self.voice.scope(read_only) {
            Some(message) => self.send(message).await,
            None => Ok(()),
        }
    }
}

/// Waits for the commit under way, for ever where there is none.
async fn finished(committing: &mut Option<Committing>) -> (usize, Result<EditOutcome, EditError>) {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}

/// Waits for a time to pass, for ever where there is none.
async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Whether the edits of a refused batch could fare better one by one.
fn is_about_one_edit(error: &EditError) -> bool {
    matches!(
        error,
        EditError::Malformed(_) | EditError::Refused(_) | EditError::TooLarge { .. } | EditError::Forbidden { .. }
    )
}

fn unopened(error: &OpenError) -> Close {
    match error {
        OpenError::UnknownRoom(_) | OpenError::NotADocument(_) => close::NOT_FOUND,
        OpenError::Vector(_) => close::BAD_FRAME,
        OpenError::Unavailable(cause) => {
            tracing::error!(%cause, "document can't be opened");
            close::UNAVAILABLE
        }
    }
}
