//! What events of other servers do to the text: admission against their own causal past, held-back updates that are
//! merged after all, equal claims.
//!
//! At the tip of the graph the past is all that was merged. At a fork it is the vector of the events that are
//! followed. Must never run a CRDT engine.

use std::collections::{BTreeMap, HashMap, HashSet};

use ruma::{EventId, OwnedEventId};
use weft_crdt::{ClientId, StateVector, Update};
use weft_dag::Pdu;
use weft_store::tables::{documents::EVENT_VECTOR, rooms::event_flags};
use weft_wire::{event_types, update::UpdateContent};

use super::{
    arrive::Arriving,
    graph::Graph as _,
    order::{Links, order},
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

impl Arriving<'_> {
    /// Lets an event do to the text what it may, and notes what is known after it.
    pub(super) async fn take_text(&mut self, pdu: &Pdu, flags: u8) -> Result<(), Unavailable> {
        if self.hot.document.is_none() {
            return Ok(());
        }
        if flags == 0 {
            self.merge_held_back(pdu).await?;
        }
        let before = self.known_before(pdu).await?;
        let carries = pdu.kind() == event_types::UPDATE && pdu.state_key().is_none() && !pdu.rejected();
        let judgement = if carries {
            self.judge(pdu, &before.vector)
        } else {
            Judgement::NothingNew
        };
        let Judgement::Admitted { update, ranges } = judgement else {
            if let Judgement::Inadmissible { reason } = judgement {
                let (room, event, sender) = (pdu.room_id(), pdu.event_id(), pdu.sender());
                tracing::info!(%room, %event, %sender, %reason, "an update stays out of the text");
            }
            self.note(pdu.event_id(), before);
            return Ok(());
        };
        let stands = flags != 0 || self.merge(pdu, &update, &ranges).await?;
        let ends = ranges.iter().map(|(client, (_, to))| (*client, *to));
        let after = if stands {
            raised(before, ends, flags == 0)
        } else {
            before
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
        match &self.hot.document {
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

    /// Merges an admitted update; false where another event's claim to the same blocks stands instead.
    async fn merge(
        &mut self,
        pdu: &Pdu,
        update: &Update,
        ranges: &BTreeMap<ClientId, (u32, u32)>,
    ) -> Result<bool, Unavailable> {
        let Some(document) = self.hot.document.as_mut() else {
            return Ok(false);
        };
        let merged = document.past().vector;
        if ranges.iter().any(|(client, (from, _))| merged.get(*client) > *from) {
            return self.decide_equal_claims(pdu, update, ranges).await;
        }
        let new = document.merge(&mut self.turn.batch, &self.hot.id, pdu.event_id(), pdu.sender(), update)?;
        if !new.is_empty() {
            let author = pdu.sender().to_owned();
            self.turn.edits.push(LiveEdit {
                update: new.encode().into(),
                author,
                session: None,
            });
        }
        Ok(true)
    }

    /// Updates that were held back (soft-failed) are merged when an accepted event follows them: its server had
    /// accepted them, and so all servers end with the same text.
    async fn merge_held_back(&mut self, pdu: &Pdu) -> Result<(), Unavailable> {
        let mut held = Vec::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut work: Vec<OwnedEventId> = pdu.prev_events().to_vec();
        while let Some(id) = work.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let flags = self.flags(&id).await?.unwrap_or(0);
            if flags & event_flags::SOFT_FAILED == 0 {
                continue;
            }
            if let Some(known) = self.event(&id).await? {
                work.extend(known.pdu.prev_events().iter().cloned());
                held.push(known.pdu);
            }
        }
        for held in order(held, Links::All, |pdu| pdu) {
            if held.kind() != event_types::UPDATE || held.state_key().is_some() {
                continue;
            }
            let before = self.known_before(&held).await?;
            if let Judgement::Admitted { update, ranges } = self.judge(&held, &before.vector) {
                let merged = self.hot.document.as_ref().map(|document| document.past().vector);
                let is_new = ranges
                    .iter()
                    .any(|(client, (_, to))| merged.is_none_or(|m| m.get(*client) < *to));
                if is_new || ranges.is_empty() {
                    self.merge(&held, &update, &ranges).await?;
                }
            }
        }
        Ok(())
    }

    /// Other blocks under ids that are taken.
    async fn decide_equal_claims(
        &mut self,
        pdu: &Pdu,
        _update: &Update,
        _ranges: &BTreeMap<ClientId, (u32, u32)>,
    ) -> Result<bool, Unavailable> {
        tracing::warn!(room = %pdu.room_id(), event = %pdu.event_id(), "equal claims");
        Ok(false)
    }

    // --- What is known where -------------------------------------------------------------------------------------

    async fn known_before(&self, pdu: &Pdu) -> Result<Before, Unavailable> {
        let follows_all = self.hot.ends.iter().all(|end| pdu.prev_events().contains(&end.id));
        let only_ends = pdu.prev_events().iter().all(|id| self.hot.is_end(id));
        if let Some(document) = &self.hot.document
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
        let Some(group) = self.reader.vector_group_of(&self.hot.id, &id.to_owned()).await? else {
            return Ok(None);
        };
        let (vector, _) = self.reader.vector(&self.hot.id, group).await?;
        Ok(Some((vector, group)))
    }

    /// Notes what is known after an event.
    fn note(&mut self, event: &EventId, after: Before) {
        let Some(document) = self.hot.document.as_mut() else {
            return;
        };
        let (batch, room) = (&mut self.turn.batch, &self.hot.id);
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

/// What is known after an event that brought blocks up to these ends. One that is held back leaves the tip as it is.
fn raised(before: Before, ends: impl Iterator<Item = (ClientId, u32)>, is_merged: bool) -> Before {
    let Before { mut vector, at_tip, .. } = before;
    for (client, end) in ends {
        vector.raise(client, end);
    }
    Before {
        vector,
        group: None,
        at_tip: at_tip && is_merged,
    }
}
