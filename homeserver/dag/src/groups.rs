//! State groups: states stored as differences from other states, in chains of bounded length.
//!
//! A change of state costs one small row, and reading a state costs at most [`MAX_HOPS`] rows. Must not decide what a
//! state is: that is the task of the authorisation rules and of state resolution.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use weft_wire::limits;

use crate::{StateKey, StateMap};

/// See [`limits::MAX_STATE_GROUP_HOPS`].
pub const MAX_HOPS: u8 = limits::MAX_STATE_GROUP_HOPS;

/// The id of a state group, unique within its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u64);

/// One stored state: a complete one, or the difference from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// The group that this one is based on; `None` for a complete state.
    pub parent: Option<GroupId>,
    /// The number of rows below this one.
    pub hops: u8,
    /// The entries that differ from the parent, or all entries.
    pub changes: Vec<(StateKey, OwnedEventId)>,
}

/// A group that a new one may be based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent<'a> {
    /// Its id.
    pub id: GroupId,
    /// The `hops` of its row.
    pub hops: u8,
    /// Its complete state.
    pub state: &'a StateMap,
}

/// The row for `state`. It is based on `parent` unless the chain would become too long, an entry was removed (a row
/// only sets entries), or a complete state would be no larger.
#[must_use]
pub fn derive(parent: Option<Parent<'_>>, state: &StateMap) -> GroupRow {
    let whole = || GroupRow {
        parent: None,
        hops: 0,
        changes: state
            .0
            .iter()
            .map(|(key, event)| (key.clone(), event.clone()))
            .collect(),
    };
    let Some(parent) = parent.filter(|parent| parent.hops < MAX_HOPS) else {
        return whole();
    };
    let Some(changes) = changes(parent.state, state) else {
        return whole();
    };
    if changes.len() >= state.0.len() {
        return whole();
    }
    GroupRow {
        parent: Some(parent.id),
        hops: parent.hops + 1,
        changes,
    }
}

/// The entries to set in `from` to get `to`; `None` if an entry would have to be removed.
#[must_use]
pub fn changes(from: &StateMap, to: &StateMap) -> Option<Vec<(StateKey, OwnedEventId)>> {
    if from.0.keys().any(|key| !to.0.contains_key(key)) {
        return None;
    }
    let changed = to.0.iter().filter(|(key, event)| from.0.get(*key) != Some(event));
    Some(changed.map(|(key, event)| (key.clone(), event.clone())).collect())
}

/// The complete state from its rows: the group's own row first, the row with the complete state last.
#[must_use]
pub fn flatten<'a>(rows_newest_first: impl IntoIterator<Item = &'a GroupRow>) -> StateMap {
    let mut state = StateMap::default();
    for (key, event) in rows_newest_first.into_iter().flat_map(|row| &row.changes) {
        state.insert_new(key.clone(), event.clone());
    }
    state
}
