//! One document on one socket: sync, edits, acknowledgements, awareness, and the current rights of the user.
//!
//! Independent of the framing: `plain` or `hocuspocus` decodes input, an [`Encoder`] encodes output. Must not acknowledge an
//! edit before `room` has confirmed that it is on disk.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use ruma::RoomId;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;
use weft_accounts::Session;
use weft_fanout::{Change, Joined, RoomSubscription};
use weft_room::Rooms;
use weft_room_api::{ConnectionId, Edit, EditOutcome, EditRefusal, Fill, Partly, RefusedEdit, RoomError};
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
    cursors::Cursors,
    edits::{self, Edits},
    encoder::Encoder,
    inbox::{Held, Inbox},
    outgoing::Out,
    refusals::{self, Unwritable},
    step1_backoff::Step1Backoff,
    target::{self, Target},
};

/// A message about the document, without its envelope.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A state vector; answered with the missing updates.
    Step1(Bytes),
    /// An update.
    Update(Bytes),
    /// The answer to our step 1: an update with everything that the server lacks.
    Step2(Bytes),
    /// The body of an awareness message.
    Awareness(Bytes),
    /// A request for all awareness states.
    QueryAwareness,
    /// A newer token of the same login was checked: its session replaces the earlier one.
    Renewed(Box<Session>),
}

/// A larger part of a message shares the message's memory instead of being copied: part and message then have about the same size.
const COPIED_BYTES: usize = 64 * 1024;

impl Incoming {
    /// `frame` is the message that contains `message`.
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

    /// Bytes received from the client.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Step1(bytes) | Self::Update(bytes) | Self::Step2(bytes) | Self::Awareness(bytes) => bytes.len(),
            Self::QueryAwareness | Self::Renewed(_) => 0,
        }
    }
}

/// The pause before an edit is tried again that has to wait, doubled each time: many sockets may wait for one document.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a document connection ends.
#[derive(Debug)]
enum End {
    /// The client detached the document, or its socket is closed.
    Gone,
    /// The server closes the connection.
    Close(Close),
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// The first event to occur.
enum Next {
    Change(Change),
    Committed(Committed),
    Message(Incoming, Held),
    AwarenessDue,
    /// Missing updates are to be requested again.
    RequestMissing,
    /// The writer can accept messages again.
    Writable,
    /// The access token has expired.
    TokenExpired,
    Gone,
}

/// The outcome of a batch of edits.
struct Committed {
    /// Number of client edits in the batch.
    count: usize,
    /// At least one of them answers a step 1.
    answers: bool,
    outcome: Result<EditOutcome, RoomError>,
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
    /// Edits that depend on missing updates: acknowledged with the step 2 that supplies those.
    unacknowledged: usize,
    backoff: Step1Backoff,
    /// Notices sent: the client's copy contains other users' edits, and (second) its own edits depend on them.
    notified: (bool, bool),
    /// The client knows that the document is nearly full.
    warned: bool,
    /// A state vector that the client certainly has. A client that was too slow is updated from here.
    served: Bytes,
    /// Awareness entries that are not sent yet.
    cursors: Cursors,
    /// The first awareness message was received; it shows which client ids are the client's own.
    announced: bool,
    awareness_at: Instant,
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
            unacknowledged: 0,
            backoff: Step1Backoff::default(),
            notified: (false, false),
            warned: false,
            served: Bytes::from_static(&[0]),
            cursors: Cursors::default(),
            announced: false,
            awareness_at: Instant::now(),
        }
    }

    /// Serves the document until the client or the server ends it; returns the close code if the server ended it.
    pub(super) async fn run(mut self, mut incoming: Inbox) -> Option<Close> {
        // A change between authentication and subscription triggers no wake-up.
        let mut outcome = self.check_rights().await;
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
                    // If the socket accepts no more messages, its writer closes it.
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
        let awareness_at = self.awareness_at;
        let request_at = self.backoff.next_at().filter(|_| self.unacknowledged > 0);
        let out = self.out.clone();
        let token_lasts = self.ports.accounts.time_left(&self.target.session);
        let next = tokio::select! {
            change = self.subscription.next(may_write) => Next::Change(change),
            committed = finished(&mut self.committing) => Next::Committed(committed),
            message = incoming.recv(), if may_read => message.map_or(Next::Gone, |(message, held)| Next::Message(message, held)),
            () = sleep_until(awareness_at), if !self.cursors.is_empty() => Next::AwarenessDue,
            () = until(request_at) => Next::RequestMissing,
            room = out.room(), if !may_write => room.map_or(Next::Gone, |()| Next::Writable),
            () = out.closed(), if may_write => Next::Gone,
            () = elapsed(token_lasts) => Next::TokenExpired,
        };
        match next {
            Next::Change(change) => self.change(change).await,
            Next::Committed(committed) => self.committed(committed).await,
            Next::Message(message, held) => self.message(message, held).await,
            Next::AwarenessDue => self.send_awareness(false).await,
            Next::RequestMissing => self.request_missing().await,
            Next::Writable => Ok(()),
            Next::TokenExpired => self.check_rights().await,
            Next::Gone => Err(End::Gone),
        }
    }

    async fn send(&mut self, message: Bytes) -> Result<(), End> {
        self.out.send(message).await.map_err(|_| End::Gone)
    }

    // --- messages from the client ---

    async fn message(&mut self, message: Incoming, held: Held) -> Result<(), End> {
        let answers = matches!(message, Incoming::Step2(_));
        match message {
            Incoming::Step1(vector) => self.synchronise(&vector).await,
            Incoming::Update(update) | Incoming::Step2(update) => {
                self.edits.push(edits::Edit { update, answers, held });
                Ok(())
            }
            Incoming::Awareness(body) => self.awareness(&body).await,
            Incoming::QueryAwareness => self.send_all_awareness().await,
            Incoming::Renewed(session) => {
                self.target.session = *session;
                match self.encoder.scope(self.target.read_only) {
                    Some(message) => self.send(message).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Sends step 2 with the updates that the client lacks, step 1 for those that the server lacks, and the awareness states.
    async fn synchronise(&mut self, vector: &[u8]) -> Result<(), End> {
        let ours = self
            .bring_up_to_date(vector, |update| SyncMessage::Step2(update))
            .await?;
        self.backoff.sent();
        self.send(self.encoder.sync(SyncMessage::Step1(&ours))).await?;
        self.send_all_awareness().await
    }

    /// Sends step 1 again for the missing updates.
    async fn request_missing(&mut self) -> Result<(), End> {
        let open = self.ports.rooms.open(&self.target.room).await;
        let vector = open.map_err(|error| unopened(&error))?.state_vector;
        self.backoff.sent();
        self.send(self.encoder.sync(SyncMessage::Step1(&vector))).await
    }

    /// Sends the updates that are missing from a vector and records that the client has them; returns the server's vector.
    async fn bring_up_to_date(
        &mut self,
        vector: &[u8],
        message: impl Fn(&[u8]) -> SyncMessage<'_>,
    ) -> Result<Bytes, End> {
        let permit = self.ports.text_reads.permit(&self.joined.user).await;
        let permit = permit.map_err(|_| close::RATE_LIMITED)?;
        // The vector is read first: a commit in between is then also in the difference, and never in neither.
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
        drop(permit);
        self.out.add(answer).await.map_err(|_| End::Gone)?;
        self.served = ours.clone();
        Ok(ours)
    }

    async fn send_all_awareness(&mut self) -> Result<(), End> {
        let entries = self.ports.awareness.states(&self.target.room);
        if entries.is_empty() {
            Ok(())
        } else {
            self.send(self.encoder.awareness(&entries)).await
        }
    }

    async fn awareness(&mut self, body: &[u8]) -> Result<(), End> {
        // An unreadable body is useless to everyone, and is no reason to disconnect a user who is typing.
        let Ok(entries) = awareness::parse(body) else {
            return Ok(());
        };
        // Entries of other clients claim no ids: stock clients repeat all entries that they receive.
        let announces = !std::mem::replace(&mut self.announced, true);
        let own = self.ports.awareness.relevant(&self.joined, entries, announces);
        self.cursors.add(own);
        if self.cursors.is_empty() || Instant::now() < self.awareness_at {
            return Ok(());
        }
        self.send_awareness(announces).await
    }

    async fn send_awareness(&mut self, announces: bool) -> Result<(), End> {
        self.awareness_at = Instant::now() + Duration::from_secs(1) / MAX_AWARENESS_PER_SECOND;
        let entries = self.cursors.take();
        let removals = self.ports.awareness.local(&self.joined, entries, announces).await;
        if removals.is_empty() {
            return Ok(());
        }
        // A stock client that receives its own removal raises its clock. Some clients then send their state, others only on a query.
        self.send(self.encoder.awareness(&removals)).await?;
        self.send(self.encoder.query_awareness()).await
    }

    // --- commits ---

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
        let span = tracing::debug_span!("live_edit", %room, count = batch.count);
        let committing = async move {
            Committed {
                count: batch.count,
                answers: batch.answers,
                outcome: edit_when_possible(&rooms, &room, edit).await,
            }
        }
        .instrument(span);
        self.committing = Some(committing.boxed());
    }

    /// Commits what was read before the client disconnected. No answer is sent, but a user who types and closes the window
    /// expects the text to be saved.
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
                    tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not accepted");
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
            Ok(EditOutcome::NearlyFull(fill)) => {
                self.warn_nearly_full(fill).await?;
                false
            }
            Ok(EditOutcome::Missing { .. }) => true,
            Ok(EditOutcome::Partly(partly)) => self.partly_accepted(partly).await?,
            Err(error) if is_about_one_edit(&error) && self.edits.split() => return Ok(()),
            Err(error) => return self.refused(count, &error).await,
        };
        // An edit of the batch depends on missing updates: the others are on disk now and are acknowledged on their own.
        if missing && self.edits.split() {
            return Ok(());
        }
        self.edits.done();
        if answers {
            self.backoff.answered(!missing, Instant::now());
        }
        if !missing {
            let unacknowledged = if answers {
                std::mem::take(&mut self.unacknowledged)
            } else {
                0
            };
            return self.acknowledge(count + unacknowledged, Ok(())).await;
        }
        self.unacknowledged += count;
        if self.backoff.may_send(Instant::now()) {
            return self.request_missing().await;
        }
        Ok(())
    }

    /// Notifies the client about the parts of its edit that were not accepted unchanged. Returns whether updates are missing.
    async fn partly_accepted(&mut self, partly: Partly) -> Result<bool, End> {
        if let Some(deletes) = &partly.correction {
            self.send(self.encoder.sync(SyncMessage::Update(deletes))).await?;
        }
        for notice in refusals::of_content(&partly.refused) {
            self.send(self.encoder.notice(&notice)).await?;
        }
        let missing = partly.missing.is_some();
        let others = !partly.foreign.is_empty();
        let is_new = others && (!self.notified.0 || (missing && !self.notified.1));
        if is_new {
            self.notified = (true, self.notified.1 || missing);
            let notice = refusals::of_others(partly.foreign, missing);
            self.send(self.encoder.notice(&notice)).await?;
        }
        Ok(missing)
    }

    /// Warns once a connection.
    async fn warn_nearly_full(&mut self, fill: Fill) -> Result<(), End> {
        if std::mem::replace(&mut self.warned, true) {
            return Ok(());
        }
        self.send(self.encoder.notice(&refusals::nearly_full(fill))).await
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

    /// Nobody, or not this user, may edit: the document stays open.
    async fn not_saved(&mut self, count: usize, why: Unwritable, refused: &RefusedEdit) -> Result<(), End> {
        self.edits.done();
        self.acknowledge(count, Err(why.reason())).await?;
        let notice = refusals::of_reader(why, refused);
        self.send(self.encoder.notice(&notice)).await
    }

    async fn refused(&mut self, count: usize, error: &RoomError) -> Result<(), End> {
        let (close, notice) = match error {
            RoomError::Edit(EditRefusal::Role { refused, .. }) => {
                return self.not_saved(count, Unwritable::Role, refused).await;
            }
            RoomError::Edit(EditRefusal::Locked { refused }) => {
                return self.not_saved(count, Unwritable::Lock, refused).await;
            }
            RoomError::Edit(EditRefusal::NotJoined) => (close::FORBIDDEN, None),
            RoomError::UnknownRoom(_) | RoomError::NotADocument(_) => (close::NOT_FOUND, None),
            RoomError::Edit(EditRefusal::Update { rule, reason }) => {
                (close::REFUSED, Some(refusals::of_update(rule, reason)))
            }
            RoomError::Edit(EditRefusal::TooManyClients(_)) => (close::REFUSED, None),
            RoomError::Edit(EditRefusal::TooLarge { bytes, limit }) => {
                (close::TOO_LARGE, Some(refusals::too_large(*bytes, *limit)))
            }
            RoomError::LimitExceeded(exceeded) => (close::RATE_LIMITED, Some(refusals::overspent(exceeded))),
            // The other errors belong to other commands.
            _ => (close::UNAVAILABLE, None),
        };
        tracing::info!(room = %self.target.room, user = %self.joined.user, %error, "edit not accepted");
        self.acknowledge(count, Err(close.reason)).await?;
        if let Some(notice) = notice {
            self.send(self.encoder.notice(&notice)).await?;
        }
        Err(close.into())
    }

    // --- changes of the room ---

    async fn change(&mut self, change: Change) -> Result<(), End> {
        match change {
            Change::Edit(frame) => self.send(self.encoder.edit(&frame)).await,
            Change::Awareness(entries) => self.send(self.encoder.awareness(&entries)).await,
            // Only event streams ask for them.
            Change::Event(_) => Ok(()),
            Change::Lagged => {
                let served = self.served.clone();
                self.bring_up_to_date(&served, |update| SyncMessage::Update(update))
                    .await
                    .map(drop)
            }
            Change::AccessChanged => self.check_rights().await,
            Change::Reload => Err(close::RELOAD.into()),
            Change::Stopping => Err(close::RESTART.into()),
        }
    }

    async fn check_rights(&mut self) -> Result<(), End> {
        target::recheck(&self.ports, &self.target.session).await?;
        let access = target::access(&self.ports, &self.target.room, &self.target.session).await?;
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

/// Writes an edit; waits while the document is edited too often. Meanwhile the edits of the socket collect, and above a number the
/// socket is not read.
async fn edit_when_possible(rooms: &Rooms, room: &RoomId, edit: Edit) -> Result<EditOutcome, RoomError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match rooms.edit(room, edit.clone()).await {
            Err(RoomError::LimitExceeded(exceeded)) if exceeded.is_of_rate() => {
                sleep(exceeded.retry_after.max(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Waits for the commit in progress; never completes if there is none.
async fn finished(committing: &mut Option<Committing>) -> Committed {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}

/// Waits for a duration; never completes if there is none.
pub(super) async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for an instant; never completes if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether the edits of a refused batch could succeed one by one.
fn is_about_one_edit(error: &RoomError) -> bool {
    matches!(
        error,
        RoomError::Edit(
            EditRefusal::Update { .. }
                | EditRefusal::TooLarge { .. }
                | EditRefusal::Role { .. }
                | EditRefusal::Locked { .. }
        )
    )
}

fn unopened(error: &RoomError) -> Close {
    match error {
        RoomError::UnknownRoom(_) | RoomError::NotADocument(_) => close::NOT_FOUND,
        RoomError::BadVector(_) => close::BAD_FRAME,
        cause => {
            tracing::error!(event = "live.open_failed", %cause, "cannot open the document");
            close::UNAVAILABLE
        }
    }
}
