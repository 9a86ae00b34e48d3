//! Events that relate to another event, from the index.
//!
//! Returns only events that the user may see and that are not redacted. Must not decide which of them are aggregated in
//! the event's `unsigned`.

use std::collections::HashSet;

use ruma::{EventId, OwnedEventId, RoomId, UserId};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{REDACTED_BY, RELATIONS, RelationRow};

use crate::Reader;

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
        let query = RELATIONS.under(&(room, event)).reversed().limit(limit);
        let rows = self.store.scan(query).await?;
        let count = rows.len();
        if rows.is_empty() {
            return Ok((Vec::new(), count));
        }
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
        let shown = rows.into_iter().map(|(_, row)| row);
        Ok((shown.filter(|row| visible.contains(&row.event)).collect(), count))
    }
}
