//! Events that relate to another event, from the index.
//!
//! Returns only events that the user may see and that are not redacted. Must not decide which of them are aggregated in
//! the event's `unsigned`.

use std::collections::HashSet;

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{REDACTED_BY, RELATIONS, RelationRow};

use crate::Reader;

/// Events that relate to another one.
#[derive(Debug, Clone, Default)]
pub struct Relations {
    /// The newest first, with their stream orderings.
    pub rows: Vec<(i64, RelationRow)>,
    /// The number of events that were examined.
    pub examined: usize,
    /// Before which ordering there may be more.
    pub next: Option<i64>,
}

impl Reader {
    /// The newest events that relate to an event and that a user may see, newest first, and the number of events that
    /// were examined. At most `limit` events are examined.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn relations_to(
        &self,
        room: &RoomId,
        event: &EventId,
        user: &UserId,
        limit: usize,
    ) -> Result<(Vec<RelationRow>, usize), Unavailable> {
        let page = self.relations_before(room, event, user, None, limit).await?;
        let rows = page.rows.into_iter().map(|(_, row)| row).collect();
        Ok((rows, page.examined))
    }

    /// The same for events before a stream ordering, with the order of each.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn relations_before(
        &self,
        room: &RoomId,
        event: &EventId,
        user: &UserId,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Relations, Unavailable> {
        let query = RELATIONS.under(&(room, event));
        let query = match before {
            Some(before) => query.before(&(room, event, before)).reversed(),
            None => query.reversed(),
        };
        let rows = self.store.scan(query.limit(limit)).await?;
        let examined = rows.len();
        let next = rows
            .last()
            .map(|((_, _, order), _)| *order)
            .filter(|_| examined >= limit);
        let rows = match examined {
            0 => Vec::new(),
            _ => self.shown_relations(room, user, rows).await?,
        };
        Ok(Relations { rows, examined, next })
    }

    /// Those that are not redacted and that the user may see.
    async fn shown_relations(
        &self,
        room: &RoomId,
        user: &UserId,
        rows: Vec<((OwnedRoomId, OwnedEventId, i64), RelationRow)>,
    ) -> Result<Vec<(i64, RelationRow)>, Unavailable> {
        let ids = || rows.iter().map(|(_, row)| (room, row.event.clone()));
        let redacted = self.store.get_many(&REDACTED_BY, ids()).await?;
        let whole = rows
            .iter()
            .zip(&redacted)
            .filter(|(_, redaction)| redaction.is_none())
            .map(|((_, row), _)| row);
        let (redactions, messages): (Vec<_>, Vec<_>) = whole.partition(|row| row.kind == "m.room.redaction");
        let of = |rows: Vec<&RelationRow>| -> Vec<OwnedEventId> { rows.iter().map(|row| row.event.clone()).collect() };
        let mut visible: HashSet<OwnedEventId> = self
            .visible_messages(room, user, of(messages))
            .await?
            .into_iter()
            .collect();
        let redactions = self.events(room, &of(redactions)).await?;
        let redactions = redactions.into_iter().map(|stored| stored.pdu).collect();
        let redactions = self.visible_to_user(room, user, redactions).await?;
        visible.extend(redactions.iter().map(|pdu| pdu.event_id().to_owned()));
        let shown = rows.into_iter().map(|((_, _, order), row)| (order, row));
        Ok(shown.filter(|(_, row)| visible.contains(&row.event)).collect())
    }
}
