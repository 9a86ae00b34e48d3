//! Walks over the event graph for other servers: `/backfill` and `/get_missing_events`. Must not decide who may see an
//! event.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::try_join;
use ruma::{EventId, OwnedEventId, RoomId};
use weft_dag::{Pdu, event_flags};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{EVENTS, EXTREMITIES, EventRow, INCOMPLETE_ROOMS};
use weft_wire::limits::MAX_BACKFILL_EVENTS;

use crate::{Reader, TimelineEvent};

impl Reader {
    /// The forward extremities, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn extremities(&self, room: &RoomId) -> Result<Vec<OwnedEventId>, Unavailable> {
        Ok(self.store.get(&EXTREMITIES, &(room,)).await?.unwrap_or_default().0)
    }

    /// The given events and their ancestors, nearest first, at most `limit` (and never more than
    /// `MAX_BACKFILL_EVENTS`). Soft-failed events are included if a returned event references them; rejected events
    /// never.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn backfill(
        &self,
        room: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        self.walk(room, from, &BTreeSet::new(), limit, true).await
    }

    /// Ancestors of `latest` (without `latest`) that are neither `earliest` nor its ancestors, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn missing_events(
        &self,
        room: &RoomId,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let known: BTreeSet<OwnedEventId> = earliest.iter().cloned().collect();
        let mut events = self.walk(room, latest, &known, limit, false).await?;
        events.reverse();
        Ok(events)
    }

    /// The index of the last of these events with a predecessor that is unknown or an outlier here: the timeline has a
    /// gap before it. `None` if there is no such gap among them or directly before them. A room has gaps only while events
    /// of it are missing.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn last_gap(&self, room: &RoomId, events: &[TimelineEvent]) -> Result<Option<usize>, Unavailable> {
        if !self.store.contains(&INCOMPLETE_ROOMS, &(room,)).await? {
            return Ok(None);
        }
        let here: BTreeSet<&EventId> = events.iter().map(|event| event.pdu.event_id()).collect();
        let outside = |event: &&TimelineEvent| {
            let ids = event.pdu.prev_events().iter().filter(|id| !here.contains(&***id));
            ids.cloned().collect::<Vec<OwnedEventId>>()
        };
        let ids: BTreeSet<OwnedEventId> = events.iter().flat_map(|event| outside(&event)).collect();
        let rows = self.store.get_many(&EVENTS, ids.iter().map(|id| (room, id))).await?;
        let is_missing = |row: &Option<EventRow>| row.as_ref().is_none_or(|row| row.has(event_flags::OUTLIER));
        let missing = ids.iter().zip(rows).filter(|(_, row)| is_missing(row));
        let missing: BTreeSet<&OwnedEventId> = missing.map(|(id, _)| id).collect();
        let has_gap = |event: &TimelineEvent| outside(&event).iter().any(|id| missing.contains(id));
        Ok(events.iter().rposition(has_gap))
    }

    /// Whether an event is a descendant of another, among the [`MAX_BACKFILL_EVENTS`] events before it.
    pub(super) async fn follows(&self, room: &RoomId, event: &EventId, before: &EventId) -> Result<bool, Unavailable> {
        let start = [event.to_owned()];
        let behind = self
            .walk(room, &start, &BTreeSet::new(), MAX_BACKFILL_EVENTS, false)
            .await?;
        Ok(behind.iter().any(|pdu| pdu.event_id() == before))
    }

    async fn walk(
        &self,
        room: &RoomId,
        from: &[OwnedEventId],
        stop: &BTreeSet<OwnedEventId>,
        limit: usize,
        with_start: bool,
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let limit = limit.min(MAX_BACKFILL_EVENTS);
        let reader = self.for_request();
        // Events that were walked since the last time that events were read ahead.
        let mut walked = limit;
        let mut seen: BTreeSet<OwnedEventId> = stop.clone();
        let mut queue: VecDeque<OwnedEventId> = from.iter().cloned().collect();
        let start: BTreeSet<&OwnedEventId> = from.iter().collect();
        let mut events = Vec::new();
        while let Some(id) = queue.pop_front() {
            if events.len() >= limit {
                break;
            }
            if !seen.insert(id.clone()) {
                continue;
            }
            // All that are queued in one read.
            let next: Vec<OwnedEventId> = queue.iter().take(limit).cloned().collect();
            let (event, _) = try_join!(reader.stored_event(room, &id), reader.rows_ahead(room, &next))?;
            let Some(event) = event else {
                continue;
            };
            if event.flags & event_flags::OUTLIER != 0 {
                continue;
            }
            walked += 1;
            if walked >= limit {
                walked = 0;
                reader.timeline_ahead(room, &event, limit).await?;
            }
            queue.extend(event.pdu.prev_events().iter().cloned());
            if (with_start || !start.contains(&id)) && event.flags & event_flags::REJECTED == 0 {
                events.push(event.pdu);
            }
        }
        Ok(events)
    }
}
