//! PUT /_matrix/federation/v2/invite/{roomId}/{eventId} (Matrix specification, "Inviting to a room").
//!
//! Must not sign an event that `weft_federation::handshake` has not checked field by field (T32).

use axum::extract::State;
use http::StatusCode;
use ruma::api::federation::membership::create_invite::v2::{Request, Response};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use weft_federation::handshake::{IncomingInvite, InviteError};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};
use weft_room::OutOfBandMembership;

use super::{ServerPorts, Signed, acl, signed::SignedPath};

pub(super) async fn invite(
    State(ports): State<ServerPorts>,
    Signed { origin, request }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    acl::acl(&ports, &origin, &request.room_id).await?;
    let stripped: Result<Vec<Box<RawValue>>, _> = request.invite_room_state.iter().map(to_raw_value).collect();
    let incoming = IncomingInvite {
        origin: &origin,
        room_id: &request.room_id,
        event_id: &request.event_id,
        version: &request.room_version,
        event: &request.event,
        stripped: stripped?,
    };
    let invited = ports.handshake.invited(incoming).await.map_err(refused)?;
    if !ports.accounts.exists(&invited.user).await? {
        return Err(ApiError::not_found("User not found."));
    }
    let stripped = invited
        .stripped
        .iter()
        .map(|state| shown(state))
        .collect::<ApiResult<_>>()?;
    let event = acl::raw(invited.event.pdu())?;
    ports
        .rooms
        .invited(OutOfBandMembership {
            event: invited.event,
            version: request.room_version,
            resident: origin,
            stripped,
            user: invited.user,
        })
        .await?;
    Ok(Answer(Response::new(event)))
}

/// v1 is for room versions 1 and 2, which are obsolete and not supported by this server.
pub(super) async fn invite_v1(_: SignedPath) -> ApiError {
    incompatible("1")
}

fn incompatible(version: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "M_INCOMPATIBLE_ROOM_VERSION",
        "This server does not support the room version.",
    )
    .with("room_version", json!(version))
}

fn refused(error: InviteError) -> ApiError {
    match error {
        InviteError::Version(version) => incompatible(version.as_str()),
        InviteError::NotOurs(_) => ApiError::forbidden(error.to_string()),
        InviteError::Stripped(_) => ApiError::missing_param(error.to_string()),
        InviteError::Dropped(_) => ApiError::invalid_param(error.to_string()),
        InviteError::Build(_) => ApiError::internal("signing an invitation", &error),
    }
}

/// A state event of the other server in the client format: servers exchange complete events, and clients don't need
/// their hashes.
fn shown(state: &RawValue) -> ApiResult<Value> {
    let mut entry: Map<String, Value> = serde_json::from_str(state.get())?;
    entry.retain(|field, _| matches!(field.as_str(), "type" | "state_key" | "sender" | "content"));
    Ok(Value::Object(entry))
}
