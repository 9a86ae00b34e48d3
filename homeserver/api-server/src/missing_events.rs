//! POST /_matrix/federation/v1/get_missing_events/{roomId} (Matrix specification, "Backfilling and retrieving missing events").

use axum::extract::State;
use ruma::api::federation::event::get_missing_events::v1::{Request, Response};
use weft_http::{errors::ApiResult, ruma_json::Answer};
use weft_wire::limits;

use super::{ServerPorts, Signed, acl};

pub(super) async fn missing_events(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let (room, asked, ends) = (&request.room_id, &request.latest_events, &request.earliest_events);
    let (version, latest) = acl::member_at(&ports, &origin, room, asked, ends).await?;
    let limit = usize::try_from(u64::from(request.limit))
        .unwrap_or(usize::MAX)
        .min(limits::MAX_BACKFILL_EVENTS);
    let mut events = ports
        .reader()
        .missing_events(&request.room_id, &request.earliest_events, &latest, limit)
        .await?;
    let min_depth = u64::from(request.min_depth);
    events.retain(|event| event.depth() >= min_depth);
    let events = acl::visible(&ports, &origin, &request.room_id, &version, events).await?;
    Ok(Answer(Response::new(events)))
}
