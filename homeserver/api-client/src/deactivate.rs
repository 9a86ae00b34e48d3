//! Deactivating an account permanently.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{UserId, api::client::account::deactivate::v3, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    client_address::ClientAddress,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;

use super::{Ports, leave, password::proved, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(deactivate)
}

/// POST /_matrix/client/v3/account/deactivate
///
/// `erase` deletes the data that is stored for this user only. The specification also suggests serving redacted copies of the
/// user's events to users who join a room later. That is not done: the text of a document depends on the updates of all its
/// authors and is incomplete without some of them.
async fn deactivate(
    State(ports): State<Ports>,
    caller: Authenticated,
    address: ClientAddress,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    let user = &caller.user_id;
    let operation = json!(["deactivate", request.erase]);
    proved(&ports, &caller, address, (&operation, request.auth.as_ref())).await?;
    close_account(&ports, user, request.erase).await?;
    Ok(Json(json!({"id_server_unbind_result": "success"})))
}

/// Deactivates an account, ends its sessions and leaves its rooms. Can be repeated: rooms that could not be left are tried
/// again.
pub(super) async fn close_account(ports: &Ports, user: &UserId, erase: bool) -> ApiResult<()> {
    ports.accounts.deactivate(user).await?;
    if erase {
        ports.accounts.erase(user).await?;
    }
    let fanout: &Fanout = &ports.fanout;
    fanout.sessions_changed(user, None);
    tracing::info!(%user, erase, "deactivated");
    leave_all(&ports.rooms, &ports.remote, user).await
}

/// Leaves the rooms that the user has joined or is invited to. A failure in one room (its server is down) does not stop the rest.
async fn leave_all(rooms: &Rooms, remote: &Arc<dyn Remote>, user: &UserId) -> ApiResult<()> {
    for entry in rooms.reader().rooms_of(user).await? {
        let inside = matches!(
            entry.membership,
            MembershipState::Join | MembershipState::Invite | MembershipState::Knock
        );
        if !inside {
            continue;
        }
        if let Err(error) = leave::leave_room(rooms, remote, user, &entry.room, Map::new()).await {
            tracing::warn!(
                event = "membership.leave_failed", room = %entry.room, %user, %error,
                "cannot leave a room of a deactivated user"
            );
        }
    }
    Ok(())
}
