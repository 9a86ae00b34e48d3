//! GET /_matrix/federation/v1/query/directory (Matrix specification, "Querying for information"): local aliases only.

use axum::extract::State;
use ruma::{
    OwnedServerName,
    api::federation::query::get_room_information::v1::{Request, Response},
};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};
use weft_wire::limits;

use super::{ServerPorts, Signed};

pub(super) async fn alias(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let row = ports.reader().alias(&request.room_alias).await?;
    let room = row.ok_or_else(|| ApiError::not_found("Room alias not found."))?.room;
    let others = ports.reader().servers_in(&room).await?;
    // This server first: it is known to be reachable.
    let mut servers: Vec<OwnedServerName> = vec![ports.server_name.clone()];
    servers.extend(others.into_iter().filter(|server| *server != ports.server_name));
    servers.truncate(limits::MAX_VIA_SERVERS);
    Ok(Answer(Response::new(room, servers)))
}
