//! The format of the answer. Empty sections are left out, so that an answer without changes is short.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId};
use serde::Serialize;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use weft_fanout::unread::Count;
use weft_store::Lane;

/// A list of events.
#[derive(Debug, Default, Serialize)]
pub(super) struct Events {
    pub(super) events: Vec<Box<RawValue>>,
}

impl Events {
    pub(super) fn from_values(values: Vec<Value>) -> Self {
        Self {
            events: values.iter().filter_map(|value| to_raw_value(value).ok()).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    pub(super) events: Vec<Box<RawValue>>,
    pub(super) limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_batch: Option<String>,
}

/// Numbers of events that the user has not read.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Unread {
    highlight_count: u64,
    notification_count: u64,
}

impl From<Count> for Unread {
    fn from(count: Count) -> Self {
        Self {
            highlight_count: count.highlights,
            notification_count: count.notifications,
        }
    }
}

/// A room that the user has joined, or had joined until the end of its timeline.
#[derive(Debug, Default, Serialize)]
pub(super) struct Room {
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) summary: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<Events>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_after: Option<Events>,
    pub(super) timeline: Timeline,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) ephemeral: Events,
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub(super) account_data: Events,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unread_notifications: Option<Unread>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) unread_thread_notifications: BTreeMap<String, Unread>,
    /// Members whose presence the client may not have yet.
    #[serde(skip)]
    pub(super) newcomers: Vec<OwnedUserId>,
}

impl Room {
    /// The state is put where the client expects it: at the end of the timeline (`use_state_after`) or at its beginning.
    /// The section is present even if it is empty: matrix-nio stops its sync loop at a left room without it.
    pub(super) fn new(timeline: Timeline, state: Events, after: bool) -> Self {
        let (state, state_after) = if after {
            (None, Some(state))
        } else {
            (Some(state), None)
        };
        Self {
            timeline,
            state,
            state_after,
            ..Self::default()
        }
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.summary.is_empty()
            && self.timeline.events.is_empty()
            && self.state.as_ref().is_none_or(Events::is_empty)
            && self.state_after.as_ref().is_none_or(Events::is_empty)
            && self.ephemeral.is_empty()
            && self.account_data.is_empty()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Invited {
    pub(super) invite_state: Events,
}

#[derive(Debug, Serialize)]
pub(super) struct Knocked {
    pub(super) knock_state: Events,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Rooms {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) join: BTreeMap<OwnedRoomId, Room>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) invite: BTreeMap<OwnedRoomId, Invited>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) knock: BTreeMap<OwnedRoomId, Knocked>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) leave: BTreeMap<OwnedRoomId, Room>,
    /// The lanes of the user's rooms.
    #[serde(skip)]
    pub(super) lanes: BTreeSet<Lane>,
}

impl Rooms {
    /// Members whose presence the client may not have yet.
    pub(super) fn newcomers(&mut self) -> BTreeSet<OwnedUserId> {
        let rooms = self.join.values_mut();
        rooms.flat_map(|room| std::mem::take(&mut room.newcomers)).collect()
    }

    fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Body {
    next_batch: String,
    #[serde(skip_serializing_if = "Rooms::is_empty")]
    rooms: Rooms,
    #[serde(skip_serializing_if = "Events::is_empty")]
    account_data: Events,
    presence: Events,
    to_device: Value,
    device_lists: Value,
    device_one_time_keys_count: Value,
    device_unused_fallback_key_types: Vec<String>,
}

impl Body {
    pub(super) fn new(
        next_batch: String,
        rooms: Rooms,
        account_data: Events,
        presence: Events,
        key_counts: Value,
    ) -> Self {
        Self {
            next_batch,
            rooms,
            account_data,
            presence,
            to_device: json!({"events": []}),
            device_lists: json!({"changed": [], "left": []}),
            device_one_time_keys_count: key_counts,
            device_unused_fallback_key_types: vec!["signed_curve25519".to_owned()],
        }
    }

    /// The answer to a client that has more than this process can read yet: nothing, with the client's own token.
    pub(super) fn unchanged(token: String, key_counts: Value) -> Self {
        Self::new(
            token,
            Rooms::default(),
            Events::default(),
            Events::default(),
            key_counts,
        )
    }

    /// Whether a waiting client can continue to wait. Presence alone causes no answer: it would do so many times a minute.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.account_data.is_empty()
    }
}
