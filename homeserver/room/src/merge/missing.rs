//! The missing events of a room: referenced by accepted events or their ancestors and not here. Rooms have them only
//! while backfill or a gap is incomplete ([`crate::history`]).
//!
//! Stored, so that a worker need not read all events of a long room at start. Must not fetch anything.

use std::collections::BTreeSet;

use ruma::{EventId, OwnedEventId};
use weft_convergence::rebuild;
use weft_dag::{Pdu, event_flags};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{INCOMPLETE_ROOMS, MISSING_EVENTS, NOTHING_MISSING};

use super::merge_session::MergeSession;

impl MergeSession<'_> {
    /// Loads the missing events, once for each start of the worker. `is_incomplete`: the room may have some.
    pub(super) async fn load_missing(&mut self, is_incomplete: bool) -> Result<(), Unavailable> {
        if self.active.missing.is_some() {
            return Ok(());
        }
        let store = self.reader.store();
        if !is_incomplete {
            self.active.missing = Some(BTreeSet::new());
            return Ok(());
        }
        let rows = store.scan_all(MISSING_EVENTS.under(&(&self.active.id,))).await?;
        let mut missing: BTreeSet<OwnedEventId> = rows.into_iter().map(|((_, id), ())| id).collect();
        if missing.is_empty() && !store.contains(&NOTHING_MISSING, &(&self.active.id,)).await? {
            // Written by a version of this program that had no rows: computed once from the events.
            missing = rebuild::missing(&self.persisted_events().await?);
            for id in &missing {
                self.commit.batch.put(&MISSING_EVENTS, &(&self.active.id, id), &());
            }
        }
        self.active.missing = Some(missing);
        Ok(())
    }

    /// Whether an event was missing. It is removed from the missing events.
    pub(super) fn take_missing(&mut self, id: &EventId) -> bool {
        let was_missing = self.active.missing.as_mut().is_some_and(|missing| missing.remove(id));
        if was_missing {
            self.commit.batch.delete(&MISSING_EVENTS, &(&self.active.id, id));
            if self.active.missing.as_ref().is_some_and(BTreeSet::is_empty) {
                self.commit.batch.put(&NOTHING_MISSING, &(&self.active.id,), &());
            }
        }
        was_missing
    }

    /// Notes which `prev_events` of an accepted event, or of an ancestor of one, are not persisted here. Returns true
    /// if there is any.
    pub(super) async fn note_missing(&mut self, pdu: &Pdu) -> Result<bool, Unavailable> {
        let mut some = false;
        for id in pdu.prev_events() {
            let known = self.with_flags(id).await?;
            if known.is_none_or(|(_, flags)| flags & event_flags::OUTLIER != 0) {
                some = true;
                if self.active.missing.get_or_insert_default().insert(id.clone()) {
                    self.commit.batch.put(&MISSING_EVENTS, &(&self.active.id, id), &());
                }
            }
        }
        Ok(some)
    }

    /// Notes that nothing is left to fetch, unless an event is missing.
    pub(crate) fn note_complete_unless_missing(&mut self) {
        if self.active.missing.as_ref().is_some_and(|missing| !missing.is_empty()) {
            return;
        }
        let batch = &mut self.commit.batch;
        batch.delete(&INCOMPLETE_ROOMS, &(&self.active.id,));
        batch.delete(&NOTHING_MISSING, &(&self.active.id,));
    }
}
