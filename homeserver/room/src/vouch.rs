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
use weft_store::tables::rooms::DOUBTED_ROOMS;

use crate::{
    Rooms, Unavailable,
    drain::{
        arrive::Arriving,
        doubt::{Doubts, doubts},
    },
    mailbox::Command,
    registry::Shared,
    turn::Turn,
    worker::Worker,
};

/// What the author's server has for itself, and each other one before the next: longer than an event takes to arrive.
const ONE_TURN: Duration = Duration::from_secs(5);
/// Servers that have a turn of their own; those behind them share the last one.
const MAX_TURNS: u32 = 12;
/// A server that says something so long after we have heard an event, and doesn't follow it, hasn't heard it.
const HEARD_BY_ALL_AFTER: Duration = Duration::from_secs(60);

/// What is known of the ends of the graph beyond what is stored. Lost with the worker, and gathered again.
#[derive(Default)]
pub(crate) struct Vouching {
    /// It is settled when this server is next to look.
    set: Arc<AtomicBool>,
    /// When those came that came while this worker ran. All others were there before it.
    came: HashMap<OwnedEventId, Instant>,
    /// Another server spoke long after these had come, and did not follow them.
    passed_over: HashSet<OwnedEventId>,
}

impl Vouching {
    /// Notes the ends as they are now, of which some came in this turn.
    fn note(&mut self, ends: &[Arc<Pdu>], turn: &Turn, ours: &ServerName) {
        let is_there = |id: &OwnedEventId| ends.iter().any(|end| end.event_id() == id);
        self.came.retain(|id, _| is_there(id));
        self.passed_over.retain(is_there);
        let (new, old): (Vec<_>, Vec<_>) = ends.iter().partition(|end| turn.write(end.event_id()).is_some());
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
    pub(crate) async fn vouch(&mut self, doubts: &Doubts, turn: &mut Turn) -> Result<(), Unavailable> {
        let unheard = self.unheard_elsewhere(doubts, turn).await?;
        let ours = |event: &&Arc<Pdu>| event.sender().server_name() == self.ours();
        // Who was only not sent it mostly hears of all with what is said next.
        let only_untold = |id: &EventId| doubts.untold.contains(id) && !doubts.held.contains(id);
        let at_once = |event: &&Arc<Pdu>| ours(event) && !only_untold(event.event_id());
        if let Some(event) = unheard.iter().find(at_once) {
            return self.follow_with_a_membership(event, turn).await;
        }
        if !unheard.is_empty() {
            self.vouch_later(turn);
        }
        Ok(())
    }

    /// Our turn has come: if still nobody has followed them, we do.
    pub(crate) async fn vouch_for_all(&mut self, turn: &mut Turn) {
        match self.follow_what_is_unheard(turn).await {
            Ok(()) => turn.batch.delete(&DOUBTED_ROOMS, &(&self.room,)),
            Err(error) => {
                tracing::warn!(room = %self.room, %error, "events that others don't have stay so until the next one");
            }
        }
    }

    async fn follow_what_is_unheard(&mut self, turn: &mut Turn) -> Result<(), Unavailable> {
        let shared = Arc::clone(&self.shared);
        let Some(hot) = self.open().await? else { return Ok(()) };
        let arriving = Arriving::new(hot, turn, &shared.reader, shared.identity.server_name()).await?;
        let doubts = doubts(&arriving).await?;
        match self.unheard_elsewhere(&doubts, turn).await?.first() {
            Some(event) => self.follow_with_a_membership(event, turn).await,
            None => Ok(()),
        }
    }

    /// The ends of the graph that others hold back or were not told.
    async fn unheard_elsewhere(&mut self, doubts: &Doubts, turn: &Turn) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let shared = Arc::clone(&self.shared);
        let hot = self.hot.as_ref();
        let Some(hot) = hot.filter(|hot| hot.document.is_some() && hot.is_joined()) else {
            return Ok(Vec::new());
        };
        let is_new = |id: &OwnedEventId| turn.write(id).is_some();
        let stored: Vec<_> = hot
            .ends
            .iter()
            .map(|end| end.id.clone())
            .filter(|id| !is_new(id))
            .collect();
        let mut ends = shared.reader.events_of(&self.room, &hot.version, &stored).await?;
        let new = hot.ends.iter().filter_map(|end| turn.write(&end.id));
        ends.extend(new.map(|write| Arc::clone(&write.pdu)));
        self.vouching.note(&ends, turn, shared.identity.server_name());
        if ends.len() < 2 {
            return Ok(Vec::new());
        }
        ends.retain(|end| {
            doubts.held.contains(end.event_id())
                || doubts.untold.contains(end.event_id())
                || self.vouching.passed_over.contains(end.event_id())
        });
        Ok(ends)
    }

    /// Has the event's author, or anybody else of ours, say again that he is in the room: after all ends of the graph.
    pub(crate) async fn follow_with_a_membership(&mut self, event: &Pdu, turn: &mut Turn) -> Result<(), Unavailable> {
        if let Some(event) = self.speak(event.sender(), turn).await? {
            tracing::info!(room = %self.room, %event, "follows an event that others don't have");
        }
        Ok(())
    }

    /// Looks again when it is this server's turn; after a start, when all have had theirs.
    pub(crate) fn vouch_later(&self, turn: &mut Turn) {
        let Some(hot) = &self.hot else { return };
        if self.vouching.set.swap(true, Ordering::AcqRel) {
            return;
        }
        turn.batch.put(&DOUBTED_ROOMS, &(&self.room,), &());
        let set = Arc::clone(&self.vouching.set);
        tokio::spawn(look_again(
            Arc::clone(&self.shared),
            self.room.clone(),
            turn_of(hot.servers(), self.ours()),
            set,
        ));
    }
}

impl Rooms {
    /// At boot: what was to be looked at again still is.
    pub(crate) async fn vouch_again(&self) -> Result<(), Unavailable> {
        for ((room,), ()) in self.shared.store.scan_all(DOUBTED_ROOMS.under(&())).await? {
            let wait = ONE_TURN * (MAX_TURNS + 1);
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
    let _ = shared.tell(&room, Command::Vouch).await;
}

/// How long a server waits for others to do it.
pub(crate) fn turn_of(servers: &BTreeSet<OwnedServerName>, ours: &ServerName) -> Duration {
    let before = servers.iter().take_while(|server| **server != *ours).count();
    ONE_TURN * u32::try_from(before).map_or(MAX_TURNS, |before| before.min(MAX_TURNS)) + ONE_TURN
}
