//! One document on one socket: sync, edits, acknowledgements, awareness, and the rights that hold at this moment.
//!
//! Framing-blind: what comes in was opened by `plain` or `hocuspocus`, what goes out passes a [`Encoder`]. Nothing is
//! acknowledged before `room` says that it is on disk.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};
use weft_accounts::Session;
use weft_crdt::Refusal;
use weft_fanout::{Change, Joined, RoomSubscription};
use weft_room::{ConnectionId, Edit, EditError, EditOutcome, OpenError, Partly};
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
    asking::Asking,
    cursors::Cursors,
    edits::{self, Edits},
    encoder::Encoder,
    inbox::{Held, Inbox},
    outgoing::Out,
    refusals,
    target::{self, Target},
};

/// A message about the document, out of its envelope.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A state vector: answer with what is missing.
    Step1(Bytes),
    /// A change.
    Update(Bytes),
    /// The answer to our step 1: an update with all that the server had not.
    Step2(Bytes),
    /// An awareness body.
    Awareness(Bytes),
    /// Tell all states.
    QueryAwareness,
    /// A newer token of the same sign-in was checked: its session takes the place of the one before.
    Renewed(Box<Session>),
}

/// Above this a part of a message keeps the whole message in memory instead of being copied: they are of about one size.
const COPIED_BYTES: usize = 64 * 1024;

impl Incoming {
    /// `frame` is the message that it was read from.
    pub(super) fn from_sync(message: SyncMessage<'_>, frame: &Bytes) -> Self {
        let part = |bytes: &[u8]| {
            if bytes.len() > COPIED_BYTES {
                frame.slice_ref(bytes)
            } else {
                Bytes::copy_from_slice(bytes)
            }
        };
        match message {
            SyncMessage::Step1(vector) => Self::Step1(part(vector)),
            SyncMessage::Step2(update) => Self::Step2(part(update)),
            SyncMessage::Update(update) => Self::Update(part(update)),
        }
    }

    /// Bytes that came from the client.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Step1(bytes) | Self::Update(bytes) | Self::Step2(bytes) | Self::Awareness(bytes) => bytes.len(),
            Self::QueryAwareness | Self::Renewed(_) => 0,
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
    Committed(Committed),
    Message(Incoming, Held),
    AwarenessTurn,
    /// What was missing is to be asked for again.
    AskAgain,
    /// The writer can take messages again.
    Writable,
    /// The access token's time is over.
    TokenExpired,
    Gone,
}

/// What became of a batch of edits.
struct Committed {
    /// How many edits of the client it stands for.
    count: usize,
    /// One of them answers a step 1.
    answers: bool,
    outcome: Result<EditOutcome, EditError>,
}

type Committing = BoxFuture<'static, Committed>;

/// See the module.
pub(super) struct DocumentConnection {
    ports: LivePorts,
    encoder: Encoder,
    target: Target,
    session: ConnectionId,
    joined: Joined,
    subscription: RoomSubscription,
    out: Out,
    edits: Edits,
    committing: Option<Committing>,
    /// Edits that built on something missing: acknowledged with the step 2 that brings it.
    owed: usize,
    asking: Asking,
    /// The client was told of other users' edits in its copy, and (second) that own ones wait for them.
    told_of_others: (bool, bool),
    /// A state vector that the client certainly has: what it is brought up to date from when it was too slow.
    served: Bytes,
    /// Awareness that waits for its turn.
    cursors: Cursors,
    /// The first awareness message has come: it tells which ids are the client's own.
    announced: bool,
    awareness_turn: Instant,
}

impl DocumentConnection {
    pub(super) async fn new(ports: LivePorts, encoder: Encoder, target: Target, out: Out) -> Self {
        let session = ports.sessions.next();
        let (user, device) = (&target.session.user_id, &target.session.device_id);
        let subscription = ports.fanout.subscribe(&target.room, session, user, device);
        let member = ports
            .membership_view
            .member(&target.room, &target.session.user_id)
            .await;
        let joined = Joined {
            room: target.room.clone(),
            session,
            user: target.session.user_id.clone(),
            device: target.session.device_id.clone(),
            display_name: member.and_then(|member| member.display_name),
        };
        Self {
            ports,
            encoder,
            target,
            session,
            joined,
            subscription,
            out,
            edits: Edits::default(),
            committing: None,
            owed: 0,
            asking: Asking::default(),
            told_of_others: (false, false),
            served: Bytes::from_static(&[0]),
            cursors: Cursors::default(),
            announced: false,
            awareness_turn: Instant::now(),
        }
    }

    /// Serves the document until the client or the server ends it; gives the close code where it was the server.
    pub(super) async fn run(mut self, mut incoming: Inbox) -> Option<Close> {
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
                if let Some(message) = self.encoder.detached(close.reason) {
                    // A socket that takes nothing more is closed by its writer.
                    self.out.try_send(message);
                }
                Some(close)
            }
        }
    }

    async fn step(&mut self, incoming: &mut Inbox) -> Result<(), End> {
        self.commit_next();
        let may_write = self.out.has_room();
        let may_read = self.edits.has_room() && may_write;
        let awareness_turn = self.awareness_turn;
        let ask_again_at = self.asking.ask_again_at().filter(|_| self.owed > 0);
        let out = self.out.clone();
        let token_lasts = self.ports.accounts.time_left(&self.target.session);
        let next = tokio::select! {
            change = self.subscription.next(may_write) => Next::Change(change),
            committed = finished(&mut self.committing) => Next::Committed(committed),
            message = incoming.recv(), if may_read => message.map_or(Next::Gone, |(message, held)| Next::Message(message, held)),
            () = sleep_until(awareness_turn), if !self.cursors.is_empty() => Next::AwarenessTurn,
            () = until(ask_again_at) => Next::AskAgain,
            room = out.room(), if !may_write => room.map_or(Next::Gone, |()| Next::Writable),
            () = out.closed(), if may_write => Next::Gone,
            () = elapsed(token_lasts) => Next::TokenExpired,
        };
        match next {
            Next::Change(change) => self.change(change).await,
            Next::Committed(committed) => self.committed(committed).await,
            Next::Message(message, held) => self.message(message, held).await,
            Next::AwarenessTurn => self.tell_awareness(false).await,
            Next::AskAgain => self.ask().await,
            Next::Writable => Ok(()),
            Next::TokenExpired => self.look_at_rights().await,
            Next::Gone => Err(End::Gone),
        }
    }

    async fn send(&mut self, message: Bytes) -> Result<(), End> {
        self.out.send(message).await.map_err(|_| End::Gone)
    }

    // --- from the client ---

    async fn message(&mut self, message: Incoming, held: Held) -> Result<(), End> {
        let answers = matches!(message, Incoming::Step2(_));
        match message {
            Incoming::Step1(vector) => self.synchronise(&vector).await,
            Incoming::Update(update) | Incoming::Step2(update) => {
                self.edits.push(edits::Edit { update, answers, held });
                Ok(())
            }
            Incoming::Awareness(body) => self.awareness(&body).await,
            Incoming::QueryAwareness => self.show_awareness().await,
            Incoming::Renewed(session) => {
                self.target.session = *session;
                match self.encoder.scope(self.target.read_only) {
                    Some(message) => self.send(message).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Step 2 with what the client lacks, step 1 for what the server lacks, and who is there.
    async fn synchronise(&mut self, vector: &[u8]) -> Result<(), End> {
        let ours = self
            .bring_up_to_date(vector, |update| SyncMessage::Step2(update))
            .await?;
        self.asking.asked();
        self.send(self.encoder.sync(SyncMessage::Step1(&ours))).await?;
        self.show_awareness().await
    }

    /// Step 1 again, for what was missing.
    async fn ask(&mut self) -> Result<(), End> {
        let open = self.ports.rooms.open(&self.target.room).await;
        let vector = open.map_err(|error| unopened(&error))?.state_vector;
        self.asking.asked();
        self.send(self.encoder.sync(SyncMessage::Step1(&vector))).await
    }

    /// Sends what is missing from a vector and remembers that the client has it; gives the server's vector.
    async fn bring_up_to_date(
        &mut self,
        vector: &[u8],
        message: impl Fn(&[u8]) -> SyncMessage<'_>,
    ) -> Result<Bytes, End> {
        let turn = self.ports.text_reads.turn(&self.joined.user).await;
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
        let answer = self.out.charged(self.encoder.sync(message(&missing)));
        drop(missing);
        drop(turn);
        self.out.add(answer).await.map_err(|_| End::Gone)?;
        self.served = ours.clone();
        Ok(ours)
    }

    async fn show_awareness(&mut self) -> Result<(), End> {
        let entries = self.ports.awareness.states(&self.target.room);
        if entries.is_empty() {
            Ok(())
        } else {
            self.send(self.encoder.awareness(&entries)).await
        }
    }

    async fn awareness(&mut self, body: &[u8]) -> Result<(), End> {
        // A body that can't be read is of no use to anybody, and no reason to disturb the person who types.
        let Ok(entries) = awareness::parse(body) else {
            return Ok(());
        };
        // What is of others takes no turn: stock clients repeat all that they are told.
        let announces = !std::mem::replace(&mut self.announced, true);
        let own = self.ports.awareness.relevant(&self.joined, entries, announces);
        self.cursors.add(own);
        if self.cursors.is_empty() || Instant::now() < self.awareness_turn {
            return Ok(());
        }
        self.tell_awareness(announces).await
    }

    async fn tell_awareness(&mut self, announces: bool) -> Result<(), End> {
        self.awareness_turn = Instant::now() + Duration::from_secs(1) / MAX_AWARENESS_PER_SECOND;
        let entries = self.cursors.take();
        let removals = self.ports.awareness.local(&self.joined, entries, announces).await;
        if removals.is_empty() {
            return Ok(());
        }
        // A stock client that is told that it has gone raises its clock. Some say so at once, others when they are asked.
        self.send(self.encoder.awareness(&removals)).await?;
        self.send(self.encoder.query_awareness()).await
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
        let committing = async move {
            Committed {
                count: batch.count,
                answers: batch.answers,
                outcome: rooms.edit(&room, edit).await,
            }
        };
        self.committing = Some(committing.boxed());
    }

    /// What was read before the client went is committed all the same. Nobody is told, but who types a last word and
    /// closes the window means it to stay.
    async fn commit_rest(&mut self, mut incoming: Inbox) {
        incoming.close();
        while let Some((message, held)) = incoming.recv().await {
            if let Incoming::Update(update) | Incoming::Step2(update) = message {
                let answers = false;
                self.edits.push(edits::Edit { update, answers, held });
            }
        }
        loop {
            self.commit_next();
            if self.committing.is_none() {
                return;
            }
            let committed = finished(&mut self.committing).await;
            self.committing = None;
            match committed.outcome {
                Ok(_) => {}
                Err(error) if is_about_one_edit(&error) && self.edits.split() => {}
                Err(error) => {
                    tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not taken");
                    return;
                }
            }
        }
    }

    async fn committed(&mut self, committed: Committed) -> Result<(), End> {
        self.committing = None;
        let Committed {
            count,
            answers,
            outcome,
        } = committed;
        let missing = match outcome {
            Ok(EditOutcome::Journaled | EditOutcome::NothingNew) => false,
            Ok(EditOutcome::Missing { .. }) => true,
            Ok(EditOutcome::Partly(partly)) => self.not_taken(partly).await?,
            Err(error) if is_about_one_edit(&error) && self.edits.split() => return Ok(()),
            Err(error) => return self.refused(count, &error).await,
        };
        // What one of several builds on is missing: the others are on disk now, and are acknowledged by themselves.
        if missing && self.edits.split() {
            return Ok(());
        }
        self.edits.done();
        if answers {
            self.asking.answered(!missing, Instant::now());
        }
        if !missing {
            let owed = if answers { std::mem::take(&mut self.owed) } else { 0 };
            return self.acknowledge(count + owed, Ok(())).await;
        }
        self.owed += count;
        if self.asking.may_ask(Instant::now()) {
            return self.ask().await;
        }
        Ok(())
    }

    /// Tells the client what of its edit was not taken as it came. Gives whether something is missing.
    async fn not_taken(&mut self, partly: Partly) -> Result<bool, End> {
        if let Some(deletes) = &partly.correction {
            self.send(self.encoder.sync(SyncMessage::Update(deletes))).await?;
        }
        for notice in refusals::of_content(&partly.refused) {
            self.send(self.encoder.notice(&notice)).await?;
        }
        let missing = partly.missing.is_some();
        let others = !partly.foreign.is_empty();
        let news = others && (!self.told_of_others.0 || (missing && !self.told_of_others.1));
        if news {
            self.told_of_others = (true, self.told_of_others.1 || missing);
            let notice = refusals::of_others(partly.foreign, missing);
            self.send(self.encoder.notice(&notice)).await?;
        }
        Ok(missing)
    }

    async fn acknowledge(&mut self, count: usize, outcome: Result<(), &str>) -> Result<(), End> {
        let Some(message) = self.encoder.status(outcome) else {
            return Ok(());
        };
        for _ in 0..count {
            self.send(message.clone()).await?;
        }
        Ok(())
    }

    async fn refused(&mut self, count: usize, error: &EditError) -> Result<(), End> {
        let (close, notice) = match error {
            EditError::Forbidden { .. } => {
                self.edits.done();
                return self
                    .acknowledge(count, Err("you may read this document, not edit it"))
                    .await;
            }
            EditError::NotJoined => (close::FORBIDDEN, None),
            EditError::UnknownRoom(_) | EditError::NotADocument(_) => (close::NOT_FOUND, None),
            EditError::Malformed(error) => {
                let refusal = Refusal::Malformed(*error);
                (close::REFUSED, Some(refusals::of_update(&refusal)))
            }
            EditError::Refused(refusal) => (close::REFUSED, Some(refusals::of_update(refusal))),
            EditError::TooManyClients(_) => (close::REFUSED, None),
            EditError::TooLarge { bytes, limit } => (close::TOO_LARGE, Some(refusals::too_large(*bytes, *limit))),
            EditError::Unavailable(_) => (close::UNAVAILABLE, None),
        };
        tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not taken");
        self.acknowledge(count, Err(close.reason)).await?;
        if let Some(notice) = notice {
            self.send(self.encoder.notice(&notice)).await?;
        }
        Err(close.into())
    }

    // --- from the room ---

    async fn change(&mut self, change: Change) -> Result<(), End> {
        match change {
            Change::Edit(frame) => self.send(self.encoder.edit(&frame)).await,
            Change::Awareness(entries) => self.send(self.encoder.awareness(&entries)).await,
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
        match self.encoder.scope(read_only) {
            Some(message) => self.send(message).await,
            None => Ok(()),
        }
    }
}

/// Waits for the commit under way, for ever where there is none.
async fn finished(committing: &mut Option<Committing>) -> Committed {
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

/// Waits for a moment, for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
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
