//! Leaving and forgetting rooms.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    RoomId, UserId,
    api::client::membership::{forget_room, leave_room as leave_endpoint},
    events::room::member::MembershipState,
};
use serde_json::{Map, Value, json};
use weft_http::membership_lock::MembershipLocks;
use weft_http::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;

use super::{Ports, join::send_membership, membership_check::hidden, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<leave_endpoint::v3::Request, _, _>(leave)
        .endpoint::<forget_room::v3::Request, _, _>(forget)
}

/// POST /_matrix/client/v3/rooms/{roomId}/leave
async fn leave(
    State(rooms): State<Rooms>,
    State(remote): State<Arc<dyn Remote>>,
    State(membership): State<MembershipLocks>,
    caller: Authenticated,
    Ruma(request): Ruma<leave_endpoint::v3::Request>,
) -> ApiResult<Json<Value>> {
    let content = request
        .reason
        .map(|reason| ("reason".to_owned(), reason.into()))
        .into_iter()
        .collect();
    let user = &caller.user_id;
    let _lock = membership.lock(user, user, &request.room_id).await?;
    leave_room(&rooms, &remote, user, &request.room_id, content).await?;
    Ok(Json(json!({})))
}

/// Leaves a room, or rejects an invitation. Succeeds if the user has already left.
pub(super) async fn leave_room(
    rooms: &Rooms,
    remote: &Arc<dyn Remote>,
    user: &UserId,
    room: &RoomId,
    content: Map<String, Value>,
) -> ApiResult<()> {
    let reader = rooms.reader();
    let row = reader.room_of_user(user, room).await?.ok_or_else(hidden)?;
    match row.membership {
        MembershipState::Leave => return Ok(()),
        MembershipState::Ban => return Err(hidden()),
        _ => {}
    }
    if reader.has_server(room, user.server_name()).await? {
        return send_membership(rooms, user, room, "leave", content).await;
    }
    if let Err(error) = remote.leave(user, room, content).await {
        // The inviting server may be gone permanently; the user must still be able to remove the invitation.
        tracing::warn!(
            event = "membership.leave_not_sent", %room, %user, %error,
            "rejected an invitation locally; its server cannot be notified"
        );
        rooms.uninvited(room, user, None).await?;
    }
    Ok(())
}

/// POST /_matrix/client/v3/rooms/{roomId}/forget
async fn forget(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<forget_room::v3::Request>,
) -> ApiResult<Json<Value>> {
    rooms.forget(&request.room_id, &caller.user_id).await?;
    Ok(Json(json!({})))
}
