//! The ports of fan-out in a server without other servers. Must not send anything.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::Value;
use weft_fanout::{EduSink, Member, MembershipView};
use weft_room_read::Reader;

/// Sends no EDU.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEdus;

impl EduSink for NoEdus {
    fn send(&self, _: &RoomId, _: &[OwnedServerName], _: &'static str, _: Value, _: Option<String>) {}
}

/// The members of the rooms of one server, all of which are its users.
#[derive(Debug, Clone)]
pub struct RoomMembers(pub Reader);

#[async_trait]
impl MembershipView for RoomMembers {
    async fn member(&self, room: &RoomId, user: &UserId) -> Option<Member> {
        let membership = self.0.membership(room, user).await.ok()?;
        (membership == MembershipState::Join).then(Member::default)
    }

    async fn local_members(&self, room: &RoomId) -> Vec<OwnedUserId> {
        self.0.joined_members(room).await.unwrap_or_default()
    }

    async fn remote_servers(&self, _: &RoomId) -> Vec<OwnedServerName> {
        Vec::new()
    }

    async fn rooms_of(&self, user: &UserId) -> Vec<OwnedRoomId> {
        let rows = self.0.rooms_of(user).await.unwrap_or_default();
        let joined = rows.into_iter().filter(|row| row.membership == MembershipState::Join);
        joined.map(|row| row.room).collect()
    }

    async fn companions(&self, user: &UserId, others: &[OwnedUserId]) -> BTreeSet<OwnedUserId> {
        let mut companions = BTreeSet::new();
        for room in self.rooms_of(user).await {
            let members = self.local_members(&room).await;
            companions.extend(members.into_iter().filter(|member| others.contains(member)));
        }
        companions
    }

    fn remote_presence(&self, _: &RoomId) {}
}
