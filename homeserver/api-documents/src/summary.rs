//! Titles and inviters, read from a room's state or from stripped state. What lists show of documents is in the indexes
//! ([`weft_room_read::Reader::documents_of`]).

use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;
use weft_dag::{Pdu, StateView};
use weft_wire::{document::GUEST_FIELD, event_types};

/// One string field of a state event's content, if present and valid.
pub(super) fn field(pdu: Option<&std::sync::Arc<Pdu>>, name: &str) -> Option<String> {
    let content: Value = pdu?.content_as().ok()?;
    content.get(name)?.as_str().map(str::to_owned)
}

/// Whether a membership is that of a guest.
pub(super) fn is_guest(pdu: &Pdu) -> bool {
    let content: Option<Value> = pdu.content_as().ok();
    content.is_some_and(|content| content.get(GUEST_FIELD) == Some(&Value::Bool(true)))
}

/// The title; empty if none was set.
pub(super) fn title(state: &StateView) -> String {
    field(state.get("m.room.name", ""), "name").unwrap_or_default()
}

/// Title and inviter of a stripped invitation. Must not be trusted: another server wrote it.
pub(super) fn invitation(stripped: &[Value], invitee: &UserId) -> Option<(String, ruma::OwnedUserId)> {
    #[derive(Deserialize)]
    struct Stripped {
        #[serde(rename = "type")]
        kind: String,
        state_key: String,
        sender: ruma::OwnedUserId,
        content: Value,
    }
    let events: Vec<Stripped> = stripped
        .iter()
        .filter_map(|event| serde_json::from_value(event.clone()).ok())
        .collect();
    let is_document = events.iter().any(|event| {
        event.kind == "m.room.create"
            && event.content.get("type").and_then(Value::as_str) == Some(event_types::DOCUMENT_ROOM)
    });
    let inviter = events
        .iter()
        .find(|event| event.kind == "m.room.member" && event.state_key == invitee.as_str())?;
    let title = events
        .iter()
        .find(|event| event.kind == "m.room.name")
        .and_then(|event| event.content.get("name")?.as_str())
        .unwrap_or_default();
    is_document.then(|| (title.to_owned(), inviter.sender.clone()))
}
