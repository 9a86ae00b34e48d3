//! Updates of the text that came redacted. Such a copy has its place in the graph, and what it says is not known: a
//! lying server could otherwise take text away from one server that all others have. The whole event, whenever it
//! comes and from wherever, takes the copy's place, and the text is worked out with it.
//!
//! Who is asked for the whole is in [`crate::pruned`]. Must not decide again whether an event stands: its content has
//! no part in that.

use std::sync::Arc;

use ruma::EventId;
use weft_dag::{Authorized, Pdu};
use weft_store::tables::rooms::{PRUNED_ROOMS, PRUNED_UPDATES, event_flags};
use weft_wire::witness;

use super::{graph::Graph as _, merge_session::MergeSession, rebuild::PersistedEvent};
use crate::Unavailable;

impl MergeSession<'_> {
    /// The flag of an update or a witness that came redacted, noted as one to be asked for; 0 for every other event.
    pub(super) fn note_pruned(&mut self, authorized: &Authorized) -> u8 {
        let pdu = authorized.pdu();
        let decides = witness::is_kept_whole(pdu.kind()) && pdu.state_key().is_none();
        if !authorized.redacted_on_receipt() || !decides || pdu.rejected() || !self.has_text() {
            return 0;
        }
        self.commit.pruned = true;
        let batch = &mut self.commit.batch;
        batch.put(&PRUNED_UPDATES, &(&self.active.id, pdu.event_id()), &());
        batch.put(&PRUNED_ROOMS, &(&self.active.id,), &());
        event_flags::PRUNED
    }

    /// Whether the room has the event as a hollow one.
    pub(super) async fn is_pruned(&self, pdu: &Pdu) -> Result<bool, Unavailable> {
        Ok(self.event(pdu.event_id()).await?.is_some_and(|known| known.pruned))
    }

    /// Puts whole events in the places of their hollow copies and works the text out.
    pub(crate) async fn restore_updates(&mut self, whole: Vec<Arc<Pdu>>) -> Result<(), Unavailable> {
        let mut filled = Vec::new();
        for pdu in whole {
            if self.is_pruned(&pdu).await?
                && let Some(flags) = self.replace_copy(&pdu).await?
            {
                filled.push(PersistedEvent { pdu, flags });
            }
        }
        if filled.is_empty() || self.rebuild_text().await? {
            return Ok(());
        }
        // Not all events are here yet; when they are, the text is worked out once more.
        for event in filled.iter().filter(|event| event_flags::is_reachable(event.flags)) {
            self.take_text(&[], event).await?;
        }
        Ok(())
    }

    /// Writes the event over its copy: the same place, the same decision. Gives its flags.
    async fn replace_copy(&mut self, pdu: &Arc<Pdu>) -> Result<Option<u8>, Unavailable> {
        let id: &EventId = pdu.event_id();
        let Some((_, flags)) = self.with_flags(id).await? else {
            return Ok(None);
        };
        let flags = flags & !event_flags::PRUNED;
        self.set_flags(pdu, flags).await?;
        self.commit.batch.delete(&PRUNED_UPDATES, &(&self.active.id, id));
        tracing::info!(room = %self.active.id, event = %id, "an update that had come redacted is whole");
        Ok(Some(flags))
    }
}
