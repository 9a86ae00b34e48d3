//! PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    routing::put,
};
use ruma::{RoomId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_fanout::Ephemeral;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::read_body,
};
use weft_room_read::Reader;
use weft_wire::limits::MAX_CLIENT_REQUEST_BYTES;

use super::{Ports, membership_check};

/// Duration of typing if the client sends no timeout, milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .route("/_matrix/client/v3/rooms/{room_id}/typing/{user_id}", put(typing))
        .route("/_matrix/client/r0/rooms/{room_id}/typing/{user_id}", put(typing))
}

/// Not ruma's type: it requires a timeout, which the specification doesn't.
#[derive(Deserialize)]
struct Request {
    typing: bool,
    #[serde(default)]
    timeout: Option<u64>,
}

async fn typing(
    State(reader): State<Reader>,
    State(ephemeral): State<Ephemeral>,
    caller: Authenticated,
    Path((room, user)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Json<Value>> {
    let bad_id = || ApiError::invalid_param("The room id or user id in the path is not valid.");
    let (room, user) = (
        RoomId::parse(room).map_err(|_| bad_id())?,
        UserId::parse(user).map_err(|_| bad_id())?,
    );
    membership_check::same_user(&caller.user_id, &user)?;
    membership_check::joined(&reader, &room, &user).await?;
    let request: Request = serde_json::from_slice(&read_body(body, MAX_CLIENT_REQUEST_BYTES).await?)?;
    let timeout = request.typing.then(|| request.timeout.unwrap_or(DEFAULT_TIMEOUT_MS));
    ephemeral.set_typing(&room, &user, timeout).await;
    Ok(Json(json!({})))
}
