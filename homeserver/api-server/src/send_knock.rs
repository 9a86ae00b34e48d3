//! PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId} (Matrix specification, "Knocking upon a room").

use axum::extract::State;
use ruma::api::federation::membership::{
    RawStrippedState,
    create_knock_event::v1::{Request, Response},
};
use weft_dag::stripped;
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

use super::{ServerPorts, Signed, membership};

pub(super) async fn send_knock(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let (_, event) = membership::check(
        &ports,
        &origin,
        &request.room_id,
        &request.event_id,
        &request.pdu,
        "knock",
    )
    .await?;
    let user = event.pdu().sender().to_owned();
    ports.rooms.accept_membership(&origin, event).await?;
    let state = ports.reader().state(&request.room_id).await?;
    let state = state.ok_or_else(|| ApiError::not_found("This server is not in the room."))?;
    let shown = stripped::for_servers(&state, &user)
        .into_iter()
        .map(RawStrippedState::Pdu)
        .collect();
    Ok(Answer(Response::new(shown)))
}
