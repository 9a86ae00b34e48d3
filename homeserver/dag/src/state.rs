//! The state of a room at one point: the event for each key, and the rights of users that follow from it.
//!
//! Must not change a state by anything but an accepted event.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, OnceLock},
};

use ruma::{
    EventId, Int, OwnedEventId, OwnedServerName, OwnedUserId, UserId,
    events::{
        TimelineEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
    room::JoinRuleKind,
    state_res::events::{
        RoomCreateEvent, RoomJoinRulesEvent, RoomMemberEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField,
    },
};
use serde::Deserialize;

use crate::{Pdu, RoomVersion};

/// Event type and state key.
pub type StateKey = (String, String);

/// The event for each key. Cheap to clone, and cheap to compare with a clone of itself: a large room's state is passed
/// on with each event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMap(pub Arc<BTreeMap<StateKey, OwnedEventId>>);

impl StateMap {
    /// The event for a key.
    #[must_use]
    pub fn get(&self, kind: &str, state_key: &str) -> Option<&OwnedEventId> {
        self.0.get(&(kind.to_owned(), state_key.to_owned()))
    }

    /// Sets the event for a key and returns the previous one.
    pub fn insert(&mut self, key: StateKey, event: OwnedEventId) -> Option<OwnedEventId> {
        Arc::make_mut(&mut self.0).insert(key, event)
    }

    /// Sets the event for a key that has none.
    pub fn insert_new(&mut self, key: StateKey, event: OwnedEventId) {
        Arc::make_mut(&mut self.0).entry(key).or_insert(event);
    }

    /// Removes the event of a key and returns it.
    pub fn remove(&mut self, key: &StateKey) -> Option<OwnedEventId> {
        Arc::make_mut(&mut self.0).remove(key)
    }
}

impl FromIterator<(StateKey, OwnedEventId)> for StateMap {
    fn from_iter<T: IntoIterator<Item = (StateKey, OwnedEventId)>>(entries: T) -> Self {
        Self(Arc::new(entries.into_iter().collect()))
    }
}

/// The source of stored events. Synchronous: the caller loads the events before the call; [`Missing`] names those that
/// were not loaded.
pub trait EventSource {
    /// The event, if it is loaded.
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>>;
}

impl<S: EventSource + ?Sized> EventSource for &S {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        (**self).event(id)
    }
}

/// Events in memory.
#[derive(Clone, Debug, Default)]
pub struct EventMap(pub HashMap<OwnedEventId, Arc<Pdu>>);

impl EventMap {
    /// Adds an event.
    pub fn insert(&mut self, pdu: Arc<Pdu>) {
        self.0.insert(pdu.event_id().to_owned(), pdu);
    }
}

impl EventSource for EventMap {
    fn event(&self, id: &EventId) -> Option<Arc<Pdu>> {
        self.0.get(id).cloned()
    }
}

impl FromIterator<Arc<Pdu>> for EventMap {
    fn from_iter<T: IntoIterator<Item = Arc<Pdu>>>(events: T) -> Self {
        let mut map = Self::default();
        events.into_iter().for_each(|pdu| map.insert(pdu));
        map
    }
}

/// These events are needed and not loaded. Load them, with their auth events, and repeat the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events are not loaded: {0:?}")]
pub struct Missing(pub Vec<OwnedEventId>);

/// The power of a user. Creators of a version 12 room rank above every power level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// A power level.
    Level(i64),
    /// Above every power level.
    Creator,
}

impl Power {
    /// As a number: `i64::MAX` for a creator.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        match self {
            Self::Level(level) => level,
            Self::Creator => i64::MAX,
        }
    }
}

/// A state with its events loaded. Cheap to clone.
#[derive(Clone)]
pub struct StateView {
    version: RoomVersion,
    entries: Arc<BTreeMap<String, BTreeMap<String, Arc<Pdu>>>>,
    /// The ids alone, computed at the first use.
    ids: OnceLock<StateMap>,
}

impl fmt::Debug for StateView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_map()
            .entries(self.iter().map(|pdu| (pdu.state_entry(), pdu.event_id())))
            .finish()
    }
}

impl StateView {
    /// The state before a room's first event.
    #[must_use]
    pub fn empty(version: RoomVersion) -> Self {
        Self {
            version,
            entries: Arc::default(),
            ids: OnceLock::new(),
        }
    }

    /// A state of these events, in which later events replace earlier ones; events without a state key are left out.
    /// May be a part of a state if only that part is needed (for example the auth events of one event).
    pub fn from_events(version: RoomVersion, events: impl IntoIterator<Item = Arc<Pdu>>) -> Self {
        let mut view = Self::empty(version);
        events.into_iter().for_each(|pdu| view.insert(pdu));
        view
    }

    /// A state with all its events.
    ///
    /// # Errors
    /// Names the events that `source` does not have.
    pub fn load(version: RoomVersion, map: &StateMap, source: &impl EventSource) -> Result<Self, Missing> {
        let mut view = Self::empty(version);
        let mut missing = Vec::new();
        for id in map.0.values() {
            match source.event(id) {
                Some(pdu) => view.insert(pdu),
                None => missing.push(id.clone()),
            }
        }
        if missing.is_empty() {
            Ok(view)
        } else {
            Err(Missing(missing))
        }
    }

    fn insert(&mut self, pdu: Arc<Pdu>) {
        if let Some((kind, key)) = pdu.state_entry() {
            self.ids = OnceLock::new();
            Arc::make_mut(&mut self.entries)
                .entry(kind)
                .or_default()
                .insert(key, pdu);
        }
    }

    /// The state after an accepted event: unchanged, or with one entry changed.
    #[must_use]
    pub fn after(&self, pdu: &Arc<Pdu>) -> Self {
        let mut next = self.clone();
        if pdu.state_key().is_some() && !pdu.rejected() {
            next.insert(Arc::clone(pdu));
        }
        next
    }

    /// [`StateView::after`], in place: the state is copied only if it is shared. Creating a room with many entries
    /// would otherwise copy each entry once for every later one.
    #[must_use]
    pub fn into_after(mut self, pdu: &Arc<Pdu>) -> Self {
        if pdu.state_key().is_some() && !pdu.rejected() {
            self.insert(Arc::clone(pdu));
        }
        self
    }

    /// The room's version.
    #[must_use]
    pub fn version(&self) -> &RoomVersion {
        &self.version
    }

    /// Whether the state has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The event for a key.
    #[must_use]
    pub fn get(&self, kind: &str, state_key: &str) -> Option<&Arc<Pdu>> {
        self.entries.get(kind)?.get(state_key)
    }

    /// All events of one type, by state key.
    pub fn of_type<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Arc<Pdu>> + use<'a> {
        self.entries.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// All events, by type and state key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pdu>> {
        self.entries.values().flat_map(BTreeMap::values)
    }

    /// The ids alone.
    #[must_use]
    pub fn map(&self) -> StateMap {
        let ids = || {
            self.iter()
                .filter_map(|pdu| Some((pdu.state_entry()?, pdu.event_id().to_owned())))
                .collect()
        };
        self.ids.get_or_init(ids).clone()
    }

    /// The create event.
    #[must_use]
    pub fn create(&self) -> Option<&Arc<Pdu>> {
        self.get("m.room.create", "")
    }

    /// The creators of the room: the sender of the create event (before version 11: the `creator` of its content), and
    /// in version 12 also its `additional_creators`. Empty if there is no valid create event.
    #[must_use]
    pub fn creators(&self) -> BTreeSet<OwnedUserId> {
        let creators = self
            .create()
            .map(|pdu| RoomCreateEvent::new(pdu).creators(&self.version.rules().authorization));
        creators.and_then(Result::ok).unwrap_or_default().into_iter().collect()
    }

    /// The membership of a user; `leave` if there is no member event.
    #[must_use]
    pub fn membership(&self, user: &UserId) -> MembershipState {
        self.get("m.room.member", user.as_str())
            .and_then(|pdu| RoomMemberEvent::new(pdu).membership().ok())
            .unwrap_or(MembershipState::Leave)
    }

    /// The joined users.
    #[must_use]
    pub fn joined_members(&self) -> BTreeSet<OwnedUserId> {
        self.of_type("m.room.member")
            .filter(|pdu| matches!(RoomMemberEvent::new(*pdu).membership(), Ok(MembershipState::Join)))
            .filter_map(|pdu| UserId::parse(pdu.state_key()?).ok())
            .collect()
    }

    /// The servers with joined users.
    #[must_use]
    pub fn joined_servers(&self) -> BTreeSet<OwnedServerName> {
        self.joined_members()
            .iter()
            .map(|user| user.server_name().to_owned())
            .collect()
    }

    /// The join rule; `invite` if there is none or it can't be read.
    #[must_use]
    pub fn join_rule(&self) -> JoinRuleKind {
        self.get("m.room.join_rules", "")
            .and_then(|pdu| RoomJoinRulesEvent::new(pdu).join_rule().ok())
            .unwrap_or(JoinRuleKind::Invite)
    }

    /// The history visibility; `shared` if the room has no such event or its value is not one of the specification
    /// (client-server API, "Room history visibility").
    #[must_use]
    pub fn history_visibility(&self) -> HistoryVisibility {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: HistoryVisibility,
        }
        self.get("m.room.history_visibility", "")
            .and_then(|pdu| pdu.content_as::<Content>().ok())
            .map(|content| content.history_visibility)
            .filter(|value| {
                use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
                matches!(value, Invited | Joined | Shared | WorldReadable)
            })
            .unwrap_or(HistoryVisibility::Shared)
    }

    /// The power levels event, as the authorisation rules read it.
    #[must_use]
    pub fn power_levels(&self) -> Option<RoomPowerLevelsEvent<&Arc<Pdu>>> {
        self.get("m.room.power_levels", "").map(RoomPowerLevelsEvent::new)
    }

    /// The power of a user. Without a power levels event the creator has 100 and all others have 0; an unreadable one
    /// gives nobody any power.
    #[must_use]
    pub fn power(&self, user: &UserId) -> Power {
        let is_creator = self.creators().contains(user);
        if is_creator && self.version.creators_are_above_all() {
            return Power::Creator;
        }
        let level = match self.power_levels() {
            Some(levels) => levels
                .user_power_level(user, &self.version.rules().authorization)
                .map_or(0, i64::from),
            None if is_creator => 100,
            None => 0,
        };
        Power::Level(level)
    }

    /// [`StateView::power`] as a number: `i64::MAX` for a creator in version 12.
    #[must_use]
    pub fn user_power(&self, user: &UserId) -> i64 {
        self.power(user).as_i64()
    }

    /// The power level required to send an event of this type.
    #[must_use]
    pub fn needed_power(&self, kind: &str, is_state: bool) -> i64 {
        let rules = &self.version.rules().authorization;
        match self.power_levels() {
            Some(levels) => levels
                .event_power_level(&TimelineEventType::from(kind), is_state.then_some(""), rules)
                .map_or(i64::MAX, i64::from),
            None if is_state => 50,
            None => 0,
        }
    }

    /// The power level required for an action with a field of its own (invite, kick, ban, redact).
    #[must_use]
    pub fn needed_power_to(&self, act: RoomPowerLevelsIntField) -> i64 {
        let level = match self.power_levels() {
            Some(levels) => levels
                .get_as_int_or_default(act, &self.version.rules().authorization)
                .ok(),
            None => Some(act.default_value()),
        };
        level.map_or(i64::MAX, |level: Int| level.into())
    }

    /// Whether the user is joined and may send messages of this type.
    #[must_use]
    pub fn can_send(&self, user: &UserId, kind: &str) -> bool {
        self.membership(user) == MembershipState::Join && self.user_power(user) >= self.needed_power(kind, false)
    }

    /// Whether the user is joined and may set state of this type. Two rules are only in the authorisation rules: a
    /// state key that is another user's id is refused, and a power levels event may change only some levels.
    #[must_use]
    pub fn can_send_state(&self, user: &UserId, kind: &str) -> bool {
        self.membership(user) == MembershipState::Join && self.user_power(user) >= self.needed_power(kind, true)
    }

    /// Whether the user is joined and may invite.
    #[must_use]
    pub fn can_invite(&self, user: &UserId) -> bool {
        self.membership(user) == MembershipState::Join
            && self.user_power(user) >= self.needed_power_to(RoomPowerLevelsIntField::Invite)
    }
}
