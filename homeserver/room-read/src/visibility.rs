//! Which events a user ([`user`]) or a server may see: history visibility.
//!
//! Source: server-server API "Room history visibility". The state at the event counts. Must not compare stream
//! positions: a backfilled event has none.

mod user;

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedEventId, RoomId, ServerName, UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use weft_dag::event_flags;
use weft_dag::{Pdu, StateView};
use weft_room_api::Unavailable;

use crate::Reader;
use crate::membership_chain;

impl Reader {
    /// Of the requested events, those at which the server was in the room; all of them if it is in the room now.
    /// `extremities` are the latest events that the server named in its request. If it is in the room after one of them
    /// through a join that is concurrent with the requested events, it may request them too, provided that the join
    /// depends on a membership in their state or that this state allows the join.
    ///
    /// A server whose user was removed while it was unreachable learns of the removal from an event with an unknown
    /// past. Without access to that past, the server would treat its user as joined for ever.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn may_ask_about(
        &self,
        room: &RoomId,
        server: &ServerName,
        at: &[OwnedEventId],
        extremities: &[OwnedEventId],
    ) -> Result<Vec<OwnedEventId>, Unavailable> {
        if self.has_server(room, server).await? {
            return Ok(at.to_vec());
        }
        let (mut joins, mut replaced) = (Vec::new(), BTreeSet::new());
        for end in extremities {
            let groups = self.groups_of(room, end).await?;
            if let Some(groups) = groups {
                let members = self.members_then(room, server, groups.after).await?;
                for join in members.into_iter().filter(is_join) {
                    replaced.extend(self.memberships_before(room, &join).await?);
                    joins.push(join);
                }
            }
        }
        let mut allowed = Vec::new();
        for event in at {
            let Some(groups) = self.groups_of(room, event).await? else {
                continue;
            };
            let before = self.members_then(room, server, groups.before).await?;
            let is_replaced = |member: &Arc<Pdu>| replaced.contains(member.event_id());
            if before.iter().any(|member| is_join(member) || is_replaced(member))
                || self.allows_any(room, event, &before, &joins).await?
                || (!replaced.contains(event) && self.is_unseen_removal(room, event, &joins).await?)
                || self.is_reset(room, &before, &joins).await?
            {
                allowed.push(event.clone());
            }
        }
        Ok(allowed)
    }

    /// Whether the state before an event allows one of these joins, other than those that a membership in it replaced.
    async fn allows_any(
        &self,
        room: &RoomId,
        event: &ruma::EventId,
        before: &[Arc<Pdu>],
        joins: &[Arc<Pdu>],
    ) -> Result<bool, Unavailable> {
        let mut ended = BTreeSet::new();
        for member in before {
            ended.extend(self.memberships_before(room, member).await?);
        }
        let is_concurrent = |join: &&Arc<Pdu>| !ended.contains(join.event_id());
        if !joins.iter().any(|join| is_concurrent(&join)) {
            return Ok(false);
        }
        let state = self.state_at(room, event).await?;
        let passes = |join: &Arc<Pdu>| state.as_ref().is_some_and(|state| state.allows(join));
        Ok(joins.iter().filter(is_concurrent).any(passes))
    }

    /// Whether an accepted event is another user's membership event about a user with one of these joins, and does not
    /// depend on any of them. The user's own events do not count, since their server chooses the place of those in the
    /// graph. The user's server receives this event, and an ancestor may be another such event: a user who is banned
    /// twice was not in the room at the second ban.
    async fn is_unseen_removal(
        &self,
        room: &RoomId,
        event: &ruma::EventId,
        joins: &[Arc<Pdu>],
    ) -> Result<bool, Unavailable> {
        let Some(stored) = self.stored_event(room, event).await? else {
            return Ok(false);
        };
        let theirs = |join: &&Arc<Pdu>| join.state_entry() == stored.pdu.state_entry();
        let joins: Vec<&Arc<Pdu>> = joins.iter().filter(theirs).collect();
        let is_own = stored.pdu.state_key() == Some(stored.pdu.sender().as_str());
        if joins.is_empty() || is_own || !event_flags::is_accepted(stored.flags) {
            return Ok(false);
        }
        let before = self.memberships_before(room, &stored.pdu).await?;
        Ok(joins.iter().any(|join| !before.iter().any(|id| id == join.event_id())))
    }

    /// Whether one of these joins is in the resolved state here, and follows a membership of the same user that state
    /// resolution restored (the state resets of `weft-room`).
    async fn is_reset(&self, room: &RoomId, before: &[Arc<Pdu>], joins: &[Arc<Pdu>]) -> Result<bool, Unavailable> {
        for join in joins {
            let back = before.iter().find(|member| member.state_entry() == join.state_entry());
            let Some(back) = back.filter(|back| !is_join(back)) else {
                continue;
            };
            let stored = self.stored_event(room, join.event_id()).await?;
            let stands = stored.is_some_and(|stored| event_flags::is_accepted(stored.flags));
            if stands && self.follows(room, join.event_id(), back.event_id()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The membership events of the same user that an event depends on, newest first.
    async fn memberships_before(&self, room: &RoomId, member: &Pdu) -> Result<Vec<OwnedEventId>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        let chain = self
            .membership_chain(room, &version, member, membership_chain::MAX_MEMBERSHIPS)
            .await?;
        Ok(chain.into_iter().map(|event| event.event_id().to_owned()).collect())
    }

    /// Whether a user of this server was in the room just before an event; false for an outlier.
    async fn was_in_before(
        &self,
        room: &RoomId,
        server: &ServerName,
        event: &ruma::EventId,
    ) -> Result<bool, Unavailable> {
        let Some(groups) = self.groups_of(room, &event.to_owned()).await? else {
            return Ok(false);
        };
        let members = self.members_then(room, server, groups.before).await?;
        Ok(members.iter().any(is_join))
    }

    /// The member events of a server's users in a stored state.
    async fn members_then(&self, room: &RoomId, server: &ServerName, group: u64) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        for (user, _) in self.members(room).await? {
            if user.server_name() == server {
                ids.extend(self.entry_of_group(room, group, "m.room.member", user.as_str()).await?);
            }
        }
        self.events_of(room, &version, &ids).await
    }

    /// Whether a server may see an event: one of its users may see it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn visible_to_server(&self, room: &RoomId, server: &ServerName, pdu: &Pdu) -> Result<bool, Unavailable> {
        let key = pdu.state_key().filter(|_| pdu.kind() == "m.room.member");
        let about = key.and_then(|key| UserId::parse(key).ok());
        if pdu.sender().server_name() == server || about.is_some_and(|user| user.server_name() == server) {
            return Ok(true);
        }
        let (Some(version), Some(groups)) = (
            self.version(room).await?,
            self.groups_of(room, &pdu.event_id().to_owned()).await?,
        ) else {
            return Ok(false);
        };
        // Mostly one entry of the state decides, so that the members need not be read.
        let entry = self
            .entry_of_group(room, groups.before, "m.room.history_visibility", "")
            .await?;
        let entry = self.events_of(room, &version, entry.as_slice()).await?;
        match StateView::from_events(version, entry).history_visibility() {
            HistoryVisibility::WorldReadable => return Ok(true),
            HistoryVisibility::Shared => {
                return Ok(
                    self.has_server(room, server).await? || self.was_in_before(room, server, pdu.event_id()).await?
                );
            }
            _ => {}
        }
        let Some(state) = self.state_at(room, pdu.event_id()).await? else {
            return Ok(false);
        };
        let theirs = |membership: MembershipState| {
            state.of_type("m.room.member").any(|member| {
                let user = member.state_key().and_then(|key| UserId::parse(key).ok());
                user.is_some_and(|user| user.server_name() == server && state.membership(&user) == membership)
            })
        };
        Ok(match state.history_visibility() {
            HistoryVisibility::Invited => theirs(MembershipState::Join) || theirs(MembershipState::Invite),
            _ => theirs(MembershipState::Join),
        })
    }
}

fn is_join(member: &Arc<Pdu>) -> bool {
    member.membership() == Some(MembershipState::Join)
}
