//! GET /_matrix/federation/v1/event/{eventId} (Matrix specification, "Retrieving events").

use axum::extract::State;
use ruma::api::federation::event::get_event::v1::{Request, Response};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

use super::{ServerPorts, Signed, acl};

pub(super) async fn event(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let unknown = || ApiError::not_found("Event not found, or your server may not see it.");
    let room = ports.reader().room_of(&request.event_id).await?.ok_or_else(unknown)?;
    let event = ports
        .reader()
        .event(Some(&room), &request.event_id)
        .await?
        .ok_or_else(unknown)?;
    acl::acl(&ports, &origin, &room).await?;
    // State events and their auth events are visible to every server in the room: without them nothing can be checked. Other
    // events follow the history visibility.
    let asked = std::slice::from_ref(&request.event_id);
    let member = !ports
        .reader()
        .may_ask_about(&room, &origin, asked, &[])
        .await?
        .is_empty();
    let allowed =
        (member && event.state_key().is_some()) || ports.reader().visible_to_server(&room, &origin, &event).await?;
    if !allowed {
        return Err(unknown());
    }
    let now = ports.keys.now();
    Ok(Answer(Response::new(ports.server_name.clone(), now, acl::raw(&event)?)))
}
