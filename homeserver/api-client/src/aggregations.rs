//! Bundled aggregations in `unsigned.m.relations` (client-server API, "Aggregations of child events"): the newest edit, the
//! thread summary and the references of an event.
//!
//! Must not include events that the user may not see or whose sender is ignored.

use std::sync::Arc;

use ruma::RoomId;
use serde_json::{Map, Value, json};
use weft_dag::Pdu;
use weft_http::errors::ApiResult;
use weft_room_read::{MAX_BUNDLED_RELATIONS, Reader, UnsignedData};
use weft_store::tables::rooms::{Relation, RelationRow};

use super::{
    events::{Shown, client_event_with},
    relations::relation,
    unsigned::Viewer,
};

/// Maximum related events read for one answer. Events beyond it have no aggregations; `/relations` returns them.
const MAX_PER_ANSWER: usize = 5_000;

/// The aggregations of these events, in the same order.
pub(super) async fn bundled(
    reader: &Reader,
    room: &RoomId,
    viewer: Viewer<'_>,
    shown: Shown,
    events: &[(&Arc<Pdu>, &UnsignedData)],
) -> ApiResult<Vec<Map<String, Value>>> {
    let mut all = Vec::with_capacity(events.len());
    let mut left = MAX_PER_ANSWER;
    let answer = Answer {
        reader,
        room,
        viewer,
        shown,
    };
    for (pdu, beside) in events {
        let rows = answer.relations_to(pdu, &mut left).await?;
        let mut found = Map::new();
        if !rows.is_empty() {
            if beside.redaction.is_none() {
                found.extend(answer.edit(pdu, &rows).await?);
            }
            found.extend(answer.thread(pdu, &rows, &mut left).await?);
            found.extend(references(&rows));
        }
        all.push(found);
    }
    Ok(all)
}

struct Answer<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    viewer: Viewer<'a>,
    shown: Shown,
}

type Entry = Option<(String, Value)>;

impl Answer<'_> {
    async fn relations_to(&self, pdu: &Pdu, left: &mut usize) -> ApiResult<Vec<RelationRow>> {
        // Relations of state events are not bundled.
        let limit = MAX_BUNDLED_RELATIONS.min(*left);
        if limit == 0 || pdu.state_key().is_some() {
            return Ok(Vec::new());
        }
        let user = &self.viewer.session.user_id;
        let (mut rows, looked_at) = self.reader.relations_to(self.room, pdu.event_id(), user, limit).await?;
        *left -= looked_at.min(*left);
        rows.retain(|row| !self.viewer.ignored.contains(&row.sender));
        Ok(rows)
    }

    /// The newest edit by the sender of the event.
    async fn edit(&self, pdu: &Pdu, rows: &[RelationRow]) -> ApiResult<Entry> {
        if relation(pdu).is_some_and(|relation| relation.rel_type == "m.replace") {
            return Ok(None);
        }
        let is_edit = |row: &&RelationRow| {
            row.relation == Relation::Replace && row.kind == pdu.kind() && row.sender == pdu.sender()
        };
        let newest = rows.iter().filter(is_edit).max_by_key(|row| (row.at, &row.event));
        let Some(newest) = newest else { return Ok(None) };
        let event = self.event(newest, Map::new()).await?;
        Ok(event.map(|event| ("m.replace".to_owned(), event)))
    }

    /// The thread whose root is the event.
    async fn thread(&self, pdu: &Pdu, rows: &[RelationRow], left: &mut usize) -> ApiResult<Entry> {
        let answers: Vec<&RelationRow> = rows.iter().filter(|row| row.relation == Relation::Thread).collect();
        let Some(latest) = answers.first().filter(|_| relation(pdu).is_none()) else {
            return Ok(None);
        };
        let user = &self.viewer.session.user_id;
        let participated = pdu.sender() == *user || answers.iter().any(|row| row.sender == *user);
        let mut own = Map::new();
        if let Some(latest) = self.reader.event(Some(self.room), &latest.event).await? {
            let rows = self.relations_to(&latest, left).await?;
            own.extend(self.edit(&latest, &rows).await?);
        }
        let event = self.event(latest, own).await?;
        Ok(event.map(|event| {
            let thread = json!({
                "latest_event": event,
                "count": answers.len(),
                "current_user_participated": participated,
            });
            ("m.thread".to_owned(), thread)
        }))
    }

    async fn event(&self, row: &RelationRow, relations: Map<String, Value>) -> ApiResult<Option<Value>> {
        let Some(pdu) = self.reader.event(Some(self.room), &row.event).await? else {
            return Ok(None);
        };
        let event = client_event_with(&pdu, self.shown, &UnsignedData::default(), relations);
        Ok(event.and_then(|event| serde_json::from_str(event.get()).ok()))
    }
}

/// The events that reference it, oldest first.
fn references(rows: &[RelationRow]) -> Entry {
    let references = rows.iter().rev().filter(|row| row.relation == Relation::Reference);
    let chunk: Vec<Value> = references.map(|row| json!({"event_id": row.event})).collect();
    (!chunk.is_empty()).then(|| ("m.reference".to_owned(), json!({"chunk": chunk})))
}
