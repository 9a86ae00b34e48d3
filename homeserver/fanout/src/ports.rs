//! What fanout asks of others, as small traits: who is in a room, and a way to send EDUs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};

/// Takes EDUs for other servers. They are kept in memory only, and may be lost.
pub trait EduSink: Send + Sync + 'static {
    /// Queues an EDU about a room. Must not block. Of EDUs with the same `coalesce` key that still wait, only the newest
    /// is sent, and none to a server that has left the room meanwhile.
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

/// Who is in a room at this moment. Answers come from derived state and are cheap.
#[async_trait]
pub trait MembershipView: Send + Sync + 'static {
    /// The member, if joined.
    async fn member(&self, room: &RoomId, user: &UserId) -> Option<Member>;
    /// Joined users of this server.
    async fn local_members(&self, room: &RoomId) -> Vec<OwnedUserId>;
    /// Other servers with a joined member.
    async fn remote_servers(&self, room: &RoomId) -> Vec<OwnedServerName>;
    /// Rooms that a user of this server is in; of very many, some (`MAX_PRESENCE_ROOMS`).
    async fn rooms_of(&self, user: &UserId) -> Vec<OwnedRoomId>;
    /// Of `others`, of this server or of others, those who share one of [`MembershipView::rooms_of`] with a user of this server.
    async fn companions(&self, user: &UserId, others: &[OwnedUserId]) -> BTreeSet<OwnedUserId>;
    /// Somebody of another server is live in the document.
    fn remote_presence(&self, room: &RoomId);
}
