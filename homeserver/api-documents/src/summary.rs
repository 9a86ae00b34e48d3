//! A document as the API shows it, read from its room's state.

use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;
use weft_dag::{Pdu, StateView};
use weft_room::{Reader, Unavailable};
use weft_wire::{
    Role,
    document::{DocumentContent, DocumentKind},
    event_types,
    rest::Document,
};

/// One string field of a state event's content, if present and valid.
pub(super) fn field(pdu: Option<&std::sync::Arc<Pdu>>, name: &str) -> Option<String> {
    let content: Value = pdu?.content_as().ok()?;
    content.get(name)?.as_str().map(str::to_owned)
}

/// The title; empty if none was set.
pub(super) fn title(state: &StateView) -> String {
    field(state.get("m.room.name", ""), "name").unwrap_or_default()
}

/// The kind of content of a document. A room without a valid kind counts as text.
pub(super) fn kind(state: &StateView) -> DocumentKind {
    let content = state
        .get(event_types::DOCUMENT, "")
        .and_then(|pdu| pdu.content_as::<DocumentContent>().ok());
    content.map_or(DocumentKind::Text, |content| content.kind)
}

/// The document for a member.
pub(super) async fn summary(
    reader: &Reader,
    state: &StateView,
    user: &UserId,
) -> Result<Option<Document>, Unavailable> {
    let Some(create) = state.create() else { return Ok(None) };
    let room = create.room_id();
    let newest = reader.newest_change(room).await?;
    Ok(Some(Document {
        doc_id: room.to_owned(),
        title: title(state),
        kind: kind(state),
        owner_id: create.sender().to_owned(),
        version: reader.document_version(room).await?,
        role: Role::from_power(state.user_power(user)),
        created_at: create.origin_server_ts().get().into(),
        last_modified: newest
            .map_or_else(|| create.origin_server_ts(), |event| event.pdu.origin_server_ts())
            .get()
            .into(),
    }))
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
