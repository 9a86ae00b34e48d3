//! Events that some servers have accepted and others have not, and that nobody follows: the one thing by which the texts
//! of honest servers could stay different for ever. There are two kinds of them. What somebody sent who, as others had
//! heard, was not allowed to, if only for a moment: they hold it back until an accepted event follows it. And what a
//! server told some and not all, as one that had not heard of another's join. Mostly somebody says something soon. Where
//! nobody does, or nobody may, a server that has accepted such an event has one of its users say again that he is in the
//! room, which follows it. The author's server does so at once, others after a while, in turn.
//!
//! Must not do more than that: no event where all know the same.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};
use tokio::time::Instant;
use weft_dag::Pdu;
use weft_store::tables::rooms::UNRECONCILED_ROOMS;

use crate::{
    Rooms, Unavailable,
    ingest::{
        merge_session::MergeSession,
        unconfirmed::{UnconfirmedExtremities, unconfirmed_extremities},
    },
    mailbox::Command,
    pending_commit::PendingCommit,
    registry::Shared,
    worker::Worker,
};

/// What the author's server has for itself, and each other one before the next: longer than an event takes to arrive.
const ONE_COMMIT: Duration = Duration::from_secs(5);
/// Servers that have a turn of their own; those behind them share the last one.
const MAX_TURNS: u32 = 12;
/// A server that says something so long after we have heard an event, and doesn't follow it, hasn't heard it.
const HEARD_BY_ALL_AFTER: Duration = Duration::from_secs(60);

/// What is known of the ends of the graph beyond what is stored. Lost with the worker, and gathered again.
#[derive(Default)]
pub(crate) struct Reconciliation {
    /// It is settled when this server is next to look.
    set: Arc<AtomicBool>,
    /// When those came that came while this worker ran. All others were there before it.
    came: HashMap<OwnedEventId, Instant>,
    /// Another server spoke long after these had come, and did not follow them.
    passed_over: HashSet<OwnedEventId>,
}

impl Reconciliation {
    /// Notes the ends as they are now, of which some came in this turn.
    fn note(&mut self, extremities: &[Arc<Pdu>], commit: &PendingCommit, ours: &ServerName) {
        let is_there = |id: &OwnedEventId| extremities.iter().any(|end| end.event_id() == id);
        self.came.retain(|id, _| is_there(id));
        self.passed_over.retain(is_there);
        let (new, old): (Vec<_>, Vec<_>) = extremities
            .iter()
            .partition(|end| commit.write(end.event_id()).is_some());
        let speakers: Vec<_> = new.iter().map(|end| end.sender().server_name()).collect();
        for end in old.into_iter().filter(|end| end.sender().server_name() != ours) {
            let author = end.sender().server_name();
            let spoke = speakers
                .iter()
                .any(|speaker| **speaker != *author && **speaker != *ours);
            let came = self.came.get(end.event_id());
            if spoke && came.is_none_or(|came| came.elapsed() > HEARD_BY_ALL_AFTER) {
                self.passed_over.insert(end.event_id().to_owned());
            }
        }
        let now = Instant::now();
        self.came
            .extend(new.into_iter().map(|end| (end.event_id().to_owned(), now)));
    }
}

impl Worker {
    /// To be called when events of others have come in, in the same turn, with what is in doubt then.
    pub(crate) async fn reconcile(
        &mut self,
        unconfirmed_extremities: &UnconfirmedExtremities,
        commit: &mut PendingCommit,
    ) -> Result<(), Unavailable> {
        let unheard = self.unconfirmed_elsewhere(unconfirmed_extremities, commit).await?;
        let ours = |event: &&Arc<Pdu>| event.sender().server_name() == self.ours();
        // Who was only not sent it mostly hears of all with what is said next.
        let only_undelivered = |id: &EventId| {
            unconfirmed_extremities.undelivered.contains(id) && !unconfirmed_extremities.held.contains(id)
        };
        let at_once = |event: &&Arc<Pdu>| ours(event) && !only_undelivered(event.event_id());
        if let Some(event) = unheard.iter().find(at_once) {
            return self.resend_member_event(event, commit).await;
        }
        if !unheard.is_empty() {
            self.reconcile_later(commit);
        }
        Ok(())
    }

    /// Our turn has come: if still nobody has followed them, we do.
    pub(crate) async fn reconcile_extremities(&mut self, commit: &mut PendingCommit) {
        match self.follow_unconfirmed(commit).await {
            Ok(()) => commit.batch.delete(&UNRECONCILED_ROOMS, &(&self.room,)),
            Err(error) => {
                tracing::warn!(room = %self.room, %error, "events that others don't have stay so until the next one");
            }
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

    /// The ends of the graph that others hold back or were not told.
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
        let stored: Vec<_> = active
            .extremities
            .iter()
            .map(|end| end.id.clone())
            .filter(|id| !is_new(id))
            .collect();
        let mut extremities = shared.reader.events_of(&self.room, &active.version, &stored).await?;
        let new = active.extremities.iter().filter_map(|end| commit.write(&end.id));
        extremities.extend(new.map(|write| Arc::clone(&write.pdu)));
        self.reconciliation
            .note(&extremities, commit, shared.identity.server_name());
        if extremities.len() < 2 {
            return Ok(Vec::new());
        }
        extremities.retain(|end| {
            unconfirmed_extremities.held.contains(end.event_id())
                || unconfirmed_extremities.undelivered.contains(end.event_id())
                || self.reconciliation.passed_over.contains(end.event_id())
        });
        Ok(extremities)
    }

    /// Has the event's author, or anybody else of ours, say again that he is in the room: after all ends of the graph.
    pub(crate) async fn resend_member_event(
        &mut self,
        event: &Pdu,
        commit: &mut PendingCommit,
    ) -> Result<(), Unavailable> {
        if let Some(event) = self.send_membership_as(event.sender(), commit).await? {
            tracing::info!(room = %self.room, %event, "follows an event that others don't have");
        }
        Ok(())
    }

    /// Looks again when it is this server's turn; after a start, when all have had theirs.
    pub(crate) fn reconcile_later(&self, commit: &mut PendingCommit) {
        let Some(active) = &self.active else { return };
        if self.reconciliation.set.swap(true, Ordering::AcqRel) {
            return;
        }
        commit.batch.put(&UNRECONCILED_ROOMS, &(&self.room,), &());
        let set = Arc::clone(&self.reconciliation.set);
        tokio::spawn(look_again(
            Arc::clone(&self.shared),
            self.room.clone(),
            delay_of(active.servers(), self.ours()),
            set,
        ));
    }
}

impl Rooms {
    /// At boot: what was to be looked at again still is.
    pub(crate) async fn reconcile_again(&self) -> Result<(), Unavailable> {
        for ((room,), ()) in self.shared.store.scan_all(UNRECONCILED_ROOMS.under(&())).await? {
            let wait = ONE_COMMIT * (MAX_TURNS + 1);
            tokio::spawn(look_again(Arc::clone(&self.shared), room, wait, Arc::default()));
        }
        Ok(())
    }
}

/// Has the room's worker look, after a while.
async fn look_again(shared: Arc<Shared>, room: OwnedRoomId, wait: Duration, set: Arc<AtomicBool>) {
    tokio::time::sleep(wait).await;
    set.store(false, Ordering::Release);
    // Stopping: it is looked at after the next start.
    let _ = shared.send(&room, Command::Reconcile).await;
}

/// How long a server waits for others to do it.
pub(crate) fn delay_of(servers: &BTreeSet<OwnedServerName>, ours: &ServerName) -> Duration {
    let before = servers.iter().take_while(|server| **server != *ours).count();
    ONE_COMMIT * u32::try_from(before).map_or(MAX_TURNS, |before| before.min(MAX_TURNS)) + ONE_COMMIT
}
