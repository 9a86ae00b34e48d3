//! Memberships of our users in rooms that this server is not in: the handshake with a server that is, and what the
//! room makes of the answer.

use std::sync::Arc;

use http::StatusCode;
use ruma::{CanonicalJsonObject, OwnedServerName, RoomId, UserId};
use serde_json::json;
use weft_federation::{
    CallError,
    handshake::{Handshake, HandshakeError, Wanted},
};
use weft_gateway::errors::{ApiError, ApiResult};
use weft_room::{JoinedRoom, Rooms};

/// Rooms and handshakes, as the client API sees them.
#[derive(Clone)]
pub(crate) struct RemoteRooms {
    pub(crate) rooms: Rooms,
    pub(crate) handshake: Arc<Handshake>,
}

impl RemoteRooms {
    /// Joins a room through one of `via`.
    pub(crate) async fn join(
        &self,
        room: &RoomId,
        user: &UserId,
        via: Vec<OwnedServerName>,
        content: CanonicalJsonObject,
    ) -> ApiResult<()> {
        let joined = self
            .handshake
            .join(&wanted(room, user, via, content))
            .await
            .map_err(|error| refused(&error))?;
        let room = JoinedRoom {
            version: joined.version,
            state: joined.state,
            auth_chain: joined.auth_chain,
            event: joined.event,
            resident: joined.resident,
            snapshot: joined.snapshot,
        };
        Ok(self.rooms.adopt(room).await?)
    }

    /// Leaves: declines an invitation or withdraws a knock. Where no server of the room answers, the user is rid of it
    /// all the same.
    pub(crate) async fn leave(
        &self,
        room: &RoomId,
        user: &UserId,
        via: Vec<OwnedServerName>,
        content: CanonicalJsonObject,
    ) -> ApiResult<()> {
        if let Err(error) = self.handshake.leave(&wanted(room, user, via, content)).await {
            tracing::warn!(%room, %user, %error, "left a room without its servers' knowledge");
        }
        Ok(self.rooms.uninvited(room, user).await?)
    }
}

fn wanted(room: &RoomId, user: &UserId, via: Vec<OwnedServerName>, content: CanonicalJsonObject) -> Wanted {
    Wanted {
        room_id: room.to_owned(),
        via,
        user: user.to_owned(),
        content,
    }
}

/// What a client is told of a handshake that failed. What the other server said of rights is passed on as its own.
pub(crate) fn refused(error: &HandshakeError) -> ApiError {
    match error {
        HandshakeError::NoServer => ApiError::not_found("No server is known that is in that room."),
        HandshakeError::Version(version) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "M_INCOMPATIBLE_ROOM_VERSION",
            format!("This server does not speak room version {version}."),
        )
        .with("room_version", json!(version)),
        HandshakeError::Call(CallError::Refused { server, error }) => match error.status {
            403 => ApiError::forbidden(format!("{server} refused: {}", error.message)),
            404 => ApiError::not_found(format!("{server} knows no such room or user.")),
            _ => ApiError::bad_gateway(format!("{server} answered {}.", error.status)),
        },
        HandshakeError::Build(error) => ApiError::invalid_param(error.to_string()),
        error => ApiError::bad_gateway(error.to_string()),
    }
}
