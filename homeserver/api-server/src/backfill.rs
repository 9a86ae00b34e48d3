//! GET /_matrix/federation/v1/backfill/{roomId} (Matrix specification, "Backfilling and retrieving missing events").

use axum::extract::State;
use ruma::api::federation::backfill::get_backfill::v1::{Request, Response};
use weft_http::{errors::ApiResult, ruma_json::Answer};
use weft_wire::limits;

use super::{ServerPorts, Signed, acl};

pub(super) async fn backfill(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    let (version, from) = acl::member_at(&ports, &origin, &request.room_id, &request.v, &[]).await?;
    let limit = usize::try_from(u64::from(request.limit))
        .unwrap_or(usize::MAX)
        .min(limits::MAX_BACKFILL_EVENTS);
    let events = ports.reader().backfill(&request.room_id, &from, limit).await?;
    let pdus = acl::visible(&ports, &origin, &request.room_id, &version, events).await?;
    Ok(Answer(Response::new(ports.server_name.clone(), ports.keys.now(), pdus)))
}
