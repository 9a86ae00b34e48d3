//! The traits that fanout depends on: room membership, and sending EDUs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};

/// Sends EDUs to other servers. They are in memory only and may be lost.
pub trait EduSink: Send + Sync + 'static {
    /// Queues an EDU about a room. Must not block. Of queued EDUs with the same `coalesce` key only the newest is
    /// sent, and none is sent to a server that has left the room in the meantime.
    fn send(
        &self,
        room: &RoomId,
        destinations: &[OwnedServerName],
        edu_type: &'static str,
        content: serde_json::Value,
        coalesce: Option<String>,
    );
}

/// A joined member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The display name in that room.
    pub display_name: Option<String>,
}

/// The current members of a room. The results come from derived state and are cheap.
#[async_trait]
pub trait MembershipView: Send + Sync + 'static {
    /// The member, if the user is joined.
    async fn member(&self, room: &RoomId, user: &UserId) -> Option<Member>;
    /// Joined users of this server.
    async fn local_members(&self, room: &RoomId) -> Vec<OwnedUserId>;
    /// Other servers with a joined user.
    async fn remote_servers(&self, room: &RoomId) -> Vec<OwnedServerName>;
    /// The rooms that a user of this server has joined; at most `MAX_PRESENCE_ROOMS`.
    async fn rooms_of(&self, user: &UserId) -> Vec<OwnedRoomId>;
    /// Those of `others`, whatever their server, that share one of [`MembershipView::rooms_of`] with a user of this
    /// server.
    async fn companions(&self, user: &UserId, others: &[OwnedUserId]) -> BTreeSet<OwnedUserId>;
    /// A user of another server is active in the document.
    fn remote_presence(&self, room: &RoomId);
}
