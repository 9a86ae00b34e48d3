//! The bytes on disk of the fetched histories of all rooms, which have a limit together: a server that invents ancestors
//! in many rooms must not fill the disk. After a start, a room counts from its next run on. Must not read or write rows.

use std::collections::HashMap;

use parking_lot::Mutex;
use ruma::{OwnedRoomId, RoomId};

/// The bytes of each room with fetched events that are not decided yet.
#[derive(Debug, Default)]
pub(crate) struct FetchedBytes(Mutex<Totals>);

#[derive(Debug, Default)]
struct Totals {
    rooms: HashMap<OwnedRoomId, u64>,
    /// Events of a room were refused, so that the largest history is to be dropped.
    refused: bool,
}

impl FetchedBytes {
    /// Notes the bytes of a room as they are on disk.
    pub(crate) fn note(&self, room: &RoomId, bytes: u64) {
        let rooms = &mut self.0.lock().rooms;
        if bytes == 0 {
            rooms.remove(room);
        } else {
            rooms.insert(room.to_owned(), bytes);
        }
    }

    /// Whether the limit of all rooms admits this number of bytes more.
    pub(crate) fn admit(&self, more: u64, limit: u64) -> bool {
        let mut totals = self.0.lock();
        let total = totals.rooms.values().copied().fold(more, u64::saturating_add);
        totals.refused |= total > limit;
        total <= limit
    }

    /// Whether bytes were refused since a room was dropped, and no room has more than this one. True once: the caller
    /// drops the room. A history that no server completes would otherwise keep all others waiting.
    pub(crate) fn is_to_be_dropped(&self, room: &RoomId) -> bool {
        let mut totals = self.0.lock();
        let largest = totals.rooms.iter().max_by_key(|(room, bytes)| (**bytes, *room));
        let is_largest = largest.is_some_and(|(largest, _)| largest == room);
        is_largest && std::mem::take(&mut totals.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_room_is_dropped_after_a_refusal_and_it_is_the_largest() {
        let bytes = FetchedBytes::default();
        let rooms = ["!a:a.example", "!b:a.example", "!c:a.example"].map(|id| RoomId::parse(id).unwrap());
        for (room, count) in rooms.iter().zip([7, 9, 9]) {
            bytes.note(room, count);
        }
        assert!(bytes.admit(5, 30));
        assert!(rooms.iter().all(|room| !bytes.is_to_be_dropped(room)));
        assert!(!bytes.admit(6, 30));
        assert_eq!(rooms.iter().filter(|room| bytes.is_to_be_dropped(room)).count(), 1);
        bytes.note(&rooms[2], 0);
        assert!(bytes.admit(14, 30));
        assert!(!bytes.admit(u64::MAX, 30));
        assert!(!bytes.is_to_be_dropped(&rooms[0]));
        assert!(bytes.is_to_be_dropped(&rooms[1]));
    }
}
