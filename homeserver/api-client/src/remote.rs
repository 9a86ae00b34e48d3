//! The federation requests that client endpoints need, as a trait. The program implements it with `federation` and `room`.

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::{Map, Value};
use weft_federation::Initiator;
use weft_http::{errors::ApiResult, public_rooms::PublicRoomsQuery};

/// Requests to other servers. Errors are those for the client: 404 if the remote server has no such object, 502 if none
/// answered. The `Initiator` is the client that causes the request: the limits for anonymous clients are lower.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// Joins a room that this server is not in (or can't authorise the join to) through one of `via`. `content` is that
    /// of the member event, except `membership`. Returns when the room is stored here.
    async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Knocks on a room that this server is not in.
    async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Rejects an invitation to, or retracts a knock on, a room that this server is not in.
    async fn leave(&self, user: &UserId, room: &RoomId, content: Map<String, Value>) -> ApiResult<()>;
    /// Invites a user of another server to a room that this server is in: that server signs the event too. `content` is
    /// that of the member event, except `membership`.
    async fn invite(
        &self,
        inviter: &UserId,
        invitee: &UserId,
        room: &RoomId,
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Resolves an alias of another server to its room and servers that are in the room.
    async fn resolve_alias(
        &self,
        initiator: &Initiator,
        alias: &RoomAliasId,
    ) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)>;
    /// The profile of another server's user.
    async fn profile(&self, initiator: &Initiator, user: &UserId) -> ApiResult<Map<String, Value>>;
    /// A page of another server's directory, as that server sent it.
    async fn public_rooms(
        &self,
        initiator: &Initiator,
        server: &ServerName,
        query: PublicRoomsQuery,
    ) -> ApiResult<Value>;
}
