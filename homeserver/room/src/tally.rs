//! Log lines about many events of other servers: how many there are of each kind, and one example.
//!
//! Must not log by itself for each event: who sends a state of fifty thousand that do not stand would otherwise write as many
//! lines (T136).

use std::{collections::BTreeMap, fmt::Display};

use ruma::{OwnedRoomId, RoomId};

/// Bytes of an example.
const EXAMPLE: usize = 300;

/// What is to be said of the events of one turn, said when this is dropped.
#[derive(Debug)]
pub(crate) struct Tally {
    room: OwnedRoomId,
    noted: BTreeMap<&'static str, (u64, String)>,
}

impl Tally {
    /// Nothing to say of a room.
    pub(crate) fn new(room: &RoomId) -> Self {
        Self {
            room: room.to_owned(),
            noted: BTreeMap::new(),
        }
    }

    /// Counts one event; the first of a kind is the example.
    pub(crate) fn note(&mut self, what: &'static str, example: &impl Display) {
        let shorten = || {
            example
                .to_string()
                .chars()
                .filter(|c| !c.is_control())
                .take(EXAMPLE)
                .collect()
        };
        let (count, _) = self.noted.entry(what).or_insert_with(|| (0, shorten()));
        *count += 1;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        for (what, (count, example)) in &self.noted {
            tracing::info!(room = %self.room, count, example, "{what}");
        }
    }
}
