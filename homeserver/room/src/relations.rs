//! The index of relations between events (client-server API, "Aggregations of child events").
//!
//! A row is written with the relating event. A redacted event keeps its row, so readers leave out redacted events. Must
//! not index invalid relations: an edit without new content is none.

use ruma::{OwnedEventId, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::Pdu;
use weft_store::{
    Batch,
    tables::rooms::{RELATIONS, Relation, RelationRow},
};

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
    #[serde(rename = "m.new_content", borrow)]
    new_content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: OwnedEventId,
}

/// The event that a message event relates to, and the relation type. State events have no relations.
fn relation(pdu: &Pdu) -> Option<(OwnedEventId, Relation)> {
    if pdu.state_key().is_some() {
        return None;
    }
    let content: Content<'_> = serde_json::from_str(pdu.content().get()).ok()?;
    let relation = match content.relates_to.rel_type.as_str() {
        "m.replace"
            if content
                .new_content
                .is_some_and(|content| content.get().starts_with('{')) =>
        {
            Relation::Replace
        }
        "m.thread" => Relation::Thread,
        "m.reference" => Relation::Reference,
        _ => return None,
    };
    Some((content.relates_to.event_id, relation))
}

/// Indexes the relation of an event with this stream ordering.
pub(crate) fn index(batch: &mut Batch, room: &RoomId, order: i64, pdu: &Pdu) {
    let Some((target, relation)) = relation(pdu) else {
        return;
    };
    let row = RelationRow {
        event: pdu.event_id().to_owned(),
        relation,
        kind: pdu.kind().to_owned(),
        sender: pdu.sender().to_owned(),
        at: pdu.origin_server_ts().get().into(),
    };
    batch.put(&RELATIONS, &(room, target, order), &row);
}
