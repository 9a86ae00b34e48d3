//! Updates that were received redacted. Such a copy has its place in the graph, and its content is unknown: otherwise a
//! malicious server could remove text from one server that all others have. The complete event replaces the copy,
//! whenever and from wherever it is received, and the text is worked out with it.
//!
//! [`crate::pruned`] requests the complete events. Must not decide again whether an event is accepted: its content has
//! no part in that.

use std::{collections::BTreeSet, sync::Arc};

use ruma::EventId;
use weft_convergence::rebuild::PersistedEvent;
use weft_dag::{Authorized, Pdu, event_flags};
use weft_ingest::graph::Graph as _;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::PRUNED_UPDATES;
use weft_wire::witness;

use super::merge_session::MergeSession;

impl MergeSession<'_> {
    /// The flag of an update or a witness that was received redacted, recorded as one to request; 0 for every other
    /// event.
    pub(super) fn note_pruned(&mut self, authorized: &Authorized) -> u8 {
        let pdu = authorized.pdu();
        let is_kept = witness::is_kept_whole(pdu.kind()) && pdu.state_key().is_none();
        if !authorized.redacted_on_receipt() || !is_kept || pdu.rejected() || !self.has_text() {
            return 0;
        }
        self.commit.pruned = true;
        let batch = &mut self.commit.batch;
        batch.put(&PRUNED_UPDATES, &(&self.active.id, pdu.event_id()), &());
        event_flags::PRUNED
    }

    /// Whether the room has the event as a pruned update.
    pub(super) async fn is_pruned(&self, pdu: &Pdu) -> Result<bool, Unavailable> {
        Ok(self.event(pdu.event_id()).await?.is_some_and(|known| known.pruned))
    }

    /// Replaces pruned updates by their complete events, and has the text worked out in a separate task.
    pub(crate) async fn restore_updates(&mut self, complete: Vec<Arc<Pdu>>) -> Result<(), Unavailable> {
        let mut restored = Vec::new();
        for pdu in complete {
            if self.is_pruned(&pdu).await?
                && let Some(flags) = self.replace_copy(&pdu).await?
            {
                restored.push(PersistedEvent { pdu, flags });
            }
        }
        let is_whole = self.active.missing.as_ref().is_none_or(BTreeSet::is_empty);
        for event in restored.iter().filter(|event| event_flags::is_reachable(event.flags)) {
            self.take_text(&[], event).await?;
            // Later updates may depend on it. While events are missing, the text is worked out when they arrive.
            if is_whole {
                self.active.note_restored(&mut self.commit.batch);
            }
        }
        Ok(())
    }

    /// Replaces the copy by the event: the same place, the same decision. Returns its flags.
    async fn replace_copy(&mut self, pdu: &Arc<Pdu>) -> Result<Option<u8>, Unavailable> {
        let id: &EventId = pdu.event_id();
        let Some((_, flags)) = self.with_flags(id).await? else {
            return Ok(None);
        };
        let flags = flags & !event_flags::PRUNED;
        self.set_flags(pdu, flags).await?;
        self.commit.batch.delete(&PRUNED_UPDATES, &(&self.active.id, id));
        tracing::info!(room = %self.active.id, event = %id, "an update that was received redacted is complete");
        Ok(Some(flags))
    }
}
