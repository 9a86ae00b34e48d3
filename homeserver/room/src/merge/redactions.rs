//! Applies redactions in the room of a worker, whether the redaction or its target is received first.
//!
//! Must not decide who may redact what: the authorisation rules do, by the state at the redaction.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId};
use weft_dag::{Pdu, StateView, redact};
use weft_ingest::graph::Graph as _;
use weft_room_api::Unavailable;
use weft_room_read::{Place, StoredEvent};
use weft_store::tables::rooms::EARLY_REDACTIONS;

use super::merge_session::MergeSession;

/// Redactions of one event that were received before it, read at a time when the event is received. All are examined
/// until one applies: with a limit, redactions by users without the power could hide a valid one. There are at most as
/// many as redaction events that were persisted.
const EARLY_AT_ONCE: usize = 20;

impl MergeSession<'_> {
    /// Applies a redaction to its target if the target is here; otherwise keeps it until the target is received.
    pub(super) async fn take_redaction(&mut self, redaction: &Arc<Pdu>) -> Result<(), Unavailable> {
        let Some(id) = redaction.redacts().filter(|_| redaction.kind() == "m.room.redaction") else {
            return Ok(());
        };
        let of_this_commit = self
            .commit
            .write_mut(id)
            .map(|write| (Arc::clone(&write.pdu), write.flags));
        let of_this_commit = of_this_commit.or_else(|| {
            self.placed
                .get(id)
                .map(|placed| (Arc::clone(&placed.known.pdu), placed.flags))
        });
        let target = match of_this_commit {
            Some((pdu, flags)) => Some(StoredEvent {
                pdu,
                flags,
                place: Place::Unordered,
            }),
            None => self.reader.stored_event(&self.active.id, id).await?,
        };
        match target {
            Some(target) => self.redact(redaction, &target).await.map(|_| ()),
            None => {
                let key = (&self.active.id, id, redaction.event_id());
                self.commit.batch.put(&EARLY_REDACTIONS, &key, &());
                self.early.entry(id.to_owned()).or_default().push(Arc::clone(redaction));
                Ok(())
            }
        }
    }

    /// Applies redactions to an event that is received after them: out of order, or backfilled.
    pub(super) async fn apply_earlier_redactions(&mut self, pdu: &Arc<Pdu>, flags: u8) -> Result<(), Unavailable> {
        let target = StoredEvent {
            pdu: Arc::clone(pdu),
            flags,
            place: Place::Unordered,
        };
        let mut early = self.early.remove(pdu.event_id()).unwrap_or_default();
        let mut is_done = false;
        let mut query = EARLY_REDACTIONS.under(&(&self.active.id, pdu.event_id()));
        loop {
            let rows = if self.ahead.no_early_redactions {
                Vec::new()
            } else {
                self.reader.store().scan(query.limit(EARLY_AT_ONCE)).await?
            };
            let last = rows.last().map(|(key, ())| key.clone());
            let ids: Vec<OwnedEventId> = rows.into_iter().map(|((_, _, redaction), ())| redaction).collect();
            early.extend(
                self.reader
                    .events_of(&self.active.id, &self.active.version, &ids)
                    .await?,
            );
            for redaction in std::mem::take(&mut early) {
                let key = (&self.active.id, pdu.event_id(), redaction.event_id());
                self.commit.batch.delete(&EARLY_REDACTIONS, &key);
                is_done = is_done || self.redact(&redaction, &target).await?;
            }
            let Some(last) = last else { return Ok(()) };
            query = EARLY_REDACTIONS.under(&(&self.active.id, pdu.event_id())).after(&last);
        }
    }

    /// Redacts the target if the redaction applies to it, and returns whether it does.
    async fn redact(&mut self, redaction: &Pdu, target: &StoredEvent) -> Result<bool, Unavailable> {
        let powers = self.powers_at(redaction.event_id()).await?;
        let takes_effect = redact::takes_effect(redaction, &target.pdu, &powers);
        if takes_effect {
            self.active.apply_redaction(self.commit, target, redaction.event_id())?;
        }
        Ok(takes_effect)
    }

    /// The power levels at an event. They decide about a redaction, not the current ones: servers that receive it at
    /// different times would otherwise redact different events.
    async fn powers_at(&self, id: &EventId) -> Result<StateView, Unavailable> {
        let map = self.state_after(id).await?.unwrap_or_else(|| self.active.state.map());
        let mut events = Vec::new();
        for kind in ["m.room.create", "m.room.power_levels"] {
            if let Some(id) = map.get(kind, "") {
                events.extend(self.event(id).await?.map(|known| known.pdu));
            }
        }
        Ok(StateView::from_events(self.active.version.clone(), events))
    }
}
