//! What events of other servers do to the text: admission against their own causal past, updates that were held back and
//! count after all, equal claims.
//!
//! At the tip of the graph the past is all that was merged. At a fork it is the vector of the events that are
//! followed. Must never run a CRDT engine.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId};
use tokio::time::Instant;
use weft_crdt::{ClientId, StateVector, Update};
use weft_dag::Pdu;
use weft_store::tables::documents::EVENT_VECTOR;
use weft_wire::{event_types, update::UpdateContent};

use super::{
    merge_session::MergeSession,
    rebuild::{PersistedEvent, Rebuilt, missing, rebuild},
    stored::StoredRows,
};
use crate::{
    LiveEdit, Unavailable,
    admission::{Judgement, Past, judge},
};

/// The vectors after events of this turn, which the store doesn't have yet.
#[derive(Default)]
pub(super) struct Vectors {
    of: HashMap<OwnedEventId, (StateVector, u64)>,
}

/// What is known before an event.
struct Before {
    vector: StateVector,
    /// The group that holds just that.
    group: Option<u64>,
    /// It is all that was merged.
    at_tip: bool,
}

impl MergeSession<'_> {
    /// Whether the room is a document.
    pub(crate) fn has_text(&self) -> bool {
        self.active.document.is_some()
    }

    /// Lets an accepted event do to the text what it may, after those that count because it follows them, and notes
    /// what is known after each.
    ///
    /// What is held back, and what is rejected, is looked at only here: the text follows from the accepted events and
    /// their ancestors alone, so that it is the same on every server, whatever each of them held back.
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

    /// One event that counts.
    async fn take_update(&mut self, pdu: &Arc<Pdu>) -> Result<(), Unavailable> {
        let before = self.known_before(pdu).await?;
        let carries = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none() && !pdu.rejected();
        let judgement = if carries {
            self.judge(pdu, &before.vector)
        } else {
            Judgement::NothingNew
        };
        let after = match judgement {
            Judgement::Admitted { update, ranges } if self.merge(pdu, &update, &ranges)? => {
                let extremities = ranges.iter().map(|(client, (_, to))| (*client, *to));
                raised(before, extremities)
            }
            Judgement::Admitted { .. } | Judgement::NothingNew => before,
            Judgement::Inadmissible { reason } => {
                self.tally.note(
                    "updates stay out of the text",
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

    /// Merges an admitted update, unless another event's claim to the same blocks may stand instead. True where it is merged.
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
        if ranges.iter().any(|(client, (from, _))| merged.get(*client) > *from) {
            self.note_equal_claim(pdu);
            return Ok(false);
        }
        let new = document.merge(
            &mut self.commit.batch,
            &self.active.id,
            pdu.event_id(),
            pdu.sender(),
            update,
        )?;
        if !new.is_empty() {
            let author = pdu.sender().to_owned();
            self.commit.edits.push(LiveEdit {
                update: new.encode().into(),
                author,
                session: None,
            });
        }
        Ok(true)
    }

    /// Other blocks under ids that are taken: somebody lied. Which of them stand follows from all events together, so
    /// the text is worked out again beside the worker ([`crate::dispute`]): at once, or where that was done a moment ago,
    /// after a while. Until then, and while this server hasn't all events, the one that came first stands.
    fn note_equal_claim(&mut self, pdu: &Pdu) {
        // While events are missing nothing can be worked out, and once they have come everything is.
        if self.active.missing.as_ref().is_some_and(|missing| !missing.is_empty()) {
            return;
        }
        self.active.note_claim(&mut self.commit.batch);
        self.tally.note(
            "events claim clocks that are taken",
            &format_args!("{} of {}", pdu.event_id(), pdu.sender()),
        );
    }

    /// All events that are in their place, those of this turn included.
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

    /// Works the text out from all events that are in their place. False where not all that they follow since the room's
    /// beginning is here, so that it can't be done.
    pub(crate) async fn rebuild_text(&mut self) -> Result<bool, Unavailable> {
        let began = Instant::now();
        let events = self.persisted_events().await?;
        if !missing(&events).is_empty() {
            return Ok(false);
        }
        if self.has_text() {
            let rebuilt = rebuild(events.into_values().collect(), Some(self.ours));
            // What is worked out beside the worker is of fewer events.
            self.active.under_way = None;
            self.replace_text(rebuilt, began, &[]).await?;
        }
        Ok(true)
    }

    /// Puts a text that was worked out since `began` in the place of the one that is there, and lets events do to it what
    /// they may that came to count `meanwhile`.
    pub(crate) async fn replace_text(
        &mut self,
        rebuilt: Rebuilt,
        began: Instant,
        meanwhile: &[Arc<Pdu>],
    ) -> Result<(), Unavailable> {
        if rebuilt.is_disputed {
            let (room, comparisons) = (&self.active.id, rebuilt.comparisons);
            tracing::info!(%room, comparisons, "decided between claims to the same clocks");
        }
        self.vectors.of.clear();
        self.active.note_rebuilt(&mut self.commit.batch, &rebuilt, began);
        let Some(document) = self.active.document.as_mut() else {
            return Ok(());
        };
        let before = document.whole();
        let groups = document.replace(&mut self.commit.batch, &self.active.id, rebuilt)?;
        self.vectors.of.extend(groups);
        // Live clients have these, or load the document anew.
        let remote_state = self.commit.edits.len();
        for pdu in meanwhile {
            if !self.vectors.of.contains_key(pdu.event_id()) {
                self.take_update(pdu).await?;
            }
        }
        self.commit.edits.truncate(remote_state);
        if self
            .active
            .document
            .as_ref()
            .is_some_and(|document| document.whole() != before)
        {
            self.commit.reload = true;
        }
        Ok(())
    }

    // --- What is known where -------------------------------------------------------------------------------------

    async fn known_before(&self, pdu: &Pdu) -> Result<Before, Unavailable> {
        let follows_all = self
            .active
            .extremities
            .iter()
            .all(|end| pdu.prev_events().contains(&end.id));
        let only_ends = pdu.prev_events().iter().all(|id| self.active.is_extremity(id));
        if let Some(document) = &self.active.document
            && follows_all
            && only_ends
        {
            return Ok(Before {
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
        Ok(Before {
            vector,
            group,
            at_tip: false,
        })
    }

    async fn vector_after(&self, id: &EventId) -> Result<Option<(StateVector, u64)>, Unavailable> {
        if let Some(known) = self.vectors.of.get(id) {
            return Ok(Some(known.clone()));
        }
        let Some(group) = self.reader.vector_group_of(&self.active.id, &id.to_owned()).await? else {
            return Ok(None);
        };
        let (vector, _) = self.reader.vector(&self.active.id, group).await?;
        Ok(Some((vector, group)))
    }

    /// Notes what is known after an event.
    fn note(&mut self, event: &EventId, after: Before) {
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

/// What is known after an event that brought blocks up to these ends.
fn raised(before: Before, extremities: impl Iterator<Item = (ClientId, u32)>) -> Before {
    let Before { mut vector, at_tip, .. } = before;
    for (client, end) in extremities {
        vector.raise(client, end);
    }
    Before {
        vector,
        group: None,
        at_tip,
    }
}
