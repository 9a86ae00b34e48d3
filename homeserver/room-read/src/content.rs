//! The text at given events: all admitted updates among their ancestors, merged. Must not write.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ruma::{OwnedEventId, RoomId};
use weft_convergence::rebuild::{PersistedEvent, rebuild};
use weft_crdt::{Update, compact, merge};
use weft_dag::event_flags;
use weft_room_api::{ContentRefusal, RoomError, Unavailable};
use weft_store::tables::documents::{DISPUTED_ROOMS, DOC_SEQ, SNAPSHOT, SNAPSHOT_PARTS, SNAPSHOT_TAIL, SnapshotRow};
use weft_wire::event_types;

use crate::{Reader, StoredEvent};

/// Events that are loaded at a time during the walk back.
const STEP: usize = 256;
/// Events between the requested ones and the forward extremities that are examined. Beyond that, the text is built from
/// the events.
const MAX_BETWEEN: usize = 64;

impl Reader {
    /// The version of a document (`doc_seq`): it grows by one with each edit that is acknowledged here, and with each
    /// event of another server that brings something new. 0 if nothing was written yet. It has no meaning on another
    /// server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn document_version(&self, room: &RoomId) -> Result<u64, Unavailable> {
        Ok(self.store.get(&DOC_SEQ, &(room,)).await?.unwrap_or(0))
    }

    /// Whether the document has conflicting claims.
    pub async fn is_disputed(&self, room: &RoomId) -> Result<bool, Unavailable> {
        Ok(self.store.get(&DISPUTED_ROOMS, &(room,)).await?.is_some())
    }

    /// The merged update of all updates among the given events and their ancestors.
    ///
    /// # Errors
    /// If an event is unknown, or if this server joined after it and does not have the history.
    pub async fn content_at(&self, room: &RoomId, at: &[OwnedEventId]) -> Result<Bytes, RoomError> {
        if self.version(room).await?.is_none() {
            return Err(RoomError::UnknownRoom(room.to_owned()));
        }
        if !self.is_document(room).await? {
            return Err(ContentRefusal::NotADocument(room.to_owned()).into());
        }
        if let Some(text) = self.content_at_tip(room, at).await? {
            return Ok(text);
        }
        if let Some(text) = self.text_by_checkpoint(room, at).await? {
            return Ok(text);
        }
        self.replay(room, at).await
    }

    /// The text of all signed events, if no update follows the requested events. Nothing is replayed in this case, and
    /// it also works on a server that joined later.
    async fn content_at_tip(&self, room: &RoomId, at: &[OwnedEventId]) -> Result<Option<Bytes>, RoomError> {
        let extremities = self.extremities(room).await?;
        if extremities.is_empty() || !self.is_text_of(room, at, &extremities).await? {
            return Ok(None);
        }
        let Some(updates) = self.sealed_updates(room).await? else {
            return Ok(None);
        };
        // The tail is appended to in the commits that change the forward extremities. If they are the same before and
        // after, the reads are of one moment.
        if self.extremities(room).await? != extremities || self.has_strangers(room, at, &extremities).await? {
            return Ok(None);
        }
        put_together(&updates).map(Some)
    }

    /// The snapshot and the tail: everything that is sealed. `None` if another snapshot was written meanwhile: the tail is
    /// emptied in the commit that does.
    pub(crate) async fn sealed_updates(&self, room: &RoomId) -> Result<Option<Vec<Update>>, RoomError> {
        let mut updates = Vec::new();
        let damaged = |error: weft_crdt::ParseError| ContentRefusal::Unmergeable(error.to_string());
        let read = |bytes: Bytes| Update::parse(bytes).map_err(damaged);
        let snapshot = self.store.get(&SNAPSHOT, &(room,)).await.map_err(Unavailable::from)?;
        match &snapshot {
            None => {}
            Some(SnapshotRow::Whole(text)) => updates.push(read(text.clone())?),
            Some(SnapshotRow::Parts { generation, .. }) => {
                let parts = SNAPSHOT_PARTS.under(&(room, generation));
                let parts = self.store.scan_all(parts).await.map_err(Unavailable::from)?;
                let parts: Vec<Bytes> = parts.into_iter().map(|(_, part)| part).collect();
                // If parts were deleted meanwhile, the text is not used: the row names other parts then.
                updates.extend(read(Bytes::from(parts.concat())).ok());
            }
        }
        let tail = self.store.scan_all(SNAPSHOT_TAIL.under(&(room,))).await;
        for (_, update) in tail.map_err(Unavailable::from)? {
            updates.push(read(update)?);
        }
        let after = self.store.get(&SNAPSHOT, &(room,)).await.map_err(Unavailable::from)?;
        Ok((after == snapshot).then_some(updates))
    }

    /// Whether nothing between these events and the forward extremities changes the text. A joining server requests the
    /// text before its join, which is the newest text at that moment.
    async fn is_text_of(
        &self,
        room: &RoomId,
        at: &[OwnedEventId],
        extremities: &[OwnedEventId],
    ) -> Result<bool, RoomError> {
        let mut seen: BTreeSet<OwnedEventId> = at.iter().cloned().collect();
        let mut wanted: Vec<OwnedEventId> = extremities.iter().filter(|end| !seen.contains(*end)).cloned().collect();
        while !wanted.is_empty() {
            seen.extend(wanted.iter().cloned());
            if seen.len() > at.len() + MAX_BETWEEN {
                return Ok(false);
            }
            let events = self.events(room, &wanted).await?;
            if events.len() < wanted.len()
                || events
                    .iter()
                    .any(|event| event.pdu.kind() == event_types::UPDATE || event.flags & event_flags::OUTLIER != 0)
            {
                return Ok(false);
            }
            let before: BTreeSet<OwnedEventId> = events
                .iter()
                .flat_map(|event| event.pdu.prev_events())
                .filter(|id| !seen.contains(*id))
                .cloned()
                .collect();
            wanted = before.into_iter().collect();
        }
        Ok(true)
    }

    /// Whether the request names an event, besides the forward extremities, that is not in the room.
    async fn has_strangers(
        &self,
        room: &RoomId,
        at: &[OwnedEventId],
        extremities: &[OwnedEventId],
    ) -> Result<bool, RoomError> {
        let others: Vec<OwnedEventId> = at.iter().filter(|id| !extremities.contains(id)).cloned().collect();
        let found = self.events(room, &others).await?;
        Ok(found.len() < others.len() || found.iter().any(|event| !event.is_visible()))
    }

    /// The text at the given events from the events alone, to compare it with the one from a checkpoint.
    ///
    /// # Errors
    /// As [`Reader::content_at`].
    #[cfg(feature = "testing")]
    pub async fn content_of_events(&self, room: &RoomId, at: &[OwnedEventId]) -> Result<Bytes, RoomError> {
        self.replay(room, at).await
    }

    /// Builds the text from the events, as a server that joins later does. Inadmissible updates and updates that lost
    /// against a conflicting claim are not part of it.
    async fn replay(&self, room: &RoomId, at: &[OwnedEventId]) -> Result<Bytes, RoomError> {
        let mut all = Vec::new();
        let mut seen: BTreeSet<OwnedEventId> = at.iter().cloned().collect();
        let mut wanted: Vec<OwnedEventId> = seen.iter().cloned().collect();
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(STEP));
            let events = self.events(room, &wanted).await?;
            let mut found: BTreeMap<OwnedEventId, StoredEvent> = events
                .into_iter()
                .map(|event| (event.pdu.event_id().to_owned(), event))
                .collect();
            let mut next = rest;
            for id in wanted {
                let event = found
                    .remove(&id)
                    .filter(|event| event.flags & event_flags::OUTLIER == 0);
                let StoredEvent { pdu, flags, .. } = event.ok_or(ContentRefusal::UnknownEvent(id))?;
                let before = pdu.prev_events().iter();
                next.extend(before.filter(|id| seen.insert((*id).clone())).cloned());
                all.push(PersistedEvent { pdu, flags });
            }
            wanted = next;
        }
        let updates: Vec<Update> = rebuild(all, None)
            .updates
            .into_iter()
            .map(|standing| standing.update)
            .collect();
        put_together(&updates)
    }
}

fn put_together(updates: &[Update]) -> Result<Bytes, RoomError> {
    let merged = merge(updates).map_err(|error| ContentRefusal::Unmergeable(error.to_string()))?;
    Ok(Bytes::from(compact(&merged).encode()))
}
