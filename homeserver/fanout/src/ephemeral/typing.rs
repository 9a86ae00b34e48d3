//! Who types where, until when. Pure; time is an argument.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

/// Longest time that one notice counts, whatever was asked for.
pub(super) const MAX_TIMEOUT_MS: u64 = 120_000;
/// How long a notice of another server counts; its own renews it more often than that.
pub(super) const REMOTE_TIMEOUT_MS: u64 = 30_000;

#[derive(Debug, Default)]
struct RoomTyping {
    /// When each stops, milliseconds since 1970.
    until: BTreeMap<OwnedUserId, u64>,
    serial: u64,
}

/// See the module. Rooms keep their serial after the last one stops, so that `/sync` can tell that it changed.
#[derive(Debug, Default)]
pub(super) struct Typing {
    rooms: HashMap<OwnedRoomId, RoomTyping>,
    serial: u64,
}

impl Typing {
    /// Sets or ends one user's typing; whether the list of the room changed.
    pub(super) fn set(&mut self, room: &RoomId, user: &UserId, until: Option<u64>) -> bool {
        let changed = match until {
            Some(until) => self
                .rooms
                .entry(room.to_owned())
                .or_default()
                .until
                .insert(user.to_owned(), until)
                .is_none(),
            None => self
                .rooms
                .get_mut(room)
                .is_some_and(|typing| typing.until.remove(user).is_some()),
        };
        if changed {
            self.touch(room);
        }
        changed
    }

    /// Ends what is over; the rooms whose list changed.
    pub(super) fn expire(&mut self, now: u64) -> Vec<OwnedRoomId> {
        let mut changed = Vec::new();
        for (room, typing) in &mut self.rooms {
            let before = typing.until.len();
            typing.until.retain(|_, until| *until > now);
            if typing.until.len() != before {
                changed.push(room.clone());
            }
        }
        changed.iter().for_each(|room| self.touch(room));
        changed
    }

    pub(super) fn in_room(&self, room: &RoomId) -> (Vec<OwnedUserId>, u64) {
        self.rooms
            .get(room)
            .map(|typing| (typing.until.keys().cloned().collect(), typing.serial))
            .unwrap_or_default()
    }

    /// Of the last change of any room.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    fn touch(&mut self, room: &RoomId) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(typing) = self.rooms.get_mut(room) {
            typing.serial = self.serial;
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn typing_ends_by_itself_or_by_word_and_changes_the_serial() {
        let mut typing = Typing::default();
        let (room, alice, bob) = (room_id!("!a:x"), user_id!("@alice:x"), user_id!("@bob:x"));
        assert_eq!(typing.in_room(room), (vec![], 0));
        assert!(typing.set(room, alice, Some(100)));
        let (_, first) = typing.in_room(room);
        assert!(!typing.set(room, alice, Some(200)), "a renewal is no change");
        assert!(typing.set(room, bob, Some(150)));
        assert_eq!(typing.in_room(room).0, [alice, bob]);
        assert_eq!(typing.expire(150), [room]);
        assert_eq!(typing.in_room(room).0, [alice]);
        assert!(typing.set(room, alice, None));
        assert!(!typing.set(room, alice, None));
        let (none, last) = typing.in_room(room);
        assert!(none.is_empty() && last > first);
        assert_eq!(typing.expire(1_000), [] as [OwnedRoomId; 0]);
    }
}
