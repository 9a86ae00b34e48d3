//! `POST /documents/{id}/chat`: sends an `m.room.message`, which stock Matrix clients show in the document's room.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use ruma::{OwnedTransactionId, TransactionId};
use serde_json::{Map, Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
};
use weft_room_api::NewEvent;
use weft_wire::rest::{MessageSent, SendMessage};

use super::{
    DocumentPorts,
    caller::{Named, joined},
    comments,
    request::{JsonBody, idempotency_key, with_idempotency_key},
};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Chat and presence").post(
        "/_weft/client/v1/documents/{id}/chat",
        send,
        with_idempotency_key(Operation::new("sendMessage", "Sends a chat message").refuses(403, "Below commenter.")),
    )
}

/// 201 with the event id. With the same `Idempotency-Key`, requests of one device send one message.
async fn send(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    named: Named,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SendMessage>,
) -> ApiResult<(StatusCode, Json<MessageSent>)> {
    let key = idempotency_key(&headers)?.map(transaction);
    if request.message.is_empty() {
        return Err(ApiError::invalid_param("A message must not be empty."));
    }
    let content = content(&request)?;
    let room = joined(&ports, &named, &session.user_id).await?;
    let event = NewEvent {
        sender: session.user_id.clone(),
        kind: "m.room.message".to_owned(),
        state_key: None,
        content,
        redacts: None,
        txn: key.map(|key| (session.device_id.clone(), key)),
        timestamp: None,
    };
    let message_id = ports.rooms.send(&room, event).await?;
    let event = ports.rooms.reader().event(Some(&room), &message_id).await?;
    let timestamp = event.map_or(0, |pdu| pdu.origin_server_ts().get().into());
    Ok((StatusCode::CREATED, Json(MessageSent { message_id, timestamp })))
}

fn content(request: &SendMessage) -> ApiResult<Map<String, Value>> {
    let mut content = match &request.mentions {
        Some(mentions) => comments::message(&request.message, mentions)?,
        None => Map::new(),
    };
    content.insert("msgtype".to_owned(), json!("m.text"));
    content.insert("body".to_owned(), json!(request.message));
    if let Some(event) = &request.reply_to {
        content.insert("m.relates_to".to_owned(), json!({"m.in_reply_to": {"event_id": event}}));
    }
    Ok(content)
}

/// The transaction id for the header `Idempotency-Key`. The prefix separates it from transaction ids of Matrix requests.
pub(super) fn transaction(key: &str) -> OwnedTransactionId {
    <&TransactionId>::from(&*format!("idempotency-key:{key}")).to_owned()
}
