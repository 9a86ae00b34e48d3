//! The text at given events from the nearest checkpoint: the checkpoint's text, and the updates between it and the
//! events. A server that has no checkpoint before them replays all their ancestors ([`super::content`]).
//!
//! An update is judged by its own past, which the state vectors on disk give. Where clocks are claimed twice, or events
//! are missing, that is not enough, and the text is replayed. Must not write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use ruma::{EventId, OwnedEventId, RoomId};
use weft_convergence::{
    admission::{Judgement, Owners, Past, admit_at},
    rebuild::claim_of,
};
use weft_crdt::{ClientId, Document, StateVector};
use weft_dag::order::{Links, order};
use weft_dag::{Pdu, event_flags};
use weft_room_api::{ContentRefusal, RoomError, Unavailable};
use weft_store::tables::{
    documents::{CHECKPOINTS, CLIENT_OWNERS, CheckpointRow, DISPUTED_ROOMS, SNAPSHOT_PARTS},
    rooms::INCOMPLETE_ROOMS,
};

use crate::{Reader, StoredEvent};

/// Events that are loaded at a time during the walk back.
const STEP: usize = 256;
/// Events between a checkpoint and the requested events that are examined; checkpoints of a document in use are nearer.
/// Beyond that, the text is replayed.
const MAX_BETWEEN: usize = 4_096;

/// The events between the requested ones and a checkpoint.
#[derive(Default)]
pub(crate) struct Walk {
    /// Not loaded yet.
    open: Vec<OwnedEventId>,
    seen: BTreeSet<OwnedEventId>,
    /// Not part of the checkpoint.
    between: Vec<StoredEvent>,
    /// Part of the checkpoint, and referenced by an event that is not.
    edge: BTreeMap<OwnedEventId, StoredEvent>,
}

impl Reader {
    /// `None` if the text must be replayed.
    pub(super) async fn text_by_checkpoint(
        &self,
        room: &RoomId,
        at: &[OwnedEventId],
    ) -> Result<Option<Bytes>, RoomError> {
        let is_disputed = self.store.contains(&DISPUTED_ROOMS, &(room,)).await;
        let is_incomplete = self.store.contains(&INCOMPLETE_ROOMS, &(room,)).await;
        if is_disputed.map_err(Unavailable::from)? || is_incomplete.map_err(Unavailable::from)? {
            return Ok(None);
        }
        let mut walk = Walk::of(at);
        let newest = self.newest_position(room, at).await?;
        let Some(mut candidate) = self.checkpoint_up_to(room, newest).await? else {
            return Ok(None);
        };
        loop {
            let (seq, checkpoint) = candidate;
            if !walk.back_to(self, room, checkpoint.position).await? {
                return Ok(None);
            }
            if checkpoint.heads.iter().all(|head| walk.edge.contains_key(head)) {
                return self.text_after(room, &checkpoint, walk.between).await;
            }
            // The events are on a branch that the checkpoint is not before.
            let Some(older) = self.checkpoint_below(room, seq).await? else {
                return Ok(None);
            };
            candidate = older;
        }
    }

    /// The highest stream position of the events.
    async fn newest_position(&self, room: &RoomId, at: &[OwnedEventId]) -> Result<u64, RoomError> {
        let events = self.events(room, at).await?;
        Ok(events.iter().map(|event| event.place.to_row()).max().unwrap_or(0))
    }

    /// The newest checkpoint of which no event is newer than this position. Positions grow with the numbers of
    /// checkpoints, so a binary search finds it.
    async fn checkpoint_up_to(&self, room: &RoomId, position: u64) -> Result<Option<(u64, CheckpointRow)>, RoomError> {
        let Some(newest) = self.checkpoint_below(room, u64::MAX).await? else {
            return Ok(None);
        };
        if newest.1.position <= position {
            return Ok(Some(newest));
        }
        let (mut low, mut high, mut found) = (0, newest.0, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.checkpoint_below(room, middle.saturating_add(1)).await? {
                Some((seq, row)) if row.position > position => high = seq,
                older => {
                    found = older.or(found);
                    low = middle + 1;
                }
            }
        }
        Ok(found)
    }

    /// The newest checkpoint with a lower number.
    pub(crate) async fn checkpoint_below(
        &self,
        room: &RoomId,
        seq: u64,
    ) -> Result<Option<(u64, CheckpointRow)>, RoomError> {
        let query = CHECKPOINTS.under(&(room,)).before(&(room, seq)).reversed().limit(1);
        let rows = self.store.scan(query).await.map_err(Unavailable::from)?;
        Ok(rows.into_iter().next().map(|((_, seq), row)| (seq, row)))
    }

    /// The checkpoint's text with the updates of these events.
    async fn text_after(
        &self,
        room: &RoomId,
        checkpoint: &CheckpointRow,
        between: Vec<StoredEvent>,
    ) -> Result<Option<Bytes>, RoomError> {
        let Some(base) = self.checkpoint_text(room, checkpoint).await? else {
            return Ok(None);
        };
        let mut text = TextAfter {
            reader: self,
            room,
            checkpoint,
            base: base.state_vector().clone(),
            text: base,
            owners: Owners::default(),
            vectors: HashMap::new(),
        };
        for event in order(between, Links::All, |event| &event.pdu) {
            if !text.take(&event).await? {
                return Ok(None);
            }
        }
        let mut text = text.text;
        text.compact();
        Ok(Some(text.encode().into()))
    }

    /// `None` if the checkpoint was superseded meanwhile.
    async fn checkpoint_text(&self, room: &RoomId, row: &CheckpointRow) -> Result<Option<Document>, RoomError> {
        let bytes = self.checkpoint_bytes(room, row).await?;
        let text = bytes.map(Document::from_update).transpose();
        text.map_err(|error| ContentRefusal::Unmergeable(error.to_string()).into())
    }

    /// The same as bytes.
    pub(crate) async fn checkpoint_bytes(
        &self,
        room: &RoomId,
        row: &CheckpointRow,
    ) -> Result<Option<Bytes>, Unavailable> {
        let parts = self
            .store
            .scan_all(SNAPSHOT_PARTS.under(&(room, row.generation)))
            .await?;
        let mut parts: Vec<Bytes> = parts.into_iter().map(|(_, part)| part).collect();
        if usize::try_from(row.parts).ok() != Some(parts.len()) {
            return Ok(None);
        }
        Ok(Some(match parts.len() {
            1 => parts.remove(0),
            _ => parts.concat().into(),
        }))
    }
}

impl Walk {
    fn of(at: &[OwnedEventId]) -> Self {
        Self {
            open: at.to_vec(),
            seen: at.iter().cloned().collect(),
            ..Self::default()
        }
    }

    /// Adds an event to go back from.
    pub(crate) fn begin(&mut self, event: &OwnedEventId) {
        if self.seen.insert(event.clone()) {
            self.open.push(event.clone());
        }
    }

    /// Whether it came to an event.
    pub(crate) fn has(&self, event: &OwnedEventId) -> bool {
        self.seen.contains(event)
    }

    /// Goes back to the accepted events up to a position, which are all part of a checkpoint at this position or have
    /// nothing to do with it. False if that is too far.
    pub(crate) async fn back_to(&mut self, reader: &Reader, room: &RoomId, position: u64) -> Result<bool, RoomError> {
        let edge = std::mem::take(&mut self.edge);
        for (id, event) in edge {
            self.take(id, event, position);
        }
        while !self.open.is_empty() {
            if self.seen.len() > MAX_BETWEEN {
                return Ok(false);
            }
            let rest = self.open.split_off(self.open.len().min(STEP));
            let wanted = std::mem::replace(&mut self.open, rest);
            let events = reader.events(room, &wanted).await?;
            let mut found: BTreeMap<OwnedEventId, StoredEvent> = events
                .into_iter()
                .map(|event| (event.pdu.event_id().to_owned(), event))
                .collect();
            for id in wanted {
                let event = found.remove(&id);
                let event = event.filter(|event| event.flags & event_flags::OUTLIER == 0);
                let event = event.ok_or_else(|| RoomError::from(ContentRefusal::UnknownEvent(id.clone())))?;
                self.take(id, event, position);
            }
        }
        Ok(true)
    }

    fn take(&mut self, id: OwnedEventId, event: StoredEvent, position: u64) {
        if event_flags::is_accepted(event.flags) && event.place.to_row() <= position {
            self.edge.insert(id, event);
            return;
        }
        for before in event.pdu.prev_events() {
            if self.seen.insert(before.clone()) {
                self.open.push(before.clone());
            }
        }
        self.between.push(event);
    }
}

/// A checkpoint's text that is continued.
struct TextAfter<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    checkpoint: &'a CheckpointRow,
    base: StateVector,
    text: Document,
    owners: Owners,
    /// The vectors after events.
    vectors: HashMap<OwnedEventId, Arc<StateVector>>,
}

impl TextAfter<'_> {
    /// Takes the update of the next event. False if the text must be replayed.
    async fn take(&mut self, event: &StoredEvent) -> Result<bool, RoomError> {
        let Some(mut known) = self.known_before(&event.pdu).await? else {
            return Ok(false);
        };
        if let Some(claim) = claim_of(&event.pdu, event.flags) {
            let ranges = claim.update.ranges();
            for client in ranges.keys() {
                self.load_owner(*client).await?;
            }
            let past = Past {
                vector: &known,
                owners: &self.owners,
            };
            if let Judgement::Admitted { update, ranges } = admit_at(&claim.update, &claim.sender, &past) {
                let merged = self.text.state_vector();
                let is_claimed = ranges.iter().any(|(client, (from, _))| merged.get(*client) > *from);
                if is_claimed || self.text.apply(&update).is_err() {
                    return Ok(false);
                }
                for (client, (_, to)) in ranges {
                    self.owners.claim(client, &claim.sender);
                    Arc::make_mut(&mut known).raise(client, to);
                }
            }
        }
        self.vectors.insert(event.pdu.event_id().to_owned(), known);
        Ok(true)
    }

    /// The state vector before an event; `None` if it is not on disk.
    async fn known_before(&mut self, pdu: &Pdu) -> Result<Option<Arc<StateVector>>, RoomError> {
        let (prev, heads) = (pdu.prev_events(), &self.checkpoint.heads);
        let mut known: Option<Arc<StateVector>> = None;
        let follows_all = heads.iter().all(|head| prev.contains(head));
        if follows_all {
            known = Some(Arc::new(self.base.clone()));
        }
        for id in prev {
            if follows_all && heads.contains(id) {
                continue;
            }
            let Some(vector) = self.vector_after(id).await? else {
                return Ok(None);
            };
            match known.as_mut() {
                None => known = Some(vector),
                Some(known) if !known.covers(&vector) => Arc::make_mut(known).merge_max(&vector),
                Some(_) => {}
            }
        }
        Ok(Some(known.unwrap_or_default()))
    }

    async fn vector_after(&mut self, id: &EventId) -> Result<Option<Arc<StateVector>>, RoomError> {
        if let Some(known) = self.vectors.get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(group) = self.reader.vector_group_of(self.room, &id.to_owned()).await? else {
            return Ok(None);
        };
        // A group that is gone was replaced meanwhile: the replay reads events only.
        let Ok((vector, _)) = self.reader.vector(self.room, group).await else {
            return Ok(None);
        };
        let vector = Arc::new(vector);
        self.vectors.insert(id.to_owned(), Arc::clone(&vector));
        Ok(Some(vector))
    }

    async fn load_owner(&mut self, client: ClientId) -> Result<(), Unavailable> {
        if self.owners.get(client).is_none()
            && let Some(owner) = self
                .reader
                .store
                .get(&CLIENT_OWNERS, &(self.room, client.get()))
                .await?
        {
            self.owners.claim(client, &owner.user);
        }
        Ok(())
    }
}
