//! GET and POST /_matrix/federation/v1/publicRooms (Matrix specification, "Public Room Directory").
//!
//! Shows what this server's directory shows to anybody.

use axum::{Json, extract::State};
use ruma::api::federation::directory::{get_public_rooms, get_public_rooms_filtered};
use serde_json::Value;

use super::{ServerPorts, Signed};
use crate::{
    client::{PublicRoomsQuery, public_rooms},
    errors::ApiResult,
};

pub(super) async fn all(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<get_public_rooms::v1::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        search: None,
    };
    Ok(Json(public_rooms(ports.reader(), &query).await?))
}

pub(super) async fn filtered(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<get_public_rooms_filtered::v1::Request>,
) -> ApiResult<Json<Value>> {
    let search = request
        .filter
        .generic_search_term
        .filter(|term| !term.trim().is_empty());
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        search,
    };
    Ok(Json(public_rooms(ports.reader(), &query).await?))
}
