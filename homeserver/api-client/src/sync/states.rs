//! The state section of a room: together with the timeline it gives the state at the timeline's end.
//!
//! Must not load events before the ids to send are known: only those are loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    OwnedEventId, OwnedUserId, RoomId, UserId, api::client::filter::LazyLoadOptions,
    events::room::member::MembershipState,
};
use serde_json::Value;
use weft_dag::{Pdu, StateMap};
use weft_http::errors::ApiResult;

use super::{SyncRequest, timeline::Recent};
use crate::events::{passes, passes_room};

type Entries = BTreeMap<(String, String), OwnedEventId>;

/// State events to send with a timeline.
#[derive(Default)]
pub(super) struct StateToSend {
    /// Those that pass the filter.
    pub(super) events: Vec<Arc<Pdu>>,
    /// Whether any membership differs between the client's state and that at the end, sent or not.
    pub(super) members_changed: bool,
}

/// The states involved in one answer.
struct States {
    /// The state that the client has; `None`: none.
    known: Option<StateMap>,
    /// If the client receives a full state: an older one, from which it may still have members.
    held: Option<StateMap>,
    /// The state just before the first shown event.
    start: StateMap,
    /// The state at the end of the timeline.
    end: StateMap,
}

impl States {
    /// The state to send with a timeline that changes these entries, so that the client has the state at the end after applying
    /// it and then the timeline. An entry that the timeline changes is sent in its earlier version.
    fn with_timeline(&self, in_timeline: &BTreeSet<(&str, &str)>) -> Entries {
        let sent = self.end.0.iter().filter_map(|(key, at_end)| {
            let is_shown = in_timeline.contains(&(key.0.as_str(), key.1.as_str()));
            let id = if is_shown { self.start.0.get(key)? } else { at_end };
            Some((key, id))
        });
        let is_new = |key: &(String, String), id: &OwnedEventId| match &self.known {
            Some(known) => known.0.get(key) != Some(id),
            None => true,
        };
        sent.filter(|(key, id)| is_new(key, id))
            .map(|(key, id)| (key.clone(), id.clone()))
            .collect()
    }

    /// A user's member event: at the start if the timeline changes it, otherwise at the end.
    fn member(&self, user: &UserId, in_timeline: &BTreeSet<(&str, &str)>) -> Option<((String, String), OwnedEventId)> {
        let key = ("m.room.member".to_owned(), user.to_string());
        let is_shown = in_timeline.contains(&("m.room.member", user.as_str()));
        let state = if is_shown { &self.start } else { &self.end };
        let id = state.0.get(&key)?.clone();
        Some((key, id))
    }

    /// Whether the client may have another event for this entry, from a state that it received before.
    fn is_outdated(&self, key: &(String, String), id: &OwnedEventId) -> bool {
        let held = self.held.as_ref().and_then(|held| held.0.get(key));
        held.is_some_and(|held| held != id)
    }

    fn members_changed(&self) -> bool {
        let Some(known) = &self.known else { return true };
        !members(known).eq(members(&self.end))
    }
}

/// The member entries of a state.
fn members(state: &StateMap) -> impl Iterator<Item = (&(String, String), &OwnedEventId)> {
    let from = ("m.room.member".to_owned(), String::new());
    state
        .0
        .range(from..)
        .take_while(|((kind, _), _)| kind == "m.room.member")
}

impl SyncRequest<'_> {
    /// The state events to send with the timeline: the changes since the state group that the client has, or the whole
    /// state if it has none. From an earlier group (`held`) the client may still have members. May drop the oldest events of
    /// the timeline if they contradict the state at its end.
    pub(super) async fn state(
        &self,
        room: &RoomId,
        recent: &mut Recent,
        known: Option<u64>,
        held: Option<u64>,
    ) -> ApiResult<StateToSend> {
        let end = self.reader.group_at(room, recent.to).await?;
        let lazy = self.filter.room.state.lazy_load_options != LazyLoadOptions::Disabled;
        // Most messages change no state, and equal groups are equal states without reading them.
        if known.is_some() && known == end && recent.entries().is_empty() && (!lazy || recent.events.is_empty()) {
            return Ok(StateToSend::default());
        }
        let end_ids = match end {
            Some(group) => self.reader.group(room, group).await?.0,
            None => StateMap::default(),
        };
        if !self.state_after {
            recent.cut(recent.contradicting(&end_ids));
        }
        let known_ids = match known {
            Some(group) if known == end => Some((group, end_ids.clone())),
            Some(group) => Some((group, self.reader.group(room, group).await?.0)),
            None => None,
        };
        let start = self.start(room, recent, known_ids.as_ref(), (end, &end_ids)).await?;
        let held = match held.filter(|_| lazy && known.is_none()) {
            Some(group) => Some(self.reader.group(room, group).await?.0),
            None => None,
        };
        let states = States {
            known: known_ids.map(|(_, ids)| ids),
            held,
            start,
            end: end_ids,
        };
        self.to_send(room, recent, &states, lazy).await
    }

    /// The state just before the first shown event.
    async fn start(
        &self,
        room: &RoomId,
        recent: &Recent,
        known: Option<&(u64, StateMap)>,
        (end, end_ids): (Option<u64>, &StateMap),
    ) -> ApiResult<StateMap> {
        let Some(first) = recent.events.first() else {
            return Ok(end_ids.clone());
        };
        let position = u64::try_from(first.order.saturating_sub(1)).unwrap_or(0);
        match self.reader.group_at(room, position).await? {
            Some(group) if Some(group) == end => Ok(end_ids.clone()),
            Some(group) => match known {
                Some((known, ids)) if *known == group => Ok(ids.clone()),
                _ => Ok(self.reader.group(room, group).await?.0),
            },
            // The first events of the room on this server: the state from the join.
            None => {
                let state = self.reader.state_at(room, first.pdu.event_id()).await?;
                Ok(state.map_or_else(StateMap::default, |state| state.map()))
            }
        }
    }

    async fn to_send(&self, room: &RoomId, recent: &Recent, states: &States, lazy: bool) -> ApiResult<StateToSend> {
        let in_timeline = if self.state_after {
            BTreeSet::new()
        } else {
            recent.entries()
        };
        let mut sent = states.with_timeline(&in_timeline);
        if lazy {
            let mut seen: BTreeSet<&UserId> = recent.events.iter().map(|event| event.pdu.sender()).collect();
            if states.known.is_none() {
                seen.insert(self.user);
                let is_seen = |key: &str| seen.iter().any(|user| user.as_str() == key);
                sent.retain(|key, id| key.0 != "m.room.member" || is_seen(&key.1) || states.is_outdated(key, id));
            }
            // Changed members are always sent. The senders are sent even if nothing changed: the client may
            // never have received them.
            sent.extend(seen.into_iter().filter_map(|user| states.member(user, &in_timeline)));
        }
        let filter = &self.filter.room.state;
        let events = self.load(room, sent.into_values().collect()).await?.into_iter();
        Ok(StateToSend {
            events: events
                .filter(|pdu| passes_room(filter, room) && passes(filter, pdu))
                .collect(),
            members_changed: states.members_changed(),
        })
    }

    /// With lazy loading: adds the member events of these users, which clients need to name the room. They are sent again with
    /// each new summary; the specification allows redundant member events.
    pub(super) async fn add_members(
        &self,
        room: &RoomId,
        recent: &Recent,
        sent: &mut StateToSend,
        users: &[OwnedUserId],
    ) -> ApiResult<()> {
        let filter = &self.filter.room.state;
        if users.is_empty() || filter.lazy_load_options == LazyLoadOptions::Disabled {
            return Ok(());
        }
        let shown = recent.events.iter().map(|event| &event.pdu);
        let known: BTreeSet<&str> = shown
            .chain(&sent.events)
            .filter(|pdu| pdu.kind() == "m.room.member")
            .filter_map(|pdu| pdu.state_key())
            .collect();
        let missing = users
            .iter()
            .map(|user| user.as_str())
            .filter(|user| !known.contains(user));
        let keys: Vec<(&str, &str)> = missing.map(|user| ("m.room.member", user)).collect();
        let state = self.reader.state_entries_at(room, recent.to, &keys).await?;
        let members: Vec<Arc<Pdu>> = state.iter().flat_map(|state| state.iter()).cloned().collect();
        let wanted = |pdu: &Arc<Pdu>| passes_room(filter, room) && passes(filter, pdu);
        sent.events.extend(members.into_iter().filter(wanted));
        Ok(())
    }

    /// The user's membership at a position; `None` if there was none.
    pub(super) async fn membership_at(&self, room: &RoomId, position: u64) -> ApiResult<Option<MembershipState>> {
        let key = ("m.room.member", self.user.as_str());
        let state = self.reader.state_entries_at(room, position, &[key]).await?;
        let member = state.as_ref().and_then(|state| state.get(key.0, key.1));
        let content: Option<Value> = member.and_then(|pdu| pdu.content_as().ok());
        Ok(content.and_then(|content| content.get("membership")?.as_str().map(MembershipState::from)))
    }

    async fn load(&self, room: &RoomId, ids: Vec<OwnedEventId>) -> ApiResult<Vec<Arc<Pdu>>> {
        let events = self.reader.events(room, &ids).await?;
        Ok(events.into_iter().map(|stored| stored.pdu).collect())
    }
}
