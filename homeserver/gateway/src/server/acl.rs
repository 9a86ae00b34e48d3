//! Who may ask about a room at all: servers that its access list lets in and, for its history, that are or were in it.

use std::sync::Arc;

use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;
use weft_dag::{Pdu, RoomVersion, redact::redact};
use weft_wire::limits;

use super::ServerPorts;
use crate::errors::{ApiError, ApiResult};

/// The version of a room that this server is in and whose access list lets `origin` in.
pub(super) async fn room(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<RoomVersion> {
    let version = ports.reader().version(room).await?;
    let version = version.ok_or_else(|| ApiError::not_found("This server is not in that room."))?;
    acl(ports, origin, room).await?;
    Ok(version)
}

/// As [`room`], and `origin` has a joined user in it. A server that isn't in the room can't tell one that doesn't
/// exist from one that it may not see (T60).
pub(super) async fn member(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<RoomVersion> {
    let outside = || ApiError::forbidden("Your server is not in that room.");
    let version = ports.reader().version(room).await?.ok_or_else(outside)?;
    if !ports.reader().servers_in(room).await?.contains(origin) {
        return Err(outside());
    }
    acl(ports, origin, room).await?;
    Ok(version)
}

/// As [`member`], or `origin` was in the room before an event that it asks about: gives those events of `at`. It may have
/// been put out without having heard of it yet, and must be able to place what tells it so. `ends` is what it says that
/// it knows the room up to.
pub(super) async fn member_at(
    ports: &ServerPorts,
    origin: &ServerName,
    room: &RoomId,
    at: &[OwnedEventId],
    ends: &[OwnedEventId],
) -> ApiResult<(RoomVersion, Vec<OwnedEventId>)> {
    let outside = || ApiError::forbidden("Your server is not in that room.");
    let version = ports.reader().version(room).await?.ok_or_else(outside)?;
    if at.len() > limits::MAX_EVENT_IDS_PER_REQUEST || ends.len() > limits::MAX_EVENT_IDS_PER_REQUEST {
        return Err(ApiError::invalid_param("Too many events."));
    }
    let allowed = ports.reader().may_ask_about(room, origin, at, ends).await?;
    if allowed.is_empty() && !ports.reader().servers_in(room).await?.contains(origin) {
        return Err(outside());
    }
    acl(ports, origin, room).await?;
    Ok((version, allowed))
}

/// The access list alone: for rooms that we may not be in.
pub(super) async fn acl(ports: &ServerPorts, origin: &ServerName, room: &RoomId) -> ApiResult<()> {
    let allowed = ports
        .intake
        .acl_allows(room, origin)
        .await
        .map_err(|error| ApiError::store("The room can't be read at the moment.", &error))?;
    if allowed {
        Ok(())
    } else {
        Err(ApiError::forbidden("The room's access list denies your server."))
    }
}

/// Events as `origin` may see them: whole, or redacted where the history is not for it. The graph stays whole, so that
/// the other server can walk it.
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

/// An event in the form in which servers exchange it.
pub(super) fn raw(event: &Pdu) -> ApiResult<Box<RawValue>> {
    RawValue::from_string(event.json().to_owned()).map_err(|error| ApiError::internal("writing an event", &error))
}

/// Several of them.
pub(super) fn raw_all(events: &[Arc<Pdu>]) -> ApiResult<Vec<Box<RawValue>>> {
    events.iter().map(|event| raw(event)).collect()
}
