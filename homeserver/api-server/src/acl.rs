//! Access to a room for other servers: those that its ACL allows and, for its history, those that are or were in it.

use std::sync::Arc;

use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use weft_dag::{Pdu, RoomVersion, redact::redact};
use weft_http::errors::{ApiError, ApiResult};
use weft_wire::limits;

use super::ServerPorts;

/// The version of a room that this server is in and whose ACL allows `origin`.
pub(super) async fn room(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<RoomVersion> {
    let version = ports.reader().version(room).await?;
    let version = version.ok_or_else(|| ApiError::not_found("This server is not in the room."))?;
    acl(ports, origin, room).await?;
    Ok(version)
}

/// As [`room`], and `origin` has a joined user in the room. Must not reveal to a server outside the room whether the room
/// exists (T60).
pub(super) async fn member(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<RoomVersion> {
    let outside = || ApiError::forbidden("Your server is not in the room.");
    let version = ports.reader().version(room).await?.ok_or_else(outside)?;
    if !ports.reader().has_server(room, origin).await? {
        return Err(outside());
    }
    acl(ports, origin, room).await?;
    Ok(version)
}

/// As [`member`], or `origin` was in the room before an event that it requests: returns those events of `at`. A server whose
/// users were removed may not have received the removal yet, and must be able to order the events that contain it. `ends`
/// are the forward extremities up to which it has the room.
pub(super) async fn member_at(
    ports: &ServerPorts,
    origin: &ServerName,
    room: &RoomId,
    at: &[OwnedEventId],
    ends: &[OwnedEventId],
) -> ApiResult<(RoomVersion, Vec<OwnedEventId>)> {
    let outside = || ApiError::forbidden("Your server is not in the room.");
    let version = ports.reader().version(room).await?.ok_or_else(outside)?;
    if at.len() > limits::MAX_EVENT_IDS_PER_REQUEST || ends.len() > limits::MAX_EVENT_IDS_PER_REQUEST {
        return Err(ApiError::invalid_param("Too many events."));
    }
    let allowed = ports.reader().may_ask_about(room, origin, at, ends).await?;
    if allowed.is_empty() && !ports.reader().has_server(room, origin).await? {
        return Err(outside());
    }
    acl(ports, origin, room).await?;
    Ok((version, allowed))
}

/// Checks only the ACL: for rooms that this server may not be in.
pub(super) async fn acl(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<()> {
    let allowed = ports
        .intake
        .acl_allows(room, origin)
        .await
        .map_err(|error| ApiError::store("The room cannot be read at the moment.", &error))?;
    if allowed {
        Ok(())
    } else {
        Err(ApiError::forbidden("The room's ACL denies your server."))
    }
}

/// Events as `origin` may see them: complete, or redacted if the history is not visible to it. The graph stays complete, so
/// that the other server can walk it.
pub(super) async fn visible(
    ports: &ServerPorts,
    origin: &ServerName,
    room: &RoomId,
    version: &RoomVersion,
    events: Vec<Arc<Pdu>>,
) -> ApiResult<Vec<Box<RawValue>>> {
    let mut shown = Vec::with_capacity(events.len());
    for event in events {
        if ports.reader().visible_to_server(room, origin, &event).await? {
            shown.push(raw(&event)?);
        } else {
            let redacted = redact(&event, version).map_err(|error| ApiError::internal("redacting", &error))?;
            shown.push(raw(&redacted)?);
        }
    }
    Ok(shown)
}

/// An event in the federation format.
pub(super) fn raw(event: &Pdu) -> ApiResult<Box<RawValue>> {
    RawValue::from_string(event.json().to_owned()).map_err(|error| ApiError::internal("encoding an event", &error))
}

/// Several events in the federation format.
pub(super) fn raw_all(events: &[Arc<Pdu>]) -> ApiResult<Vec<Box<RawValue>>> {
    events.iter().map(|event| raw(event)).collect()
}
