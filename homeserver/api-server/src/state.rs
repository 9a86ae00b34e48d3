//! GET /_matrix/federation/v1/state and /state_ids/{roomId} (Matrix specification, "Retrieving events"): the state before
//! an event, for servers that are in the room or were at that event.

use std::slice;

use axum::extract::State;
use ruma::{
    OwnedEventId, RoomId, ServerName,
    api::federation::event::{get_room_state, get_room_state_ids},
};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};
use weft_room_api::StateIds;

use super::{ServerPorts, Signed, acl};

pub(super) async fn state_ids(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<get_room_state_ids::v1::Request>,
) -> ApiResult<Answer<get_room_state_ids::v1::Response>> {
    let ids = before(&ports, &origin, &request.room_id, &request.event_id).await?;
    Ok(Answer(get_room_state_ids::v1::Response::new(ids.auth_chain, ids.state)))
}

pub(super) async fn state(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<get_room_state::v1::Request>,
) -> ApiResult<Answer<get_room_state::v1::Response>> {
    let ids = before(&ports, &origin, &request.room_id, &request.event_id).await?;
    let mut lists = Vec::with_capacity(2);
    for ids in [&ids.auth_chain, &ids.state] {
        let events = ports.reader().events(&request.room_id, ids).await?;
        lists.push(
            events
                .iter()
                .map(|event| acl::raw(&event.pdu))
                .collect::<ApiResult<Vec<_>>>()?,
        );
    }
    let (state, auth_chain) = (lists.pop().unwrap_or_default(), lists.pop().unwrap_or_default());
    Ok(Answer(get_room_state::v1::Response::new(auth_chain, state)))
}

/// The state before an event, for a server that may request it.
async fn before(ports: &ServerPorts, origin: &ServerName, room: &RoomId, event: &OwnedEventId) -> ApiResult<StateIds> {
    acl::member_at(ports, origin, room, slice::from_ref(event), &[]).await?;
    let unknown = || ApiError::not_found("The state at this event is unknown.");
    // A rejected event has no state here: a server that has accepted it must not use this server's state for it.
    let stored = ports.reader().stored_event(room, event).await?.ok_or_else(unknown)?;
    if stored.pdu.rejected() {
        return Err(unknown());
    }
    let ids = ports.reader().state_ids(room, event).await?;
    ids.ok_or_else(unknown)
}
