//! Typing users by room, with their timeouts. Pure; time is an argument.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

/// The longest time that one notice is valid, whatever timeout was requested.
pub(super) const MAX_TIMEOUT_MS: u64 = 120_000;
/// How long a notice of another server is valid; that server renews it more often.
pub(super) const REMOTE_TIMEOUT_MS: u64 = 30_000;

/// Rooms without typing users whose last change is still remembered.
const MAX_QUIET_ROOMS: usize = 10_000;

/// A room with typing users.
#[derive(Debug, Default)]
struct RoomTyping {
    /// The time at which each user's notice expires, milliseconds since 1970. Never empty.
    until: BTreeMap<OwnedUserId, u64>,
    serial: u64,
}

/// See the module. Rooms keep their serial for a while after the last user stops, so that `/sync` can report the
/// change. Dropped rooms share the highest serial of all of them: a client with an older token gets the empty list
/// once more.
#[derive(Debug, Default)]
pub(super) struct Typing {
    rooms: HashMap<OwnedRoomId, RoomTyping>,
    quiet: HashMap<OwnedRoomId, u64>,
    /// The rooms without typing users by their serials: the oldest are dropped first.
    quiet_by_serial: BTreeMap<u64, OwnedRoomId>,
    dropped: u64,
    serial: u64,
}

impl Typing {
    /// Sets or ends one user's typing; returns whether the list of the room changed.
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

    /// Removes expired notices; returns the rooms whose list changed.
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
        match self.rooms.get(room) {
            Some(typing) => (typing.until.keys().cloned().collect(), typing.serial),
            None => (Vec::new(), self.quiet.get(room).copied().unwrap_or(self.dropped)),
        }
    }

    /// The serial of the last change of any room.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    fn touch(&mut self, room: &RoomId) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(before) = self.quiet.remove(room) {
            self.quiet_by_serial.remove(&before);
        }
        if let Some(typing) = self.rooms.get_mut(room).filter(|typing| !typing.until.is_empty()) {
            typing.serial = self.serial;
            return;
        }
        self.rooms.remove(room);
        self.quiet.insert(room.to_owned(), self.serial);
        self.quiet_by_serial.insert(self.serial, room.to_owned());
        if self.quiet.len() > MAX_QUIET_ROOMS
            && let Some((serial, oldest)) = self.quiet_by_serial.pop_first()
        {
            self.quiet.remove(&oldest);
            self.dropped = self.dropped.max(serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    #[test]
    fn typing_ends_by_timeout_or_request_and_changes_the_serial() {
        let mut typing = Typing::default();
        let (room, alice, bob) = (room_id!("!a:x"), user_id!("@alice:x"), user_id!("@bob:x"));
        assert_eq!(typing.in_room(room), (vec![], 0));
        assert!(typing.set(room, alice, Some(100)));
        let (_, first) = typing.in_room(room);
        assert!(!typing.set(room, alice, Some(200)), "a renewal is not a change");
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

    #[test]
    fn rooms_without_typing_users_are_dropped_and_their_last_change_is_still_reported() {
        let mut typing = Typing::default();
        let alice = user_id!("@alice:x");
        let room = |number: usize| RoomId::parse(format!("!{number}:x")).unwrap();
        assert!(typing.set(&room(0), alice, Some(1)));
        let token = typing.serial();
        for number in 0..=MAX_QUIET_ROOMS + 5 {
            typing.set(&room(number), alice, Some(1));
            assert!(typing.set(&room(number), alice, None));
        }
        assert!(typing.rooms.is_empty(), "only rooms with typing users are walked");
        assert_eq!(typing.quiet.len(), MAX_QUIET_ROOMS);
        assert_eq!(typing.quiet_by_serial.len(), MAX_QUIET_ROOMS);
        let (nobody, serial) = typing.in_room(&room(0));
        assert!(
            nobody.is_empty() && serial > token,
            "a client with an older token learns that alice stopped"
        );
        assert!(serial < typing.in_room(&room(MAX_QUIET_ROOMS)).1);
    }
}
