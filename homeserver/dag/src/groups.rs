//! States stored as changes to other states, with chains of bounded length.
//!
//! A change of state costs one small row and reading a state at most [`MAX_HOPS`] of them. Must not decide
//! what a state is: that is for the rules and for resolution.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use weft_wire::limits;

use crate::{StateKey, StateMap};

/// See [`limits::MAX_STATE_GROUP_HOPS`].
pub const MAX_HOPS: u8 = limits::MAX_STATE_GROUP_HOPS;

/// The id of a stored state, unique within its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u64);

/// One stored state: a whole one, or changes to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// The group that this one changes; none for a whole state.
    pub parent: Option<GroupId>,
    /// How many rows lie below this one.
    pub hops: u8,
    /// The entries that differ from the parent, or all.
    pub changes: Vec<(StateKey, OwnedEventId)>,
}

/// A group that a new one may lean on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent<'a> {
    /// Its id.
    pub id: GroupId,
    /// Its row's `hops`.
    pub hops: u8,
    /// Its whole state.
    pub state: &'a StateMap,
}

/// The row for `state`. Leans on `parent` unless the chain would grow too long, an entry is gone (rows only set), or
/// a whole state would be no larger.
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

/// What must be set in `from` to make it `to`; None where an entry would have to be removed.
#[must_use]
pub fn changes(from: &StateMap, to: &StateMap) -> Option<Vec<(StateKey, OwnedEventId)>> {
    if from.0.keys().any(|key| !to.0.contains_key(key)) {
        return None;
    }
    let changed = to.0.iter().filter(|(key, event)| from.0.get(*key) != Some(event));
    Some(changed.map(|(key, event)| (key.clone(), event.clone())).collect())
}

/// The whole state from its rows, the group's own row first and the whole state at the end of the chain last.
#[must_use]
pub fn flatten<'a>(rows_newest_first: impl IntoIterator<Item = &'a GroupRow>) -> StateMap {
    let mut state = StateMap::default();
    for (key, event) in rows_newest_first.into_iter().flat_map(|row| &row.changes) {
        state.insert_new(key.clone(), event.clone());
    }
    state
}
