//! A document in which two events claim the same clocks: whether the text must be worked out again, when, and which
//! updates this server's next event names as standing.
//!
//! [`weft_convergence::rivals`] decides from all events of the room which claims stand. Where claims are rivals, any later event
//! may change that, and a malicious server can make claims at any rate. So the text is worked out at most once per
//! pause, and the fact that it is due is on disk until then. Must not read the graph, and must not build events: the
//! code that composes an update or a witness writes the field `dev.weft.stands`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use tokio::time::Instant;
use weft_convergence::rebuild::Rebuilt;
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_room_read::Reader;
use weft_store::{
    Batch,
    tables::documents::{DISPUTED_ROOMS, DisputeRow},
};
use weft_wire::{event_types, witness};

use crate::{
    Rooms, active_room::ActiveRoom, forward_extremities::ForwardExtremities, mailbox::LocalCommand,
    pending_commit::PendingCommit, registry::Shared, worker::Worker,
};

/// The minimum time between two runs. The first false claim takes effect at once; of further claims only the first in
/// each pause has a cost.
const PAUSE: Duration = Duration::from_secs(10);
/// The pause is at least this many times the duration of the run: at most 5 % of the time is spent on it.
const PAUSE_PER_COST: u32 = 20;
/// The pause if all new events reference all claims and name none. Such events change what stands only if their server
/// now has too many branches to count.
const LONG_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Events that are recorded as descendants of all claims. Above this number the next one counts as not one.
const MAX_COVERED: usize = 10_000;

/// The dispute of a room in memory. Its row always equals what the store contains after the commit of the current turn.
#[derive(Debug, Default)]
pub(crate) struct Dispute {
    row: DisputeRow,
    /// When the text was last worked out, and from when it may be again. `None`: not since the room was loaded.
    last: Option<(Instant, Instant)>,
    /// An event that is likely to change what stands arrived since.
    is_urgent: bool,
    /// The time for which a timer is set.
    timer: Option<Instant>,
    /// The forward extremities when the text was worked out. `None` until the next event, and after loading.
    extremities: Option<HashSet<OwnedEventId>>,
    /// Events that reference all of these extremities, and so all claims, directly or indirectly.
    covered: HashSet<OwnedEventId>,
}

impl Dispute {
    /// The room's dispute, if it has one.
    pub(crate) async fn load(reader: &Reader, room: &RoomId) -> Result<Option<Self>, Unavailable> {
        let row = reader.store().get(&DISPUTED_ROOMS, &(room,)).await?;
        let loaded = |row: DisputeRow| Self {
            is_urgent: row.due,
            row,
            ..Self::default()
        };
        Ok(row.map(loaded))
    }

    /// Whether the text must be worked out now.
    fn is_due(&self) -> bool {
        self.row.due && self.next() <= Instant::now()
    }

    /// When the text may be worked out again.
    fn next(&self) -> Instant {
        let now = Instant::now();
        match self.last {
            None => now,
            Some((_, next)) if self.is_urgent => next.max(now),
            Some((last, next)) => next.max(last + LONG_PAUSE).max(now),
        }
    }

    /// Whether an event is a descendant of everything that was there when the text was worked out.
    fn covers(&mut self, pdu: &Pdu, extremities: &ForwardExtremities) -> bool {
        // After loading it is not known what was there.
        let known = self.last.is_some();
        let extremities = self
            .extremities
            .get_or_insert_with(|| extremities.ids().cloned().collect());
        let prev = pdu.prev_events();
        let covers = known
            && self.covered.len() < MAX_COVERED
            && (prev.iter().any(|id| self.covered.contains(id)) || extremities.iter().all(|end| prev.contains(end)));
        if covers {
            self.covered.insert(pdu.event_id().to_owned());
        }
        covers
    }
}

impl ActiveRoom {
    /// Which updates the next `dev.weft.update` or `dev.weft.witness` of this server names in `dev.weft.stands`: the
    /// rivals that stand, of those that the event has as ancestors and of which this server never referenced one alone.
    /// At most `MAX_NAMED_EVENTS`; usually none.
    pub(crate) fn stands_to_name(&self) -> &[OwnedEventId] {
        self.dispute.as_ref().map_or(&[], |dispute| &dispute.row.to_name)
    }

    /// Whether clocks were claimed twice when the text was last worked out.
    pub(crate) fn has_rivals(&self) -> bool {
        self.dispute.as_ref().is_some_and(|dispute| dispute.last.is_some())
    }

    /// Records that an event of this turn names these.
    pub(crate) fn note_named(&mut self, batch: &mut Batch, named: &[OwnedEventId]) {
        self.note_again();
        if let Some(dispute) = self.dispute.as_mut() {
            dispute.row.to_name.retain(|id| !named.contains(id));
            dispute.row.due = true;
            dispute.is_urgent = true;
            batch.put(&DISPUTED_ROOMS, &(&self.id,), &dispute.row);
        }
    }

    /// Records an event that is accepted, before it becomes an extremity. `brings`: other events become reachable with
    /// it.
    pub(crate) fn note_in_dispute(&mut self, batch: &mut Batch, pdu: &Pdu, brings: bool) {
        let Some(dispute) = self.dispute.as_mut() else { return };
        let names = witness::is_kept_whole(pdu.kind()) && pdu.json().contains(event_types::STANDS);
        let covers = dispute.covers(pdu, &self.extremities);
        dispute.is_urgent |= brings || names || !covers;
        self.note_again();
        self.put_due(batch);
    }

    /// Records on disk that the text must be worked out.
    fn put_due(&mut self, batch: &mut Batch) {
        let due = self.dispute.as_mut().filter(|dispute| !dispute.row.due);
        if let Some(dispute) = due {
            dispute.row.due = true;
            batch.put(&DISPUTED_ROOMS, &(&self.id,), &dispute.row);
        }
    }

    /// Records that the text must be worked out again, if there are rival claims: events arrived during the run.
    pub(crate) fn note_due(&mut self, batch: &mut Batch) {
        if let Some(dispute) = self.dispute.as_mut() {
            dispute.is_urgent = true;
        }
        self.put_due(batch);
    }

    /// Records that the text can't be worked out now, and will be without a dispute.
    pub(crate) fn note_not_due(&mut self, batch: &mut Batch) {
        if let Some(dispute) = self.dispute.as_mut() {
            dispute.row.due = false;
            batch.put(&DISPUTED_ROOMS, &(&self.id,), &dispute.row);
        }
    }

    /// Records a claim to clocks that are already claimed, or an update that became complete: the text must be worked
    /// out.
    pub(crate) fn note_text_due(&mut self, batch: &mut Batch) {
        self.note_again();
        self.dispute.get_or_insert_default().is_urgent = true;
        self.put_due(batch);
    }

    /// Records that the text was worked out from all events; `began`: the start of the run.
    pub(crate) fn note_rebuilt(&mut self, batch: &mut Batch, rebuilt: &Rebuilt, began: Instant) {
        if !rebuilt.is_disputed {
            if self.dispute.take().is_some() {
                batch.delete(&DISPUTED_ROOMS, &(&self.id,));
            }
            return;
        }
        let now = Instant::now();
        let pause = PAUSE.max(now.duration_since(began) * PAUSE_PER_COST);
        let row = DisputeRow {
            due: false,
            to_name: rebuilt.to_name.clone(),
        };
        batch.put(&DISPUTED_ROOMS, &(&self.id,), &row);
        let timer = self.dispute.take().and_then(|dispute| dispute.timer);
        self.dispute = Some(Dispute {
            row,
            last: Some((now, now + pause)),
            timer,
            ..Dispute::default()
        });
    }
}

impl Worker {
    /// Sets a timer if the text must be worked out again, unless an earlier timer is set. Must be called after the
    /// commit of the turn that made it due.
    pub(crate) fn settle_later(&mut self) {
        let active = self.active.as_mut().filter(|active| active.under_way.is_none());
        let Some(dispute) = active.and_then(|active| active.dispute.as_mut()) else {
            return;
        };
        let next = dispute.next();
        if dispute.row.due && dispute.timer.is_none_or(|timer| next < timer) {
            dispute.timer = Some(next);
            tokio::spawn(settle_at(Arc::clone(&self.shared), self.room.clone(), next));
        }
    }

    /// Works the text out again if that is due.
    pub(crate) async fn settle(&mut self, commit: &mut PendingCommit) {
        if let Err(error) = Box::pin(self.settle_now(commit)).await {
            self.settle_failed(&error, commit);
        }
    }

    pub(crate) fn settle_failed(&mut self, error: &Unavailable, commit: &mut PendingCommit) {
        tracing::error!(
            event = "room.text_failed", room = %self.room, %error,
            "the text can't be worked out from the events"
        );
        commit.abandon();
        // The room is loaded again, including that this is due.
        let again = Instant::now() + LONG_PAUSE;
        tokio::spawn(settle_at(Arc::clone(&self.shared), self.room.clone(), again));
    }

    async fn settle_now(&mut self, commit: &mut PendingCommit) -> Result<(), Unavailable> {
        let Some(active) = self.open().await? else {
            return Ok(());
        };
        let is_under_way = active.under_way.is_some();
        let Some(dispute) = active.dispute.as_mut() else {
            return Ok(());
        };
        if dispute.timer.is_some_and(|timer| timer <= Instant::now()) {
            dispute.timer = None;
        }
        if !dispute.is_due() || is_under_way {
            return Ok(());
        }
        // Pending edits are sealed first.
        self.seal(commit);
        self.fresh(commit).await;
        self.begin_to_work_out(false, None);
        Ok(())
    }
}

impl Rooms {
    /// At boot: restarts what was due.
    pub(crate) async fn settle_again(&self) -> Result<(), Unavailable> {
        for ((room,), row) in self.shared.store.scan_all(DISPUTED_ROOMS.under(&())).await? {
            if row.due {
                tokio::spawn(settle_at(Arc::clone(&self.shared), room, Instant::now() + PAUSE));
            }
        }
        Ok(())
    }
}

async fn settle_at(shared: Arc<Shared>, room: OwnedRoomId, at: Instant) {
    tokio::time::sleep_until(at).await;
    // If the server is stopping: it is due after the next start.
    let _ = shared.send(&room, LocalCommand::Settle).await;
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;
    use weft_dag::{RoomVersion, testing::World};

    use super::*;
    use crate::forward_extremities::{Extremity, StateAfter};

    fn disputed() -> Rebuilt {
        Rebuilt {
            is_disputed: true,
            ..Rebuilt::default()
        }
    }

    fn active() -> ActiveRoom {
        let version = RoomVersion::new(&RoomVersionId::V12).unwrap();
        ActiveRoom::new(&RoomId::parse("!r").unwrap(), version, true)
    }

    fn is_due(active: &ActiveRoom) -> bool {
        active.dispute.as_ref().is_some_and(|dispute| dispute.row.due)
    }

    fn may_be_worked_out(active: &ActiveRoom) -> bool {
        active.dispute.as_ref().is_some_and(Dispute::is_due)
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_false_claims_costs_one_run_per_pause() {
        let (mut active, mut batch) = (active(), Batch::new());
        let mut worked_out = 0;
        for _ in 0..1_000 {
            active.note_text_due(&mut batch);
            if may_be_worked_out(&active) {
                worked_out += 1;
                active.note_rebuilt(&mut batch, &disputed(), Instant::now());
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(worked_out, 10);
        assert!(is_due(&active), "the last claims are still undecided");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_lengthens_the_pause() {
        let (mut active, mut batch) = (active(), Batch::new());
        active.note_text_due(&mut batch);
        assert!(may_be_worked_out(&active));
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        active.note_rebuilt(&mut batch, &disputed(), began);
        tokio::time::advance(Duration::from_secs(59)).await;
        active.note_text_due(&mut batch);
        assert!(!may_be_worked_out(&active));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(may_be_worked_out(&active));
    }

    #[tokio::test(start_paused = true)]
    async fn a_descendant_of_all_claims_is_not_urgent_and_another_event_is() {
        let mut world = World::public(&RoomVersionId::V12, "@alice:a.example", &[("@bob:b.example", 25)]);
        let (mut active, mut batch) = (active(), Batch::new());
        let before = world.head_list();
        active.extremities = ForwardExtremities::stored(before.iter().map(|id| Extremity {
            id: id.clone(),
            depth: 1,
            after: StateAfter::NotRead,
        }));
        active.note_text_due(&mut batch);
        active.note_rebuilt(&mut batch, &disputed(), Instant::now());
        let message = serde_json::json!({ "body": "hello" });
        let follows = world.send_after(&before, "@alice:a.example", "m.room.message", None, message.clone());
        active.note_in_dispute(&mut batch, &follows, false);
        let behind = [follows.event_id().to_owned()];
        let follows = world.send_after(&behind, "@bob:b.example", "m.room.message", None, message.clone());
        active.note_in_dispute(&mut batch, &follows, false);
        assert!(is_due(&active));
        let next = |active: &ActiveRoom| active.dispute.as_ref().unwrap().next();
        assert_eq!(next(&active), Instant::now() + LONG_PAUSE);
        let old = [world.order[0].clone()];
        let concurrent = world.send_after(&old, "@bob:b.example", "m.room.message", None, message);
        active.note_in_dispute(&mut batch, &concurrent, false);
        assert_eq!(next(&active), Instant::now() + PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_without_rivals_has_no_dispute() {
        let (mut active, mut batch) = (active(), Batch::new());
        active.note_text_due(&mut batch);
        active.note_rebuilt(&mut batch, &Rebuilt::default(), Instant::now());
        assert!(active.dispute.is_none());
    }
}
