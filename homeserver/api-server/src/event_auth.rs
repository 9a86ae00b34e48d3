//! GET /_matrix/federation/v1/event_auth/{roomId}/{eventId} (Matrix specification, "Authorization").

use axum::extract::State;
use ruma::api::federation::authorization::get_event_authorization::v1::{Request, Response};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

use super::{ServerPorts, Signed, acl};

pub(super) async fn event_auth(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let asked = std::slice::from_ref(&request.event_id);
    acl::member_at(&ports, &origin, &request.room_id, asked, &[]).await?;
    let event = ports.reader().event(Some(&request.room_id), &request.event_id).await?;
    if event.is_none() {
        return Err(ApiError::not_found("Event not found in this room."));
    }
    let chain = ports.reader().auth_chain(&request.room_id, asked).await?;
    Ok(Answer(Response::new(acl::raw_all(&chain)?)))
}
