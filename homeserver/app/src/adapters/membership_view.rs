//! Room memberships for fanout, read from the rooms' derived state. Must not cache them.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, events::room::member::MembershipState,
};
use weft_fanout::{Member, MembershipView};
use weft_room::Rooms;
use weft_room_read::Reader;
use weft_wire::limits::MAX_PRESENCE_ROOMS;

/// Implements fanout's port with the rooms. Rooms need fanout (to notify it of commits) and fanout needs rooms: reads use
/// the reader, which exists first, and the rooms are connected later for the one command.
#[derive(Clone)]
pub(crate) struct RoomMembershipView {
    reader: Reader,
    server_name: OwnedServerName,
    rooms: Arc<OnceLock<Rooms>>,
}

impl RoomMembershipView {
    /// A view that can read at once; the command to the rooms works after [`RoomMembershipView::connect`].
    pub(crate) fn new(reader: Reader, server_name: OwnedServerName) -> Self {
        Self {
            reader,
            server_name,
            rooms: Arc::default(),
        }
    }

    /// Connects the rooms. Only the first call has an effect.
    pub(crate) fn connect(&self, rooms: Rooms) {
        let _ = self.rooms.set(rooms);
    }

    async fn servers(&self, room: &RoomId) -> Vec<OwnedServerName> {
        let found = self.reader.servers_in(room).await;
        found
            .map(|servers| servers.into_iter().collect())
            .unwrap_or_else(|error| {
                tracing::warn!(event = "membership.read_failed", %room, %error, "cannot read the servers of a room");
                Vec::new()
            })
    }

    fn is_ours(&self, server: &ServerName) -> bool {
        server == self.server_name
    }
}

#[async_trait]
impl MembershipView for RoomMembershipView {
    async fn member(&self, room: &RoomId, user: &UserId) -> Option<Member> {
        let event = self.reader.state_event(room, "m.room.member", user.as_str()).await;
        let event = event
            .inspect_err(|error| {
                tracing::warn!(
                    event = "membership.read_failed", %room, %error,
                    "cannot read a member of a room"
                )
            })
            .ok()??;
        (event.membership()? == MembershipState::Join).then(|| Member {
            display_name: event.content_text("displayname"),
        })
    }

    async fn local_members(&self, room: &RoomId) -> Vec<OwnedUserId> {
        let found = self.reader.local_members(room).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(event = "membership.read_failed", %room, %error, "cannot read the members of a room");
            Vec::new()
        })
    }

    async fn remote_servers(&self, room: &RoomId) -> Vec<OwnedServerName> {
        self.servers(room)
            .await
            .into_iter()
            .filter(|server| !self.is_ours(server))
            .collect()
    }

    async fn rooms_of(&self, user: &UserId) -> Vec<OwnedRoomId> {
        let found = self.reader.rooms_of(user).await.unwrap_or_else(|error| {
            tracing::warn!(event = "membership.read_failed", %user, %error, "cannot read the rooms of a user");
            Vec::new()
        });
        let joined = found.into_iter().filter(|row| row.membership == MembershipState::Join);
        joined.take(MAX_PRESENCE_ROOMS).map(|row| row.room).collect()
    }

    async fn companions(&self, user: &UserId, others: &[OwnedUserId]) -> BTreeSet<OwnedUserId> {
        let rooms = self.rooms_of(user).await;
        let found = self.reader.joined_to_any(&rooms, others).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(event = "membership.read_failed", %user, %error, "cannot read the users who share a room with a user");
            BTreeSet::new()
        })
    }

    fn remote_presence(&self, room: &RoomId) {
        if let Some(rooms) = self.rooms.get() {
            rooms.remote_presence(room);
        }
    }
}
