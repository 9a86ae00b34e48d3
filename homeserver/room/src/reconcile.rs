//! Forward extremities that some servers accepted and others soft-failed or never received. Until an accepted event
//! references them, honest servers can diverge. There are two kinds: events that were not allowed on another branch, if
//! only for a short time, so that servers with that branch soft-failed them; and events that were not sent to all
//! servers, because the sender's server did not have another server's join. Mostly another event follows soon.
//! Otherwise a server that accepted such an event sends the current membership event of one of its users again, which
//! references all forward extremities. The sender's server does so at once, the others after a delay, in turn.
//!
//! Must not send an event if all servers have the same extremities.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::time::Instant;
use weft_clock::millis;
use weft_dag::Pdu;
use weft_ingest::unconfirmed::{MAX_EXAMINED, UnconfirmedExtremities, unconfirmed_extremities};
use weft_jobs::{Job, Outcome};
use weft_room_api::Unavailable;

use crate::{
    jobs::{JobChange, RoomJob},
    mailbox::{LocalCommand, LocalReply},
    merge::merge_session::MergeSession,
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

/// The time that the sender's server has before the first other one, and each other one before the next: longer than an
/// event takes to arrive.
const ONE_COMMIT: Duration = Duration::from_secs(5);
/// Servers with a turn of their own; the servers after them share the last turn.
const MAX_TURNS: u32 = 12;
/// If another server sends an event this long after an extremity was received here, and does not reference the
/// extremity, that server has not received it.
const RECEIVED_BY_ALL_AFTER: Duration = Duration::from_secs(60);

/// Data about the forward extremities beyond what is stored. Lost with the worker, and collected again.
#[derive(Default)]
pub(crate) struct Reconciliation {
    /// The next check is scheduled.
    is_scheduled: bool,
    /// When extremities were received while this worker ran. All others are older than the worker.
    received: HashMap<OwnedEventId, Instant>,
    /// Another server sent an event long after these were received, and did not reference them.
    not_referenced: HashSet<OwnedEventId>,
}

impl Reconciliation {
    /// A job may not have been committed; one more does no harm.
    pub(crate) fn forget_schedule(&mut self) {
        self.is_scheduled = false;
    }

    /// Updates the data for the current extremities, some of which are new in this turn.
    fn note(&mut self, extremities: &[Arc<Pdu>], commit: &PendingCommit, ours: &ServerName) {
        let is_there: HashSet<_> = extremities.iter().map(|extremity| extremity.event_id()).collect();
        self.received.retain(|id, _| is_there.contains(&**id));
        self.not_referenced.retain(|id| is_there.contains(&**id));
        let (new, old): (Vec<_>, Vec<_>) = extremities
            .iter()
            .partition(|extremity| commit.write(extremity.event_id()).is_some());
        let senders: Vec<_> = new.iter().map(|extremity| extremity.sender().server_name()).collect();
        for extremity in old
            .into_iter()
            .filter(|extremity| extremity.sender().server_name() != ours)
        {
            let author = extremity.sender().server_name();
            let has_sent = senders.iter().any(|sender| **sender != *author && **sender != *ours);
            let received = self.received.get(extremity.event_id());
            if has_sent && received.is_none_or(|received| received.elapsed() > RECEIVED_BY_ALL_AFTER) {
                self.not_referenced.insert(extremity.event_id().to_owned());
            }
        }
        let now = Instant::now();
        self.received
            .extend(new.into_iter().map(|extremity| (extremity.event_id().to_owned(), now)));
    }
}

impl Worker {
    /// Called in the turn in which events of other servers were merged, with the unconfirmed extremities of that turn.
    pub(crate) async fn reconcile(
        &mut self,
        unconfirmed_extremities: &UnconfirmedExtremities,
        commit: &mut PendingCommit,
    ) -> Result<(), Unavailable> {
        let unconfirmed = self.unconfirmed_elsewhere(unconfirmed_extremities, commit).await?;
        let ours = |event: &&Arc<Pdu>| event.sender().server_name() == self.ours();
        // An undelivered event mostly reaches all servers with the next event.
        let only_undelivered = |id: &EventId| {
            unconfirmed_extremities.undelivered.contains(id) && !unconfirmed_extremities.soft_failed.contains(id)
        };
        let at_once = |event: &&Arc<Pdu>| ours(event) && !only_undelivered(event.event_id());
        if let Some(event) = unconfirmed.iter().find(at_once) {
            return self.resend_member_event(event, commit).await;
        }
        if !unconfirmed.is_empty() {
            self.reconcile_later(commit);
        }
        Ok(())
    }

    /// This server's turn: if no event references the extremities yet, sends one.
    pub(crate) async fn reconcile_extremities(&mut self, commit: &mut PendingCommit, reply: LocalReply<()>) {
        self.reconciliation.is_scheduled = false;
        match self.follow_unconfirmed(commit).await {
            Ok(()) => commit.answer(reply, ()),
            Err(error) => reply.send(Err(error)),
        }
    }

    async fn follow_unconfirmed(&mut self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.open().await? else {
            return Ok(());
        };
        let session = MergeSession::new(active, commit, &shared.reader, shared.identity.server_name()).await?;
        let unconfirmed_extremities = unconfirmed_extremities(&session).await?;
        match self
            .unconfirmed_elsewhere(&unconfirmed_extremities, commit)
            .await?
            .first()
        {
            Some(event) => self.resend_member_event(event, commit).await,
            None => Ok(()),
        }
    }

    /// The forward extremities that other servers may have soft-failed or not received.
    async fn unconfirmed_elsewhere(
        &mut self,
        unconfirmed_extremities: &UnconfirmedExtremities,
        commit: &PendingCommit,
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let shared = Arc::clone(&self.shared);
        let active = self.active.as_ref();
        let Some(active) = active.filter(|active| active.document.is_some() && active.is_joined()) else {
            return Ok(Vec::new());
        };
        let is_new = |id: &OwnedEventId| commit.write(id).is_some();
        let examined = || active.extremities.newest(MAX_EXAMINED);
        let stored: Vec<_> = examined().filter(|id| !is_new(id)).cloned().collect();
        let mut extremities = shared.reader.events_of(&self.room, &active.version, &stored).await?;
        let new = examined().filter_map(|id| commit.write(id));
        extremities.extend(new.map(|write| Arc::clone(&write.pdu)));
        self.reconciliation
            .note(&extremities, commit, shared.identity.server_name());
        if extremities.len() < 2 {
            return Ok(Vec::new());
        }
        extremities.retain(|extremity| {
            unconfirmed_extremities.soft_failed.contains(extremity.event_id())
                || unconfirmed_extremities.undelivered.contains(extremity.event_id())
                || self.reconciliation.not_referenced.contains(extremity.event_id())
        });
        Ok(extremities)
    }

    /// Sends again the membership event of the event's sender, or of another local user: it references all extremities.
    pub(crate) async fn resend_member_event(
        &mut self,
        event: &Pdu,
        commit: &mut PendingCommit,
    ) -> Result<(), Unavailable> {
        if let Some(event) = self.send_membership_as(event.sender(), commit).await? {
            tracing::info!(room = %self.room, %event, "sent a membership event again to reconcile forward extremities");
        }
        Ok(())
    }

    /// Schedules a check at this server's turn, unless one is scheduled.
    pub(crate) fn reconcile_later(&mut self, commit: &mut PendingCommit) {
        let Some(active) = &self.active else { return };
        if self.reconciliation.is_scheduled {
            return;
        }
        self.reconciliation.is_scheduled = true;
        let delay = delay_of(active.servers(), self.shared.identity.server_name());
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        commit.jobs.push(JobChange::Request {
            kind: RoomJob::Reconcile,
            due: millis(commit.now).saturating_add(delay),
            payload: String::new(),
        });
    }
}

/// One run of the job of a room. If it was due before this server started, all other servers have their turn first: what
/// they have sent meanwhile may not be here yet.
pub(crate) async fn run(shared: &Arc<Shared>, room: &RoomId, job: &Job) -> Result<Outcome, Unavailable> {
    if job.due() < millis(shared.started) {
        let after = ONE_COMMIT * (MAX_TURNS + 1);
        return Ok(Outcome::Again { after });
    }
    shared.ask(room, LocalCommand::Reconcile).await?;
    Ok(Outcome::Done)
}

/// The delay of a server before it reconciles.
pub(crate) fn delay_of(servers: &BTreeSet<OwnedServerName>, ours: &ServerName) -> Duration {
    let before = servers.iter().take_while(|server| **server != *ours).count();
    ONE_COMMIT * u32::try_from(before).map_or(MAX_TURNS, |before| before.min(MAX_TURNS)) + ONE_COMMIT
}
