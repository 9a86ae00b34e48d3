//! GET make_join, make_leave, make_knock (v1): an event template for another server to complete and sign.

use axum::extract::State;
use http::StatusCode;
use ruma::{
    CanonicalJsonObject, RoomId, RoomVersionId, ServerName, UserId,
    api::federation::membership::{prepare_join_event, prepare_knock_event, prepare_leave_event},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};
use weft_room_api::{Template, TemplateKind};

use super::{ServerPorts, Signed, acl};

pub(super) async fn make_join(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<prepare_join_event::v1::Request>,
) -> ApiResult<Answer<prepare_join_event::v1::Response>> {
    let spoken = Some(request.ver.as_slice());
    let (version, event) = make(
        &ports,
        &origin,
        &request.room_id,
        &request.user_id,
        TemplateKind::Join,
        spoken,
    )
    .await?;
    let mut response = prepare_join_event::v1::Response::new(event);
    response.room_version = Some(version);
    Ok(Answer(response))
}

pub(super) async fn make_leave(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<prepare_leave_event::v1::Request>,
) -> ApiResult<Answer<prepare_leave_event::v1::Response>> {
    let (version, event) = make(
        &ports,
        &origin,
        &request.room_id,
        &request.user_id,
        TemplateKind::Leave,
        None,
    )
    .await?;
    Ok(Answer(prepare_leave_event::v1::Response::new(Some(version), event)))
}

pub(super) async fn make_knock(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<prepare_knock_event::v1::Request>,
) -> ApiResult<Answer<prepare_knock_event::v1::Response>> {
    let spoken = Some(request.ver.as_slice());
    let (version, event) = make(
        &ports,
        &origin,
        &request.room_id,
        &request.user_id,
        TemplateKind::Knock,
        spoken,
    )
    .await?;
    Ok(Answer(prepare_knock_event::v1::Response::new(version, event)))
}

async fn make(
    ports: &ServerPorts,
    origin: &ServerName,
    room: &RoomId,
    user: &UserId,
    kind: TemplateKind,
    spoken: Option<&[RoomVersionId]>,
) -> ApiResult<(RoomVersionId, Box<RawValue>)> {
    if user.server_name() != origin {
        return Err(ApiError::forbidden("The user does not belong to your server."));
    }
    let version = acl::room(ports, origin, room).await?;
    if spoken.is_some_and(|spoken| !spoken.contains(version.id())) {
        let error = ApiError::new(
            StatusCode::BAD_REQUEST,
            "M_INCOMPATIBLE_ROOM_VERSION",
            "Your server does not support the room version.",
        );
        return Err(error.with("room_version", json!(version.id())));
    }
    let (version, event) = ports
        .rooms
        .template(
            room,
            Template {
                user: user.to_owned(),
                kind,
            },
        )
        .await?;
    Ok((version, event_json(&event)?))
}

fn event_json(event: &CanonicalJsonObject) -> ApiResult<Box<RawValue>> {
    to_raw_value(event).map_err(|error| ApiError::internal("encoding a template", &error))
}
