//! How events of other servers change the text: admission against their own causal past, updates that were soft-failed
//! and become reachable later, conflicting claims.
//!
//! For an event that references all extremities, the past is everything merged. At a fork it is the merged vector of
//! its `prev_events`. Must not run a CRDT engine.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};
use tokio::time::Instant;
use weft_convergence::{
    admission::{Judgement, Past, judge},
    rebuild::PersistedEvent,
};
use weft_crdt::{ClientId, StateVector, Update};
use weft_dag::Pdu;
use weft_document::{Origin, Replacement, VectorsAfter};
use weft_ingest::stored::StoredRows;
use weft_room_api::{LiveEdit, Unavailable};
use weft_store::tables::documents::EVENT_VECTOR;
use weft_wire::{event_types, update::UpdateContent};

use super::merge_session::MergeSession;

/// The vectors after events of this turn, which the store doesn't have yet.
#[derive(Default)]
pub(super) struct Vectors {
    of: HashMap<OwnedEventId, (StateVector, u64)>,
    /// Those of the text that replaced another one in this turn.
    of_replacement: VectorsAfter,
}

impl Vectors {
    fn get(&self, id: &EventId) -> Option<(StateVector, u64)> {
        if let Some(known) = self.of.get(id) {
            return Some(known.clone());
        }
        match &self.of_replacement {
            VectorsAfter::Here(vectors) => {
                let (vector, group) = vectors.get(id)?;
                Some((StateVector::clone(vector), *group))
            }
            VectorsAfter::Written(_) => None,
        }
    }
}

/// The state vector before an event.
struct VectorBefore {
    vector: StateVector,
    /// The group that holds exactly that vector.
    group: Option<u64>,
    /// It is the vector of everything merged.
    at_tip: bool,
}

impl MergeSession<'_> {
    /// Whether the room is a document.
    pub(crate) fn has_text(&self) -> bool {
        self.active.document.is_some()
    }

    /// Applies an accepted event to the text, after those events that become reachable with it, and records the vector
    /// after each.
    ///
    /// Soft-failed and rejected events take part only here: the text follows from the accepted events and their
    /// ancestors alone, so that it is the same on every server, whatever each of them soft-failed.
    pub(super) async fn take_text(
        &mut self,
        brought: &[PersistedEvent],
        event: &PersistedEvent,
    ) -> Result<(), Unavailable> {
        if self.active.document.is_none() {
            return Ok(());
        }
        for one in brought.iter().chain([event]) {
            self.take_update(&one.pdu).await?;
        }
        Ok(())
    }

    /// One reachable event.
    async fn take_update(&mut self, pdu: &Arc<Pdu>) -> Result<(), Unavailable> {
        let before = self.known_before(pdu).await?;
        let is_update = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none() && !pdu.rejected();
        let judgement = if is_update {
            self.judge(pdu, &before.vector)
        } else {
            Judgement::NothingNew
        };
        if matches!(judgement, Judgement::Admitted { .. }) {
            self.active.load_text(self.reader).await?;
        }
        let after = match judgement {
            Judgement::Admitted { update, ranges } if self.merge(pdu, &update, &ranges)? => {
                let clocks = ranges.iter().map(|(client, (_, to))| (*client, *to));
                raised(before, clocks)
            }
            Judgement::Admitted { .. } | Judgement::NothingNew => before,
            Judgement::Inadmissible { reason } => {
                self.tally.note(
                    "updates that are not part of the text",
                    &format_args!("{} of {}: {reason}", pdu.event_id(), pdu.sender()),
                );
                before
            }
        };
        self.note(pdu.event_id(), after);
        Ok(())
    }

    fn judge(&self, pdu: &Pdu, vector: &StateVector) -> Judgement {
        let content: UpdateContent = match pdu.content_as() {
            Ok(content) => content,
            Err(error) => {
                return Judgement::Inadmissible {
                    reason: error.to_string(),
                };
            }
        };
        match &self.active.document {
            Some(document) => judge(
                &content,
                pdu.sender(),
                &Past {
                    vector,
                    owners: document.past().owners,
                },
            ),
            None => Judgement::NothingNew,
        }
    }

    /// Merges an admitted update, unless another event's claim to the same blocks may stand instead. True if it was
    /// merged.
    fn merge(
        &mut self,
        pdu: &Pdu,
        update: &Update,
        ranges: &BTreeMap<ClientId, (u32, u32)>,
    ) -> Result<bool, Unavailable> {
        let Some(document) = self.active.document.as_mut() else {
            return Ok(false);
        };
        let merged = document.past().vector;
        let is_ahead = ranges.iter().any(|(client, (from, _))| merged.get(*client) < *from);
        if is_ahead || !merged.covers(&update.needs()) {
            // The vectors of a text that is being worked out are on disk, and this text has less: the resident server
            // left something out. The update is applied to the text that replaces this one.
            self.tally.note("updates that wait for the text", &pdu.event_id());
            return Ok(false);
        }
        if ranges.iter().any(|(client, (from, _))| merged.get(*client) > *from) {
            self.note_conflicting_claim(pdu);
            return Ok(false);
        }
        let into = (&mut self.commit.batch, self.commit.now.get().into());
        let of = (pdu.event_id(), pdu.sender());
        let new = document.merge(into, &self.active.id, of, update, &Origin::Event)?;
        if !new.is_empty() {
            let author = pdu.sender().to_owned();
            self.commit.edits.push(LiveEdit {
                update: new.encode().into(),
                author,
                session: None,
                version: document.version(),
            });
        }
        Ok(true)
    }

    /// Other blocks under claimed clocks: some server is malicious. All events together decide which claim stands, so
    /// the text is worked out again in a separate task ([`crate::work_out`]): at once, or after a pause if that was done
    /// recently. Until then, and while this server misses events, the first claim that arrived stands.
    fn note_conflicting_claim(&mut self, pdu: &Pdu) {
        // While events are missing the text can't be worked out; when they have arrived it is worked out as a whole.
        if self.active.missing.as_ref().is_some_and(|missing| !missing.is_empty()) {
            return;
        }
        self.active.note_text_due(&mut self.commit.batch);
        self.tally.note(
            "events claim clocks that are already claimed",
            &format_args!("{} of {}", pdu.event_id(), pdu.sender()),
        );
    }

    /// All persisted events, including those of this turn.
    pub(super) async fn persisted_events(&self) -> Result<HashMap<OwnedEventId, PersistedEvent>, Unavailable> {
        let rows = StoredRows::load(self.reader, &self.active.id).await?;
        let mut events = rows.read(&self.active.version)?;
        for (id, (pdu, flags)) in &self.commit.changed {
            let (pdu, flags) = (Arc::clone(pdu), *flags);
            events.insert(id.clone(), PersistedEvent { pdu, flags });
        }
        for write in &self.commit.writes {
            let event = PersistedEvent {
                pdu: Arc::clone(&write.pdu),
                flags: write.flags,
            };
            events.insert(write.pdu.event_id().to_owned(), event);
        }
        Ok(events)
    }

    /// Replaces the text by one that was worked out since `began`, and applies the events that were accepted
    /// `meanwhile`.
    pub(crate) async fn replace_text(
        &mut self,
        new: Replacement,
        began: Instant,
        meanwhile: &[Arc<Pdu>],
    ) -> Result<(), Unavailable> {
        if new.decided.is_disputed {
            let (room, comparisons) = (&self.active.id, new.decided.comparisons);
            tracing::info!(%room, comparisons, "decided between claims to the same clocks");
        }
        self.vectors.of.clear();
        self.active.load_text(self.reader).await?;
        self.active.note_rebuilt(&mut self.commit.batch, &new.decided, began);
        let Some(document) = self.active.document.as_mut() else {
            return Ok(());
        };
        let (before, vectors) = document.replace(&mut self.commit.batch, &self.active.id, new)?;
        self.vectors.of_replacement = vectors;
        // Live clients have these, or load the document again.
        let edits = self.commit.edits.len();
        for pdu in meanwhile {
            if !self.is_taken(pdu.event_id()) {
                self.take_update(pdu).await?;
            }
        }
        self.commit.edits.truncate(edits);
        let document = self.active.document.as_ref();
        if document.is_some_and(|document| document.differs_from(&before)) {
            self.commit.reload = true;
        }
        Ok(())
    }

    /// Whether an event is part of the text that replaced another one in this turn, or was applied to it since. Its vector
    /// does not show that: an event that brought nothing shares the vector of the event before it.
    fn is_taken(&self, id: &EventId) -> bool {
        self.vectors.of.contains_key(id)
            || match &self.vectors.of_replacement {
                VectorsAfter::Here(vectors) => vectors.contains_key(id),
                VectorsAfter::Written(events) => events.binary_search_by(|event| (**event).cmp(id)).is_ok(),
            }
    }

    // --- State vectors of events ---------------------------------------------------------------------------------

    async fn known_before(&self, pdu: &Pdu) -> Result<VectorBefore, Unavailable> {
        let references_all = self.active.extremities.ids().all(|id| pdu.prev_events().contains(id));
        let only_extremities = pdu.prev_events().iter().all(|id| self.active.is_extremity(id));
        if let Some(document) = &self.active.document
            && references_all
            && only_extremities
        {
            return Ok(VectorBefore {
                vector: document.past().vector.clone(),
                group: None,
                at_tip: true,
            });
        }
        let mut vector = StateVector::new();
        let mut group = None;
        for id in pdu.prev_events() {
            if let Some((known, at)) = self.vector_after(id).await? {
                vector.merge_max(&known);
                group = Some(at);
            }
        }
        let group = group.filter(|_| pdu.prev_events().len() == 1);
        Ok(VectorBefore {
            vector,
            group,
            at_tip: false,
        })
    }

    async fn vector_after(&self, id: &EventId) -> Result<Option<(StateVector, u64)>, Unavailable> {
        if let Some(known) = self.vectors.get(id) {
            return Ok(Some(known));
        }
        let Some(group) = self.reader.vector_group_of(&self.active.id, &id.to_owned()).await? else {
            return Ok(None);
        };
        let (vector, _) = self.reader.vector(&self.active.id, group).await?;
        Ok(Some((vector, group)))
    }

    /// Records the vector after an event.
    fn note(&mut self, event: &EventId, after: VectorBefore) {
        let Some(document) = self.active.document.as_mut() else {
            return;
        };
        let (batch, room) = (&mut self.commit.batch, &self.active.id);
        let group = if after.at_tip {
            document.place(batch, room, event)
        } else {
            let clients = || after.vector.iter().map(|(client, end)| (client.get(), end)).collect();
            let group = after
                .group
                .unwrap_or_else(|| document.write_group(batch, room, None, clients()));
            batch.put(&EVENT_VECTOR, &(room, event), &group);
            Some(group)
        };
        if let Some(group) = group {
            self.vectors.of.insert(event.to_owned(), (after.vector, group));
        }
    }
}

/// The vector after an event with blocks up to these clocks.
fn raised(before: VectorBefore, clocks: impl Iterator<Item = (ClientId, u32)>) -> VectorBefore {
    let VectorBefore { mut vector, at_tip, .. } = before;
    for (client, end) in clocks {
        vector.raise(client, end);
    }
    VectorBefore {
        vector,
        group: None,
        at_tip,
    }
}
