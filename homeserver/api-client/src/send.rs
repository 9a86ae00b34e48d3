//! Sending messages and redactions. A transaction id makes the request idempotent.

use axum::{Json, Router, extract::State};
use ruma::api::client::{message::send_message_event, redact::redact_event};
use serde_json::{Map, Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_api::NewEvent;

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<send_message_event::v3::Request, _, _>(send)
        .endpoint::<redact_event::v3::Request, _, _>(redact)
}

/// PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}
async fn send(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<send_message_event::v3::Request>,
) -> ApiResult<Json<Value>> {
    let content: Map<String, Value> = serde_json::from_str(request.body.json().get())?;
    let kind = request.event_type.to_string();
    if kind == "m.room.redaction" {
        return Err(ApiError::invalid_param("Use the redact endpoint to send a redaction."));
    }
    let event = NewEvent {
        sender: caller.user_id.clone(),
        kind,
        state_key: None,
        content,
        redacts: None,
        txn: Some((caller.device_id.clone(), request.txn_id)),
        timestamp: None,
    };
    Ok(Json(json!({"event_id": rooms.send(&request.room_id, event).await?})))
}

/// PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}
async fn redact(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<redact_event::v3::Request>,
) -> ApiResult<Json<Value>> {
    let content = request
        .reason
        .map(|reason| ("reason".to_owned(), reason.into()))
        .into_iter()
        .collect();
    let event = NewEvent {
        sender: caller.user_id.clone(),
        kind: "m.room.redaction".to_owned(),
        state_key: None,
        content,
        redacts: Some(request.event_id),
        txn: Some((caller.device_id.clone(), request.txn_id)),
        timestamp: None,
    };
    Ok(Json(json!({"event_id": rooms.send(&request.room_id, event).await?})))
}
