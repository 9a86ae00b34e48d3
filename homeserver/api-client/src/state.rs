//! A room's state: reading all of it or one entry, and setting one entry.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use ruma::{OwnedRoomId, RoomId, UserId, api::client::state::get_state_events};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use weft_accounts::Accounts;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes, read_body},
};
use weft_room::Rooms;
use weft_room_api::{Clock, NewEvent};
use weft_room_read::Reader;
use weft_wire::limits::MAX_CLIENT_REQUEST_BYTES;

use super::{
    Ports,
    aliases::check_named,
    events::{Shown, client_event},
    members::{entry_for, state_for},
    moderation::invite_user,
    remote::Remote,
};

/// An empty state key may be omitted, with or without the preceding slash: three paths for one endpoint,
/// which ruma's metadata doesn't have.
pub(super) fn routes() -> Router<Ports> {
    let mut router = Router::new().endpoint::<get_state_events::v3::Request, _, _>(all);
    for version in ["v3", "r0"] {
        let path = format!("/_matrix/client/{version}/rooms/{{room_id}}/state/{{event_type}}");
        router = router
            .route(&path, get(one_keyless).put(set_keyless))
            .route(&format!("{path}/"), get(one_keyless).put(set_keyless))
            .route(&format!("{path}/{{state_key}}"), get(one).put(set));
    }
    router
}

/// GET /_matrix/client/v3/rooms/{roomId}/state
async fn all(
    State(reader): State<Reader>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<get_state_events::v3::Request>,
) -> ApiResult<Json<Vec<Box<RawValue>>>> {
    let state = state_for(&reader, &request.room_id, &caller.user_id, None).await?;
    let shown = Shown::in_full(clock.now().get().into());
    Ok(Json(state.iter().filter_map(|pdu| client_event(pdu, shown)).collect()))
}

#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    format: Option<String>,
}

/// GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}
async fn one(
    State(reader): State<Reader>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Path((room, kind, key)): Path<(String, String, String)>,
    Query(Format { format }): Query<Format>,
) -> ApiResult<Response> {
    let room = room_id(&room)?;
    let pdu = entry_for(&reader, &room, &caller.user_id, (&kind, &key)).await?;
    let pdu = pdu.ok_or_else(|| ApiError::not_found("State event not found."))?;
    if format.as_deref() == Some("event") {
        let shown = Shown::in_full(clock.now().get().into());
        return Ok(Json(client_event(&pdu, shown)).into_response());
    }
    Ok(Json(pdu.content()).into_response())
}

async fn one_keyless(
    reader: State<Reader>,
    clock: State<Arc<dyn Clock>>,
    caller: Authenticated,
    Path((room, kind)): Path<(String, String)>,
    format: Query<Format>,
) -> ApiResult<Response> {
    one(reader, clock, caller, Path((room, kind, String::new())), format).await
}

/// PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}
async fn set(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    caller: Authenticated,
    Path((room, kind, key)): Path<(String, String, String)>,
    body: Body,
) -> ApiResult<Json<Value>> {
    let room = room_id(&room)?;
    let content: Map<String, Value> = serde_json::from_slice(&read_body(body, MAX_CLIENT_REQUEST_BYTES).await?)?;
    let user = &caller.user_id;
    if let Some(invitee) = foreign_invitee(&accounts, &kind, &key, &content) {
        let mut content = content;
        content.remove("membership");
        invite_user(&rooms, &accounts, &remote, &room, (user, &invitee), content).await?;
        let event = rooms.reader().state_event(&room, &kind, &key).await?;
        return Ok(Json(json!({"event_id": event.map(|pdu| pdu.event_id().to_owned())})));
    }
    if kind == "m.room.canonical_alias" {
        check_named((rooms.reader(), &accounts, &remote), user, &room, &content).await?;
    }
    let event = NewEvent {
        sender: user.clone(),
        kind,
        state_key: Some(key),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    };
    Ok(Json(json!({"event_id": rooms.send(&room, event).await?})))
}

async fn set_keyless(
    rooms: State<Rooms>,
    accounts: State<Accounts>,
    remote: State<Arc<dyn Remote>>,
    caller: Authenticated,
    Path((room, kind)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Json<Value>> {
    set(rooms, accounts, remote, caller, Path((room, kind, String::new())), body).await
}

fn room_id(text: &str) -> ApiResult<OwnedRoomId> {
    RoomId::parse(text).map_err(|_| ApiError::invalid_param("The room id is not valid."))
}

/// An invitation of another server's user requires that server's signature, through every endpoint.
fn foreign_invitee(
    accounts: &Accounts,
    kind: &str,
    key: &str,
    content: &Map<String, Value>,
) -> Option<ruma::OwnedUserId> {
    let invite = kind == "m.room.member" && content.get("membership").and_then(Value::as_str) == Some("invite");
    UserId::parse(key)
        .ok()
        .filter(|user| invite && !accounts.is_local(user))
}
