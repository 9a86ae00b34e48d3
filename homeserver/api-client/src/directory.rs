//! The public room directory of this server and of others.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedServerName,
    api::client::{
        directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility},
        room::Visibility,
    },
};
use serde_json::{Value, json};
use weft_accounts::Accounts;
use weft_federation::Initiator;
use weft_http::public_rooms::{PublicRooms, PublicRoomsQuery};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_read::Reader;

use super::{Ports, aliases::may_name, initiator::UnverifiedInitiator, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_public_rooms::v3::Request, _, _>(list)
        .endpoint::<get_public_rooms_filtered::v3::Request, _, _>(search)
        .endpoint::<get_room_visibility::v3::Request, _, _>(visibility)
        .endpoint::<set_room_visibility::v3::Request, _, _>(set_visibility)
}

/// GET /_matrix/client/v3/publicRooms
async fn list(
    State(reader): State<Reader>,
    State(directory): State<Arc<PublicRooms>>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    initiator: UnverifiedInitiator,
    Ruma(request): Ruma<get_public_rooms::v3::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::default()
    };
    match elsewhere(request.server, &accounts) {
        Some(server) => {
            let initiator = initiator.verify(&accounts).await;
            Ok(Json(remote.public_rooms(&initiator, &server, query).await?))
        }
        None => Ok(Json(directory.page(&reader, &query).await?)),
    }
}

/// POST /_matrix/client/v3/publicRooms
async fn search(
    State(reader): State<Reader>,
    State(directory): State<Arc<PublicRooms>>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    caller: Authenticated,
    Ruma(request): Ruma<get_public_rooms_filtered::v3::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::filtered(request.filter)
    };
    match elsewhere(request.server, &accounts) {
        Some(server) => {
            let initiator = Initiator::User(caller.user_id.clone());
            Ok(Json(remote.public_rooms(&initiator, &server, query).await?))
        }
        None => Ok(Json(directory.page(&reader, &query).await?)),
    }
}

/// The other server whose directory is requested.
fn elsewhere(server: Option<OwnedServerName>, accounts: &Accounts) -> Option<OwnedServerName> {
    server.filter(|server| *server != accounts.server_name())
}

/// GET /_matrix/client/v3/directory/list/room/{roomId}
async fn visibility(
    State(reader): State<Reader>,
    Ruma(request): Ruma<get_room_visibility::v3::Request>,
) -> ApiResult<Json<Value>> {
    if reader.version(&request.room_id).await?.is_none() {
        return Err(ApiError::not_found("Room not found."));
    }
    let public = reader.is_public(&request.room_id).await?;
    Ok(Json(json!({"visibility": if public { "public" } else { "private" }})))
}

/// PUT /_matrix/client/v3/directory/list/room/{roomId}
async fn set_visibility(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<set_room_visibility::v3::Request>,
) -> ApiResult<Json<Value>> {
    if !may_name(rooms.reader(), &request.room_id, &caller.user_id).await? {
        return Err(ApiError::forbidden(
            "Your power level in this room is too low to publish it in the directory.",
        ));
    }
    rooms
        .set_public(&request.room_id, request.visibility == Visibility::Public)
        .await?;
    Ok(Json(json!({})))
}
