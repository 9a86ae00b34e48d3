//! Members, servers of a room, aliases, and the public directory. Must not decide who may see them.

use std::collections::BTreeSet;

use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, ServerName, UserId,
    events::room::member::MembershipState,
};
use weft_room_api::Unavailable;
use weft_store::tables::rooms::{
    ALIASES, AliasRow, LOCAL_MEMBERS, MEMBERS, MEMBERSHIP, MembershipRow, PUBLIC_ROOMS, ROOM_ALIASES, ROOM_SERVERS,
    ROOMS,
};

use crate::Reader;

/// Memberships that are read at a time.
const MEMBERS_AT_ONCE: usize = 1_000;

/// A user's membership of a room; for users of this server also of rooms that this server is not in.
#[derive(Debug, Clone)]
pub struct RoomMembership {
    /// The room.
    pub room: OwnedRoomId,
    /// The user's membership.
    pub membership: MembershipState,
    /// The row: event, stream position, stripped state of invitations, whether it was forgotten.
    pub row: MembershipRow,
}

impl Reader {
    /// A user's membership in the resolved state; for local users also invitations to rooms that this server is not in.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Result<MembershipState, Unavailable> {
        if let Some(membership) = self.store.get(&MEMBERS, &(room, user)).await? {
            return Ok(MembershipState::from(membership));
        }
        let row = self.store.get(&MEMBERSHIP, &(user, room)).await?;
        Ok(row.map_or(MembershipState::Leave, |row| MembershipState::from(row.membership)))
    }

    /// All rooms in which a user of this server has a membership, including forgotten ones.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn rooms_of(&self, user: &UserId) -> Result<Vec<RoomMembership>, Unavailable> {
        let rows = self.store.scan_all(MEMBERSHIP.under(&(user,))).await?;
        let entry = |((_, room), row): ((OwnedUserId, OwnedRoomId), MembershipRow)| RoomMembership {
            room,
            membership: MembershipState::from(row.membership.as_str()),
            row,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// One row of [`Reader::rooms_of`].
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn room_of_user(&self, user: &UserId, room: &RoomId) -> Result<Option<RoomMembership>, Unavailable> {
        let row = self.store.get(&MEMBERSHIP, &(user, room)).await?;
        Ok(row.map(|row| RoomMembership {
            room: room.to_owned(),
            membership: MembershipState::from(row.membership.as_str()),
            row,
        }))
    }

    /// Whether one of these auth events of a join is a membership of the user that is not current: this server has a
    /// later membership event that cites it. The server that built the join does not have that later event.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn has_ended(&self, room: &RoomId, user: &UserId, cited: &[OwnedEventId]) -> Result<bool, Unavailable> {
        let Some(row) = self.store.get(&MEMBERSHIP, &(user, room)).await? else {
            return Ok(false);
        };
        let before = self.auth_chain(room, &[row.event]).await?;
        Ok(before.iter().any(|pdu| {
            pdu.kind() == "m.room.member"
                && pdu.state_key() == Some(user.as_str())
                && cited.iter().any(|id| id == pdu.event_id())
        }))
    }

    /// Users and their memberships in the resolved state.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn members(&self, room: &RoomId) -> Result<Vec<(OwnedUserId, MembershipState)>, Unavailable> {
        let rows = self.store.scan_all(MEMBERS.under(&(room,))).await?;
        Ok(rows
            .into_iter()
            .map(|((_, user), membership)| (user, MembershipState::from(membership)))
            .collect())
    }

    /// The joined users of the room.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn joined_members(&self, room: &RoomId) -> Result<Vec<OwnedUserId>, Unavailable> {
        let members = self.members(room).await?;
        Ok(members
            .into_iter()
            .filter(|(_, state)| *state == MembershipState::Join)
            .map(|(user, _)| user)
            .collect())
    }

    /// The joined users of this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn local_members(&self, room: &RoomId) -> Result<Vec<OwnedUserId>, Unavailable> {
        let rows = self.store.scan_all(LOCAL_MEMBERS.under(&(room,))).await?;
        Ok(rows.into_iter().map(|((_, user), ())| user).collect())
    }

    /// Those of `users` who have joined one of these rooms.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn joined_to_any(
        &self,
        rooms: &[OwnedRoomId],
        users: &[OwnedUserId],
    ) -> Result<BTreeSet<OwnedUserId>, Unavailable> {
        let mut joined = BTreeSet::new();
        for some in users.chunks(MEMBERS_AT_ONCE.div_ceil(rooms.len().max(1))) {
            let mut pairs: Vec<(&RoomId, &UserId)> = Vec::with_capacity(some.len() * rooms.len());
            for user in some {
                pairs.extend(rooms.iter().map(|room| (&**room, &**user)));
            }
            let memberships = self.store.get_many(&MEMBERS, pairs.iter().copied()).await?;
            for ((_, user), membership) in pairs.into_iter().zip(memberships) {
                if membership.as_deref() == Some("join") {
                    joined.insert(user.to_owned());
                }
            }
        }
        Ok(joined)
    }

    /// The servers of the joined users.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn servers_in(&self, room: &RoomId) -> Result<BTreeSet<OwnedServerName>, Unavailable> {
        let rows = self.store.scan_all(ROOM_SERVERS.under(&(room,))).await?;
        Ok(rows.into_iter().map(|((_, server), _)| server).collect())
    }

    /// Whether a server has a joined user.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn has_server(&self, room: &RoomId, server: &ServerName) -> Result<bool, Unavailable> {
        Ok(self.store.contains(&ROOM_SERVERS, &(room, server)).await?)
    }

    /// The number of joined users.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn joined_count(&self, room: &RoomId) -> Result<u64, Unavailable> {
        let rows = self.store.scan_all(ROOM_SERVERS.under(&(room,))).await?;
        Ok(rows.into_iter().fold(0, |sum, (_, count)| sum.saturating_add(count)))
    }

    /// The room of an alias of this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<AliasRow>, Unavailable> {
        Ok(self.store.get(&ALIASES, &(alias,)).await?)
    }

    /// The aliases of a room on this server.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn aliases_of(&self, room: &RoomId) -> Result<Vec<OwnedRoomAliasId>, Unavailable> {
        let rows = self.store.scan_all(ROOM_ALIASES.under(&(room,))).await?;
        Ok(rows.into_iter().map(|((_, alias), ())| alias).collect())
    }

    /// Rooms that this server is or was in, at most `most`.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn rooms(&self, most: usize) -> Result<Vec<OwnedRoomId>, Unavailable> {
        let rows = self.store.scan(ROOMS.under(&()).limit(most)).await?;
        Ok(rows.into_iter().map(|((room,), _)| room).collect())
    }

    /// The same after a room, in the order of their ids.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn rooms_after(&self, after: Option<&RoomId>, most: usize) -> Result<Vec<OwnedRoomId>, Unavailable> {
        let mut query = ROOMS.under(&());
        if let Some(after) = after {
            query = query.after(&(after,));
        }
        let rows = self.store.scan(query.limit(most)).await?;
        Ok(rows.into_iter().map(|((room,), _)| room).collect())
    }

    /// The rooms in this server's directory.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn public_rooms(&self) -> Result<Vec<OwnedRoomId>, Unavailable> {
        let rows = self.store.scan_all(PUBLIC_ROOMS.under(&())).await?;
        Ok(rows.into_iter().map(|((room,), ())| room).collect())
    }

    /// Whether a room is in this server's directory.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_public(&self, room: &RoomId) -> Result<bool, Unavailable> {
        Ok(self.store.contains(&PUBLIC_ROOMS, &(room,)).await?)
    }
}
