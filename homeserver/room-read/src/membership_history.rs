//! A user's membership events in a room, each found through the auth events of the next one.
//!
//! This order needs no stream ordering: it is the same for events that were received live and for backfilled events.
//! Must not decide who may see an event; [`super::visibility`] does.

use std::sync::Arc;

use ruma::{EventId, OwnedEventId, RoomId, UserId, events::room::member::MembershipState};
use weft_dag::{Pdu, RoomVersion};
use weft_room_api::Unavailable;

use crate::membership_chain;
use crate::{Place, Reader};

/// Membership events of one user that are read, from the current one back. For a user with more of them, visibility
/// follows from the newest ones alone.
const MAX_HISTORY: usize = 200;

/// See the module. Newest first; the first one is the user's current membership event.
#[derive(Debug, Default)]
pub(super) struct MembershipHistory {
    events: Vec<(OwnedEventId, MembershipState)>,
}

impl MembershipHistory {
    /// Whether the user ever joined.
    pub(super) fn any_join(&self) -> bool {
        self.has_join(self.events.len())
    }

    /// Whether one of the newest `count` membership events is a join.
    fn has_join(&self, count: usize) -> bool {
        let newest = self.events.iter().take(count);
        newest.into_iter().any(|(_, state)| *state == MembershipState::Join)
    }

    fn index_of(&self, id: &EventId) -> Option<usize> {
        self.events.iter().position(|(event, _)| event == id)
    }

    /// The event that ended the user's last joined period; `None` if the user never joined or is joined.
    fn departure(&self) -> Option<&EventId> {
        let last_join = self
            .events
            .iter()
            .position(|(_, state)| *state == MembershipState::Join)?;
        let (event, _) = self.events.get(last_join.checked_sub(1)?)?;
        Some(event)
    }

    /// The event that ended the joined period before the one of the newest event; `None` if there was none.
    fn earlier_departure(&self) -> Option<&EventId> {
        let is_join = |(_, state): &(OwnedEventId, MembershipState)| *state == MembershipState::Join;
        let stay = self.events.iter().take_while(|event| is_join(event)).count();
        let before = self.events.get(stay..)?;
        let last_join = before.iter().position(is_join)?;
        let (event, _) = before.get(last_join.checked_sub(1)?)?;
        Some(event)
    }
}

impl Reader {
    /// The membership history of a user in the room's current state.
    pub(super) async fn membership_history(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<MembershipHistory, Unavailable> {
        let Some(version) = self.version(room).await? else {
            return Ok(MembershipHistory::default());
        };
        let Some(current) = self.state_event(room, "m.room.member", user.as_str()).await? else {
            return Ok(MembershipHistory::default());
        };
        let earlier = self.membership_chain(room, &version, &current, MAX_HISTORY).await?;
        let events = std::iter::once(current).chain(earlier);
        Ok(MembershipHistory {
            events: events
                .map(|pdu| (pdu.event_id().to_owned(), membership_of(&pdu)))
                .collect(),
        })
    }

    /// Whether a join follows `member`, a membership event of the same user. A membership event on another branch
    /// counts as the newest one that it follows; an event that is not connected with the history has no join after it.
    pub(super) async fn joined_after(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        history: &MembershipHistory,
        member: &EventId,
    ) -> Result<bool, Unavailable> {
        if let Some(index) = history.index_of(member) {
            return Ok(history.has_join(index));
        }
        let events = self.events_of(room, version, &[member.to_owned()]).await?;
        let Some(event) = events.first() else {
            return Ok(false);
        };
        let earlier = self.membership_chain(room, version, event, MAX_HISTORY).await?;
        let fork = earlier.iter().find_map(|pdu| history.index_of(pdu.event_id()));
        Ok(fork.is_some_and(|index| history.has_join(index)))
    }

    /// The stream position at which the last joined period of a user of this server ended; `None` if the user never
    /// joined or is joined, or if the position is not known.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn departure(&self, room: &RoomId, user: &UserId) -> Result<Option<u64>, Unavailable> {
        let history = self.membership_history(room, user).await?;
        self.position_of(room, history.departure()).await
    }

    /// The stream position at which the joined period before the current one ended; `None` if there was none, or if the
    /// position is not known.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn earlier_departure(&self, room: &RoomId, user: &UserId) -> Result<Option<u64>, Unavailable> {
        let history = self.membership_history(room, user).await?;
        self.position_of(room, history.earlier_departure()).await
    }

    async fn position_of(&self, room: &RoomId, event: Option<&EventId>) -> Result<Option<u64>, Unavailable> {
        let Some(event) = event else {
            return Ok(None);
        };
        let stored = self.stored_event(room, event).await?;
        Ok(match stored.map(|stored| stored.place) {
            Some(Place::Stream(position)) => Some(position.get()),
            Some(Place::Unordered) | None => None,
        })
    }

    /// The membership events of the same user in the auth chain of one, newest first, at most `limit`.
    pub(super) async fn membership_chain(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        member: &Pdu,
        limit: usize,
    ) -> Result<Vec<Arc<Pdu>>, Unavailable> {
        let mut found: Vec<Arc<Pdu>> = Vec::new();
        while found.len() < limit {
            let last = found.last().map_or(member, Arc::as_ref);
            let cited = self.events_of(room, version, last.auth_events()).await?;
            let Some(earlier) = membership_chain::earlier(last, &cited) else {
                break;
            };
            found.push(Arc::clone(earlier));
        }
        Ok(found)
    }
}

/// The membership in a member event; `leave` if it has none.
pub(super) fn membership_of(member: &Pdu) -> MembershipState {
    member.membership().unwrap_or(MembershipState::Leave)
}
