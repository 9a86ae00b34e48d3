//! GET and POST /_matrix/federation/v1/publicRooms (Matrix specification, "Public Room Directory").
//!
//! Must not show more than this server's public directory.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use ruma::api::federation::directory::{get_public_rooms, get_public_rooms_filtered};
use serde_json::Value;
use weft_http::errors::ApiResult;
use weft_http::public_rooms::{PublicRooms, PublicRoomsQuery};

use super::{ServerPorts, Signed};

pub(super) async fn all(
    State(ports): State<ServerPorts>,
    Extension(directory): Extension<Arc<PublicRooms>>,
    Signed { request, .. }: Signed<get_public_rooms::v1::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::default()
    };
    Ok(Json(directory.page(ports.reader(), &query).await?))
}

pub(super) async fn filtered(
    State(ports): State<ServerPorts>,
    Extension(directory): Extension<Arc<PublicRooms>>,
    Signed { request, .. }: Signed<get_public_rooms_filtered::v1::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::filtered(request.filter)
    };
    Ok(Json(directory.page(ports.reader(), &query).await?))
}
