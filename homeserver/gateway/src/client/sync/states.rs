//! States of rooms at positions, and what differs between two of them. Ids first; events are loaded only for what is
//! told.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, RoomId, UserId, events::room::member::MembershipState};
use serde_json::Value;
use weft_dag::{Pdu, StateMap};

use super::{Turn, joined::Recent};
use crate::errors::ApiResult;

impl Turn<'_> {
    /// Ids of the room's state at a position; None from before this server knew the room.
    async fn state_ids_at(&self, room: &RoomId, position: u64) -> ApiResult<Option<StateMap>> {
        match self.reader.group_at(room, position).await? {
            Some(group) => Ok(Some(self.reader.group(room, group).await?.0)),
            None => Ok(None),
        }
    }

    /// The group of the state that goes with a room's new events: that just before the first of them, or that at the end.
    pub(super) async fn group_told(&self, room: &RoomId, recent: &Recent) -> ApiResult<Option<u64>> {
        let position = match &recent.first {
            Some((order, _)) if !self.state_after => u64::try_from(order.saturating_sub(1)).unwrap_or(0),
            _ => recent.to,
        };
        Ok(self.reader.group_at(room, position).await?)
    }

    /// Ids of that state.
    pub(super) async fn ids_told(&self, room: &RoomId, recent: &Recent, group: Option<u64>) -> ApiResult<StateMap> {
        match (group, &recent.first) {
            (Some(group), _) => Ok(self.reader.group(room, group).await?.0),
            (None, Some((_, event))) if !self.state_after => {
                // The first events that this server has of the room: the state that came with the join.
                let state = self.reader.state_at(room, event.event_id()).await?;
                Ok(state.map_or_else(StateMap::default, |state| state.map()))
            }
            (None, _) => Ok(StateMap::default()),
        }
    }

    /// The user's membership at a position; None where there was none.
    pub(super) async fn membership_at(&self, room: &RoomId, position: u64) -> ApiResult<Option<MembershipState>> {
        let Some(ids) = self.state_ids_at(room, position).await? else {
            return Ok(None);
        };
        let Some(id) = ids.get("m.room.member", self.user.as_str()) else {
            return Ok(None);
        };
        let member = self.reader.event(Some(room), id).await?;
        let content: Option<Value> = member.and_then(|pdu| pdu.content_as().ok());
        Ok(content.and_then(|content| content.get("membership")?.as_str().map(MembershipState::from)))
    }

    /// What of `after` differs from `before`.
    pub(super) fn difference(before: &StateMap, after: &StateMap) -> StateMap {
        let changed = after.0.iter().filter(|(key, id)| before.0.get(*key) != Some(*id));
        changed.map(|(key, id)| (key.clone(), id.clone())).collect()
    }

    /// Of a state, what a client that loads members lazily gets: everything else, and the members it is about to see.
    pub(super) fn without_strangers(state: &StateMap, seen: &BTreeSet<&UserId>) -> StateMap {
        let known = |key: &str| seen.iter().any(|user| user.as_str() == key);
        let shown = state
            .0
            .iter()
            .filter(|((kind, key), _)| kind != "m.room.member" || known(key));
        shown.map(|(key, id)| (key.clone(), id.clone())).collect()
    }

    /// The events of a state.
    pub(super) async fn load(&self, room: &RoomId, state: &StateMap) -> ApiResult<Vec<Arc<Pdu>>> {
        let ids: Vec<OwnedEventId> = state.0.values().cloned().collect();
        Ok(self
            .reader
            .events(room, &ids)
            .await?
            .into_iter()
            .map(|stored| stored.pdu)
            .collect())
    }
}
