//! Log lines about many events of other servers: the number of events of each kind, and one example.
//!
//! Must not write a log line for each event: a server that sends a state of 50,000 rejected events would cause as many
//! lines (T136).

use std::{collections::BTreeMap, fmt::Display};

use ruma::{OwnedRoomId, RoomId};

/// The longest example, in bytes.
const EXAMPLE: usize = 300;

/// The counts of one turn. The lines are written when this is dropped.
#[derive(Debug)]
pub struct Tally {
    room: OwnedRoomId,
    noted: BTreeMap<&'static str, (u64, String)>,
}

impl Tally {
    /// An empty tally of a room.
    pub fn new(room: &RoomId) -> Self {
        Self {
            room: room.to_owned(),
            noted: BTreeMap::new(),
        }
    }

    /// Counts one event; the first of a kind is the example.
    pub fn note(&mut self, what: &'static str, example: &impl Display) {
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
