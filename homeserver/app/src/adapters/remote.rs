//! Requests of the client API to other servers: memberships of local users in rooms that this server is not in, aliases,
//! profiles and directories. Must not decide permissions: the room's servers do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::http::StatusCode;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId,
    canonical_json::try_from_json_map, directory::Filter,
};
use serde_json::{Map, Value, json};
use weft_federation::{
    CallError, Client, Initiator, MatrixError,
    handshake::{Handshake, HandshakeError, PastMemberships, Wanted},
    outbox::Sender,
};
use weft_gateway::{
    client::Remote,
    documents::RemoteRequests,
    errors::{ApiError, ApiResult},
    public_rooms::PublicRoomsQuery,
};
use weft_room::{OutOfBandMembership, Rooms};
use weft_room_api::JoinedRoom;

use super::RoomInvitations;

/// Retry time for a client that is refused because too many requests to other servers are in flight.
const BUSY: Duration = Duration::from_secs(5);

/// How long a handshake waits until the events queued for its server are delivered.
const FLUSH: Duration = Duration::from_secs(3);

/// Error codes of other servers that are passed on to clients unchanged.
const PASSED_ON: [&str; 12] = [
    "M_BAD_JSON",
    "M_BAD_STATE",
    "M_FORBIDDEN",
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_INVALID_PARAM",
    "M_MISSING_PARAM",
    "M_NOT_JSON",
    "M_TOO_LARGE",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNRECOGNIZED",
    "M_UNSUPPORTED_ROOM_VERSION",
];

/// Implements the client API's port with rooms and handshakes.
#[derive(Clone)]
pub(crate) struct RemoteRooms {
    pub(crate) rooms: Rooms,
    pub(crate) handshake: Arc<Handshake>,
    pub(crate) sender: Sender,
}

impl RemoteRooms {
    fn client(&self) -> &Client {
        self.handshake.events().client()
    }

    /// Servers that may be in a room to which a local user is invited: the inviter's, those of the members in the
    /// stripped state, and the one in the room ID.
    async fn servers_of_invitation(&self, user: &UserId, room: &RoomId) -> ApiResult<Vec<OwnedServerName>> {
        let reader = self.rooms.reader();
        let shown = match reader.room_of_user(user, room).await? {
            Some(entry) => reader.out_of_band_state(user, &entry).await?,
            None => Vec::new(),
        };
        let senders = shown
            .into_iter()
            .filter_map(|entry| entry.get_field::<String>("sender").ok().flatten());
        let mut servers: Vec<OwnedServerName> = senders
            .filter_map(|sender| UserId::parse(sender).ok().map(|user| user.server_name().to_owned()))
            .collect();
        // The last entry is the invitation itself: its sender's server is the most likely to be in the room.
        servers.reverse();
        servers.extend(room.server_name().map(ToOwned::to_owned));
        Ok(servers)
    }
}

#[async_trait]
impl PastMemberships for RemoteRooms {
    async fn has_ended(&self, wanted: &Wanted, cited: &[OwnedEventId]) -> bool {
        let ended = self
            .rooms
            .reader()
            .has_ended(&wanted.room_id, &wanted.user, cited)
            .await;
        ended.unwrap_or_else(|error| {
            // The join is checked against the room's state again when the room is adopted.
            tracing::warn!(
                event = "membership.read_failed", room = %wanted.room_id, user = %wanted.user, %error,
                "cannot read the user's previous membership"
            );
            false
        })
    }

    async fn deliver(&self, server: &ServerName) -> bool {
        self.sender.flush(server, FLUSH).await
    }
}

#[async_trait]
impl Remote for RemoteRooms {
    async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()> {
        let mut via = via.to_vec();
        via.extend(self.servers_of_invitation(user, room).await?);
        let wanted = wanted(room, user, via, content)?;
        let _under_way = self.rooms.joining(room);
        let joined = self
            .handshake
            .join(&wanted, self)
            .await
            .map_err(|error| refused(&error))?;
        let joined = JoinedRoom {
            version: joined.version,
            state: joined.state,
            auth_chain: joined.auth_chain,
            event: joined.event,
            resident: joined.resident,
            snapshot: joined.snapshot,
        };
        Ok(self.rooms.adopt(joined).await?)
    }

    async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()> {
        let wanted = wanted(room, user, via.to_vec(), content)?;
        let knocked = self
            .handshake
            .knock(&wanted, self)
            .await
            .map_err(|error| refused(&error))?;
        let stripped = knocked
            .stripped
            .iter()
            .map(|entry| serde_json::from_str(entry.get()))
            .collect::<Result<_, _>>()?;
        let knock = OutOfBandMembership {
            event: knocked.event,
            version: knocked.version,
            resident: knocked.resident,
            stripped,
            user: user.to_owned(),
        };
        Ok(self.rooms.invited(knock).await?)
    }

    async fn leave(&self, user: &UserId, room: &RoomId, content: Map<String, Value>) -> ApiResult<()> {
        let via = self.servers_of_invitation(user, room).await?;
        // If no server of the room responds, the invitation is removed locally all the same.
        let left = self.handshake.leave(&wanted(room, user, via, content)?, self).await;
        let left = left
            .inspect_err(|error| {
                tracing::warn!(
                    event = "membership.leave_not_sent", %room, %user, %error,
                    "left a room without notifying its servers"
                )
            })
            .ok();
        let event = left.as_ref().map(|event| &**event.pdu());
        Ok(self.rooms.uninvited(room, user, event).await?)
    }

    async fn invite(
        &self,
        inviter: &UserId,
        invitee: &UserId,
        room: &RoomId,
        mut content: Map<String, Value>,
    ) -> ApiResult<()> {
        content.insert("membership".to_owned(), json!("invite"));
        let invitations = RoomInvitations {
            rooms: self.rooms.clone(),
            handshake: Arc::clone(&self.handshake),
        };
        invitations.invite_with(room, inviter, invitee, content).await
    }

    async fn resolve_alias(
        &self,
        initiator: &Initiator,
        alias: &RoomAliasId,
    ) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
        let found = self
            .client()
            .resolve_alias(initiator, alias.to_owned())
            .await
            .map_err(|error| unanswered(&error))?;
        Ok((found.room_id, found.servers))
    }

    async fn profile(&self, initiator: &Initiator, user: &UserId) -> ApiResult<Map<String, Value>> {
        let profile = self
            .client()
            .profile(initiator, user.to_owned(), None)
            .await
            .map_err(|error| unanswered(&error))?;
        Ok(profile.into_iter().collect())
    }

    async fn public_rooms(
        &self,
        initiator: &Initiator,
        server: &ServerName,
        query: PublicRoomsQuery,
    ) -> ApiResult<Value> {
        let limit = query.limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let mut filter = Filter::new();
        filter.generic_search_term = query.search;
        filter.room_types = query.room_types.into_iter().map(Into::into).collect();
        let filter = Some(filter).filter(|filter| !filter.is_empty());
        let page = self
            .client()
            .public_rooms(initiator, server, limit, query.since, filter)
            .await;
        let page = page.map_err(|error| unanswered(&error))?;
        let mut answer = json!({ "chunk": page.chunk });
        if let Value::Object(answer) = &mut answer {
            let estimate = page.total_room_count_estimate.map(|count| json!(count));
            let tokens = [("next_batch", page.next_batch), ("prev_batch", page.prev_batch)];
            let tokens = tokens
                .into_iter()
                .filter_map(|(name, token)| Some((name, json!(token?))));
            for (name, value) in tokens.chain(estimate.map(|count| ("total_room_count_estimate", count))) {
                answer.insert(name.to_owned(), value);
            }
        }
        Ok(answer)
    }
}

#[async_trait]
impl RemoteRequests for RemoteRooms {
    async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()> {
        Remote::knock(self, user, room, via, content).await
    }

    async fn retract(&self, user: &UserId, room: &RoomId) -> ApiResult<()> {
        Remote::leave(self, user, room, Map::new()).await
    }
}

fn wanted(room: &RoomId, user: &UserId, via: Vec<OwnedServerName>, content: Map<String, Value>) -> ApiResult<Wanted> {
    let content: CanonicalJsonObject = try_from_json_map(content)
        .map_err(|error| ApiError::bad_json(format!("The content can't be part of an event: {error}")))?;
    Ok(Wanted {
        room_id: room.to_owned(),
        via,
        user: user.to_owned(),
        content,
    })
}

/// The error response for a failed handshake. A refusal by the other server is passed on with the server's name.
pub(crate) fn refused(error: &HandshakeError) -> ApiError {
    match error {
        HandshakeError::NoServer => ApiError::not_found("No server that is in the room is known."),
        HandshakeError::Version(version) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "M_INCOMPATIBLE_ROOM_VERSION",
            format!("This server does not support room version {version}."),
        )
        .with("room_version", json!(version)),
        HandshakeError::Call(error) => unanswered(error),
        HandshakeError::Behind { server } => ApiError::unavailable(format!(
            "{server} has not yet received the event that removed you from the room. Try again."
        )),
        HandshakeError::Build(error) => ApiError::invalid_param(error.to_string()),
        error => ApiError::bad_gateway(error.to_string()),
    }
}

/// The same for a single request.
fn unanswered(error: &CallError) -> ApiError {
    if let Some(server) = error.unreachable() {
        tracing::info!(%server, %error, "a request for a client to another server failed");
        return ApiError::unreachable(server);
    }
    match error {
        CallError::Refused { server, error } => passed_on(server, error),
        CallError::Busy => ApiError::limit_exceeded(BUSY),
        error => ApiError::bad_gateway(error.to_string()),
    }
}

/// A refusal with the other server's status, and with its code if that is a code of the specification. The client can
/// correct a wrong request, and a gateway error would mean that it can't.
fn passed_on(server: &ServerName, error: &MatrixError) -> ApiError {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_GATEWAY);
    match status {
        StatusCode::NOT_FOUND => ApiError::not_found(format!("{server} does not have the requested resource.")),
        StatusCode::TOO_MANY_REQUESTS => ApiError::limit_exceeded(BUSY),
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::PAYLOAD_TOO_LARGE => {
            let known = PASSED_ON.iter().find(|code| **code == error.errcode);
            let code = known.copied().unwrap_or(match status {
                StatusCode::FORBIDDEN => "M_FORBIDDEN",
                _ => "M_UNKNOWN",
            });
            ApiError::new(status, code, format!("{server} refused: {}", error.message))
        }
        // A failure of the other server or of the path to it: if it refused our signature, the client made no mistake.
        status => ApiError::bad_gateway(format!("{server} responded with status {}.", status.as_u16())),
    }
}
