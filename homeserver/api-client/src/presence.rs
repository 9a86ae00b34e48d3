//! Presence of users, for users who share a room with them. Must not show who is active in a document: awareness
//! does.

use axum::{Json, Router, extract::State};
use ruma::api::client::presence::{get_presence, set_presence};
use serde_json::{Map, Value, json};
use weft_fanout::Presence;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_wire::{limits::MAX_STATUS_MESSAGE_BYTES, presence::known};

use super::{Ports, membership_check::same_user};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_presence::v3::Request, _, _>(show)
        .endpoint::<set_presence::v3::Request, _, _>(set)
}

/// GET /_matrix/client/v3/presence/{userId}/status
async fn show(
    State(presence): State<Presence>,
    caller: Authenticated,
    Ruma(request): Ruma<get_presence::v3::Request>,
) -> ApiResult<Json<Map<String, Value>>> {
    let seen = presence.get(&caller.user_id, &request.user_id).await;
    let seen = seen.ok_or_else(|| ApiError::forbidden("The user does not exist or shares no room with you."))?;
    Ok(Json(presence.content(&seen)))
}

/// PUT /_matrix/client/v3/presence/{userId}/status
async fn set(
    State(presence): State<Presence>,
    caller: Authenticated,
    Ruma(request): Ruma<set_presence::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let status = request.status_msg;
    if status
        .as_ref()
        .is_some_and(|status| status.len() > MAX_STATUS_MESSAGE_BYTES)
    {
        return Err(ApiError::too_large(format!(
            "The status message exceeds {MAX_STATUS_MESSAGE_BYTES} bytes."
        )));
    }
    let known = known(request.presence).ok_or_else(|| ApiError::invalid_param("Unknown presence state."))?;
    presence.set(&caller.user_id, known, status).await;
    Ok(Json(json!({})))
}
