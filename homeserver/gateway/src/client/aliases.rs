//! Room aliases of this server.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    RoomId, UserId,
    api::client::{
        alias::{create_alias, delete_alias, get_alias},
        room::aliases,
    },
};
use serde_json::{Value, json};
use weft_accounts::Accounts;
use weft_room::{Reader, Rooms};

use super::{Ports, join::room_of_alias, remote::Remote, standing};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_alias::v3::Request, _, _>(resolve)
        .endpoint::<create_alias::v3::Request, _, _>(create)
        .endpoint::<delete_alias::v3::Request, _, _>(delete)
        .endpoint::<aliases::v3::Request, _, _>(of_room)
}

/// GET /_matrix/client/v3/directory/room/{roomAlias}
async fn resolve(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    Ruma(request): Ruma<get_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    let (room, mut servers) = room_of_alias(&reader, &accounts, &remote, &request.room_alias).await?;
    if request.room_alias.server_name() == accounts.server_name() && servers.is_empty() {
        servers.push(accounts.server_name().to_owned());
    }
    Ok(Json(json!({"room_id": room, "servers": servers})))
}

/// PUT /_matrix/client/v3/directory/room/{roomAlias}
async fn create(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<create_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    if request.room_alias.server_name() != accounts.server_name() {
        return Err(ApiError::invalid_param("Aliases are made on their own server."));
    }
    standing::joined(rooms.reader(), &request.room_id, &caller.user_id).await?;
    rooms
        .put_alias(&request.room_alias, &request.room_id, &caller.user_id)
        .await?;
    Ok(Json(json!({})))
}

/// DELETE /_matrix/client/v3/directory/room/{roomAlias}
///
/// Who made it may remove it, and who may set the room's canonical alias, and administrators (T70).
async fn delete(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_alias::v3::Request>,
) -> ApiResult<Json<Value>> {
    let alias = &request.room_alias;
    let row = rooms.reader().alias(alias).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("There is no alias {alias}.")))?;
    let user = &caller.user_id;
    let admin = accounts.account(user).await?.is_some_and(|account| account.admin);
    if row.creator != *user && !admin && !may_name(rooms.reader(), &row.room, user).await? {
        return Err(ApiError::forbidden("The alias is not yours."));
    }
    rooms.delete_alias(alias).await?;
    Ok(Json(json!({})))
}

/// Whether the user may set the room's canonical alias: the power that goes with its names.
pub(super) async fn may_name(reader: &Reader, room: &RoomId, user: &UserId) -> ApiResult<bool> {
    let keys = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.member", user.as_str()),
    ];
    let state = reader.state_entries(room, &keys).await?;
    Ok(state.is_some_and(|state| state.can_send_state(user, "m.room.canonical_alias")))
}

/// GET /_matrix/client/v3/rooms/{roomId}/aliases
async fn of_room(
    State(reader): State<Reader>,
    caller: Authenticated,
    Ruma(request): Ruma<aliases::v3::Request>,
) -> ApiResult<Json<Value>> {
    standing::readable(&reader, &request.room_id, &caller.user_id).await?;
    Ok(Json(json!({"aliases": reader.aliases_of(&request.room_id).await?})))
}
