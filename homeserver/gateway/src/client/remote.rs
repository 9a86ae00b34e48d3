//! What only other servers can answer or do, as a port. The program builds it from `federation` and `room`.

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId, directory::Filter};
use serde_json::{Map, Value};
use weft_federation::Asker;

use crate::errors::ApiResult;

/// Which part of a public directory.
#[derive(Debug, Clone, Default)]
pub struct PublicRoomsQuery {
    /// Entries at most.
    pub limit: Option<u64>,
    /// Where the last page ended.
    pub since: Option<String>,
    /// Words that name, topic or alias must hold.
    pub search: Option<String>,
    /// Room types, None among them for rooms without one; all where empty.
    pub room_types: Vec<Option<String>>,
}

impl PublicRoomsQuery {
    /// What a filter asks for.
    #[must_use]
    pub fn filtered(filter: Filter) -> Self {
        let types = filter.room_types.iter();
        Self {
            search: filter.generic_search_term.filter(|term| !term.trim().is_empty()),
            room_types: types.map(|kind| kind.as_str().map(str::to_owned)).collect(),
            ..Self::default()
        }
    }
}

/// Other servers. Errors are those that the client shall see: 404 what they haven't, 502 where none answered. An asker is
/// whoever causes the request: strangers may cause few.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// Joins a room that this server is not in (or can't authorise the join to) through one of `via`. `content` is that
    /// of the member event, less the membership. Returns when the room is here.
    async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Knocks at a room that this server is not in.
    async fn knock(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// Declines an invitation to, or takes back a knock at, a room that this server is not in.
    async fn leave(&self, user: &UserId, room: &RoomId, content: Map<String, Value>) -> ApiResult<()>;
    /// Invites a user of another server to a room that this server is in: that server signs the event too. `content` is
    /// that of the member event, less the membership.
    async fn invite(
        &self,
        inviter: &UserId,
        invitee: &UserId,
        room: &RoomId,
        content: Map<String, Value>,
    ) -> ApiResult<()>;
    /// What an alias of another server stands for, and servers that are in that room.
    async fn resolve_alias(&self, asker: &Asker, alias: &RoomAliasId)
    -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)>;
    /// The profile of another server's user.
    async fn profile(&self, asker: &Asker, user: &UserId) -> ApiResult<Map<String, Value>>;
    /// A page of another server's directory, as that server sent it.
    async fn public_rooms(&self, asker: &Asker, server: &ServerName, query: PublicRoomsQuery) -> ApiResult<Value>;
}
