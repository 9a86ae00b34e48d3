//! PUT /_matrix/federation/v2/send_join/{roomId}/{eventId} (Matrix specification, "Joining Rooms").

use std::collections::BTreeSet;

use axum::extract::State;
use ruma::api::federation::membership::create_join_event::v2::{Request, Response, RoomState};
use weft_http::{errors::ApiResult, ruma_json::Answer};

use super::{ServerPorts, Signed, acl, membership};

pub(super) async fn send_join(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let (_, event) = membership::check(
        &ports,
        &origin,
        &request.room_id,
        &request.event_id,
        &request.pdu,
        "join",
    )
    .await?;
    let joined = ports.rooms.accept_membership(&origin, event).await?;
    let mut state = RoomState::new();
    state.event = Some(acl::raw(&joined.event)?);
    state.state = acl::raw_all(&joined.state)?;
    state.auth_chain = acl::raw_all(&joined.auth_chain)?;
    let servers: BTreeSet<String> = ports
        .reader()
        .servers_in(&request.room_id)
        .await?
        .iter()
        .map(ToString::to_string)
        .collect();
    state.servers_in_room = Some(servers.into_iter().collect());
    Ok(Answer(Response::new(state)))
}
