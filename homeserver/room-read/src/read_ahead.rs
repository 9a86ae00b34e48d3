//! Reads rows before they are needed, all at the same time, for a reader of one request: the code that needs them then finds
//! them read, and needs no other order. Must not return anything, and must not be needed for a correct answer.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{
    future::{try_join, try_join_all},
    try_join,
};
use ruma::{DeviceId, EventId, OwnedEventId, RoomId, UserId};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{
    EVENT_GROUP, EVENT_TXN, EVENTS, EventRow, INCOMPLETE_ROOMS, REDACTED_BY, RELATIONS, TIMELINE,
};

use crate::{MAX_BUNDLED_RELATIONS, Place, Reader, StoredEvent, order_of};

impl Reader {
    /// What the client format of these events of a room needs: the events, their `unsigned` data, relations, the events
    /// before them if the timeline may have gaps, and the state groups by which the user's membership is found. `member`
    /// is the user's current member event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn read_ahead(
        &self,
        room: &RoomId,
        (user, device): (&UserId, &DeviceId),
        events: &[OwnedEventId],
        member: &OwnedEventId,
    ) -> Result<(), Unavailable> {
        let keys = || events.iter().map(|id| (room, id));
        let unsigned = async {
            Ok::<_, Unavailable>(try_join!(
                self.store.get_many(&EVENTS, keys().chain([(room, member)])),
                self.store.get_many(&EVENT_GROUP, keys()),
                self.store
                    .get_many(&EVENT_TXN, events.iter().map(|id| (user, device, id))),
                self.store.get_many(&REDACTED_BY, keys()),
            )?)
        };
        let relations = self.relations(room, events.iter().map(|id| &**id));
        let has_gaps = async { Ok::<_, Unavailable>(self.store.contains(&INCOMPLETE_ROOMS, &(room,)).await?) };
        let ((rows, groups, ..), (), has_gaps) = try_join!(unsigned, relations, has_gaps)?;
        let before = async {
            match has_gaps {
                true => self.events_before(room, events, rows).await,
                false => Ok(()),
            }
        };
        try_join(before, self.member_events_after(room, user, &groups)).await?;
        Ok(())
    }

    /// The relations that are bundled with these events.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn read_relations_ahead(&self, room: &RoomId, events: &[Arc<Pdu>]) -> Result<(), Unavailable> {
        // State events have none.
        let ids = events.iter().filter(|pdu| pdu.state_key().is_none());
        self.relations(room, ids.map(|pdu| pdu.event_id())).await
    }

    async fn relations(&self, room: &RoomId, events: impl Iterator<Item = &EventId>) -> Result<(), Unavailable> {
        let read = |id| async move {
            let query = RELATIONS.under(&(room, id)).reversed();
            self.store.scan(query.limit(MAX_BUNDLED_RELATIONS)).await
        };
        try_join_all(events.map(read)).await?;
        Ok(())
    }

    /// The rows of events.
    pub(super) async fn rows_ahead(&self, room: &RoomId, events: &[OwnedEventId]) -> Result<(), Unavailable> {
        self.store.get_many(&EVENTS, events.iter().map(|id| (room, id))).await?;
        Ok(())
    }

    /// The events before one in the timeline, which are mostly its ancestors.
    pub(super) async fn timeline_ahead(
        &self,
        room: &RoomId,
        event: &StoredEvent,
        count: usize,
    ) -> Result<(), Unavailable> {
        let Place::Stream(position) = event.place else {
            return Ok(());
        };
        let query = TIMELINE
            .under(&(room,))
            .before(&(room, order_of(position.get())))
            .reversed();
        let rows = self.store.scan(query.limit(count)).await?;
        let ids: Vec<OwnedEventId> = rows.into_iter().map(|(_, id)| id).collect();
        self.rows_ahead(room, &ids).await
    }

    /// The rows of the events that these reference.
    async fn events_before(
        &self,
        room: &RoomId,
        events: &[OwnedEventId],
        rows: Vec<Option<EventRow>>,
    ) -> Result<(), Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(());
        };
        let rows = events.iter().zip(rows);
        let mut before = BTreeSet::new();
        for (id, row) in rows.filter_map(|(id, row)| Some((id, row?))) {
            // A damaged row is reported where it is used.
            if let Ok(event) = super::events::read(&version, id.clone(), &row) {
                before.extend(event.pdu.prev_events().iter().cloned());
            }
        }
        self.store.get_many(&EVENTS, before.iter().map(|id| (room, id))).await?;
        Ok(())
    }
}
