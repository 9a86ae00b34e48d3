//! The checks that send_join, send_leave and send_knock share: the event must have the expected membership, belong to a user of
//! the requesting server, match the room and event id of the path, and be signed correctly.

use ruma::{EventId, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use weft_dag::{RoomVersion, Verified};
use weft_http::errors::{ApiError, ApiResult};

use super::{ServerPorts, acl};

/// The checked event and the room's version.
pub(super) async fn check(
    ports: &ServerPorts,
    origin: &ServerName,
    room: &RoomId,
    event_id: &EventId,
    raw: &RawValue,
    membership: &str,
) -> ApiResult<(RoomVersion, Verified)> {
    let version = acl::room(ports, origin, room).await?;
    let event = if membership == "join" && names_ours(ports, raw) {
        let signer = ports.key_ring.signer();
        ports.events.check_cosigned(&version, raw, &signer).await
    } else {
        ports.events.check_one(&version, raw).await
    };
    let event = event.map_err(|reason| ApiError::invalid_param(format!("The event was refused: {reason}.")))?;
    let pdu = event.pdu();
    if pdu.room_id() != room || pdu.event_id() != event_id {
        return Err(ApiError::invalid_param("The room or event id differs from the path."));
    }
    if event.redacted_on_receipt() {
        return Err(ApiError::invalid_param("The event's content hash does not match."));
    }
    let own = pdu.kind() == "m.room.member" && pdu.state_key() == Some(pdu.sender().as_str());
    let as_stated = pdu.membership().is_some_and(|stated| stated.as_str() == membership);
    if !own || !as_stated {
        return Err(ApiError::invalid_param(format!(
            "The event must be a {membership} by its own sender."
        )));
    }
    if pdu.sender().server_name() != origin {
        return Err(ApiError::forbidden("The sender does not belong to your server."));
    }
    Ok((version, event))
}

/// Whether a join names a user of this server as authorising user: this server's signature is then part of it, and `room`
/// decides whether to give it before anyone sees the event.
fn names_ours(ports: &ServerPorts, raw: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Event {
        content: Vouched,
    }
    #[derive(Deserialize)]
    struct Vouched {
        join_authorised_via_users_server: OwnedUserId,
    }
    serde_json::from_str::<Event>(raw.get())
        .is_ok_and(|event| event.content.join_authorised_via_users_server.server_name() == ports.server_name)
}
