//! PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId} (Matrix specification, "Leaving Rooms").

use axum::extract::State;
use ruma::api::federation::membership::create_leave_event::v2::{Request, Response};
use weft_http::{errors::ApiResult, ruma_json::Answer};

use super::{ServerPorts, Signed, membership};

pub(super) async fn send_leave(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let (_, event) = membership::check(
        &ports,
        &origin,
        &request.room_id,
        &request.event_id,
        &request.pdu,
        "leave",
    )
    .await?;
    ports.rooms.accept_membership(&origin, event).await?;
    Ok(Answer(Response::new()))
}
