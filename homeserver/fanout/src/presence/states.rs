//! Who is there, in what order it became known, until when it counts. Pure; time is an argument.

use std::collections::{BTreeMap, HashMap};

use ruma::{DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, presence::PresenceState};
use weft_wire::limits::{MAX_PRESENCE_USERS, MAX_PRESENCE_USERS_PER_SERVER};

/// How long it stays known that somebody has gone, so that whoever looks away for a while hears of it.
const REMEMBER_OFFLINE_MS: u64 = 60 * 60 * 1_000;

/// What a user says of himself, or what his server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPresence {
    /// Online, unavailable (idle), offline.
    pub presence: PresenceState,
    /// A few words of his own.
    pub status: Option<String>,
    /// When he last did something, milliseconds since 1970.
    pub last_active: Option<u64>,
}

impl UserPresence {
    /// Of somebody of whom nothing is known.
    pub(super) const fn nothing() -> Self {
        Self {
            presence: PresenceState::Offline,
            status: None,
            last_active: None,
        }
    }
}

#[derive(Debug)]
struct Entry {
    seen: UserPresence,
    /// When it ends, milliseconds since 1970.
    until: u64,
    /// When other servers were last told.
    told: u64,
    serial: u64,
    /// The presence is what the user's syncs ask for, and not what the user set.
    by_sync: bool,
}

/// What one device's newest sync asked for.
#[derive(Debug)]
struct DeviceSync {
    presence: PresenceState,
    until: u64,
}

/// See the module. Every change has a number of its own, by which `/sync` knows what is new.
#[derive(Debug)]
pub(super) struct States {
    users: HashMap<OwnedUserId, Entry>,
    order: BTreeMap<u64, OwnedUserId>,
    /// Syncs of our users by device.
    syncs: HashMap<OwnedUserId, HashMap<OwnedDeviceId, DeviceSync>>,
    /// Whose users have accounts here, and so are as many as may be.
    us: OwnedServerName,
    /// Users of each other server, and of all of them.
    of_server: HashMap<OwnedServerName, usize>,
    others: usize,
    serial: u64,
}

impl States {
    /// Nobody is there. Numbers go on from `serial`.
    pub(super) fn new(us: OwnedServerName, serial: u64) -> Self {
        Self {
            us,
            others: 0,
            users: HashMap::new(),
            order: BTreeMap::new(),
            syncs: HashMap::new(),
            of_server: HashMap::new(),
            serial,
        }
    }

    /// Takes what is said of a user until then; whether anybody has to hear of it. Of other servers nobody new is taken
    /// where there are too many, of his server or of all: they take no places from our own users.
    pub(super) fn set(&mut self, user: &UserId, seen: UserPresence, until: u64) -> bool {
        let Some(entry) = self.users.get_mut(user) else {
            return seen.presence != PresenceState::Offline && self.add(user, seen, until);
        };
        entry.until = until;
        entry.by_sync = false;
        let changed = entry.seen.presence != seen.presence || entry.seen.status != seen.status;
        entry.seen = seen;
        if changed {
            self.touch(user);
        }
        changed
    }

    fn add(&mut self, user: &UserId, seen: UserPresence, until: u64) -> bool {
        if user.server_name() != self.us && !self.take_place(user.server_name()) {
            return false;
        }
        let entry = Entry {
            seen,
            until,
            told: 0,
            serial: 0,
            by_sync: false,
        };
        self.users.insert(user.to_owned(), entry);
        self.touch(user);
        true
    }

    fn take_place(&mut self, server: &ServerName) -> bool {
        let of_server = self.of_server.entry(server.to_owned()).or_default();
        if self.others >= MAX_PRESENCE_USERS || *of_server >= MAX_PRESENCE_USERS_PER_SERVER {
            return false;
        }
        *of_server += 1;
        self.others += 1;
        true
    }

    /// What is known of a user.
    pub(super) fn of(&self, user: &UserId) -> UserPresence {
        self.users
            .get(user)
            .map_or_else(UserPresence::nothing, |entry| entry.seen.clone())
    }

    /// A device of a user of ours syncs with this presence until then: the user is online while any device asks for that,
    /// else unavailable. What the user set stands, unless no device is online. Whether anybody has to hear of it.
    pub(super) fn syncs(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        presence: PresenceState,
        now: u64,
        until: u64,
    ) -> bool {
        let syncs = self.syncs.entry(user.to_owned()).or_default();
        syncs.retain(|_, sync| sync.until > now);
        syncs.insert(device.to_owned(), DeviceSync { presence, until });
        let is_online = syncs.values().any(|sync| sync.presence == PresenceState::Online);
        let by_syncs = if is_online {
            PresenceState::Online
        } else {
            PresenceState::Unavailable
        };
        let known = self.of(user);
        let was_by_sync = self.users.get(user).is_some_and(|entry| entry.by_sync);
        let is_set = known.presence == PresenceState::Unavailable && !was_by_sync;
        if is_set || known.presence == by_syncs {
            self.prolong(user, until);
            return false;
        }
        let last_active = if is_online {
            Some(now)
        } else {
            known.last_active.or(Some(now))
        };
        let seen = UserPresence {
            presence: by_syncs,
            last_active,
            ..known
        };
        let changed = self.set(user, seen, until);
        if let Some(entry) = self.users.get_mut(user) {
            entry.by_sync = true;
        }
        changed
    }

    /// What is known of a user counts until then at least.
    pub(super) fn prolong(&mut self, user: &UserId, until: u64) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.until = entry.until.max(until);
        }
    }

    /// The changes after a number, oldest first, each user once.
    pub(super) fn after(&self, serial: u64, limit: usize) -> Vec<(u64, OwnedUserId)> {
        let later = self.order.range(serial.saturating_add(1)..);
        later
            .take(limit)
            .map(|(serial, user)| (*serial, user.clone()))
            .collect()
    }

    /// Of the last change.
    pub(super) const fn serial(&self) -> u64 {
        self.serial
    }

    /// Ends what is over; who has gone by that.
    pub(super) fn expire(&mut self, now: u64) -> Vec<OwnedUserId> {
        let over = |(user, entry): (&OwnedUserId, &Entry)| (entry.until <= now).then(|| user.clone());
        let mut gone = Vec::new();
        for user in self.users.iter().filter_map(over).collect::<Vec<_>>() {
            if self.end(&user, now) {
                gone.push(user);
            }
        }
        gone
    }

    /// Whether the user has gone now; one who had gone before is forgotten.
    fn end(&mut self, user: &UserId, now: u64) -> bool {
        let Some(entry) = self.users.get_mut(user) else {
            return false;
        };
        if entry.seen.presence == PresenceState::Offline {
            self.forget(user);
            return false;
        }
        entry.seen.presence = PresenceState::Offline;
        entry.until = now.saturating_add(REMEMBER_OFFLINE_MS);
        self.touch(user);
        true
    }

    fn forget(&mut self, user: &UserId) {
        self.syncs.remove(user);
        if let Some(entry) = self.users.remove(user) {
            self.order.remove(&entry.serial);
        }
        if let Some(count) = self.of_server.get_mut(user.server_name()) {
            *count = count.saturating_sub(1);
            self.others = self.others.saturating_sub(1);
        }
        self.of_server.retain(|_, count| *count > 0);
    }

    /// Our users who are there and of whom other servers haven't been told since then.
    pub(super) fn untold(&self, since: u64) -> Vec<OwnedUserId> {
        let untold = |entry: &Entry| entry.seen.presence != PresenceState::Offline && entry.told < since;
        let ours = self.users.iter().filter(|(user, _)| user.server_name() == self.us);
        ours.filter(|(_, entry)| untold(entry))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Other servers are being told about a user.
    pub(super) fn note_told(&mut self, user: &UserId, now: u64) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.told = now;
        }
    }

    fn touch(&mut self, user: &UserId) {
        if let Some(entry) = self.users.get_mut(user) {
            self.order.remove(&entry.serial);
            self.serial = self.serial.saturating_add(1);
            entry.serial = self.serial;
            self.order.insert(entry.serial, user.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedUserId, UserId, server_name, user_id};

    use super::*;

    fn us() -> OwnedServerName {
        server_name!("a.test").to_owned()
    }

    fn online(status: &str) -> UserPresence {
        UserPresence {
            presence: PresenceState::Online,
            status: Some(status.to_owned()),
            last_active: Some(1),
        }
    }

    fn named(states: &States, serial: u64) -> Vec<String> {
        let changes = states.after(serial, 100);
        changes.iter().map(|(_, user)| user.localpart().to_owned()).collect()
    }

    #[test]
    fn a_change_is_told_once_and_the_newest_of_each_user_only() {
        let (alice, bob) = (user_id!("@alice:a.test"), user_id!("@bob:b.test"));
        let mut states = States::new(us(), 40);
        assert!(
            !states.set(alice, UserPresence::nothing(), 100),
            "that nobody is there is no news"
        );
        assert!(states.set(alice, online(""), 100));
        assert!(states.set(bob, online(""), 100));
        assert!(!states.set(alice, online(""), 200), "said again is no change");
        assert_eq!(named(&states, 40), ["alice", "bob"]);
        assert!(states.set(alice, online("at lunch"), 200));
        assert_eq!(named(&states, 40), ["bob", "alice"]);
        assert_eq!(named(&states, 42), ["alice"]);
        assert_eq!(states.serial(), 43);
        assert!(named(&states, 43).is_empty());
        assert_eq!(states.after(40, 1).len(), 1);
    }

    #[test]
    fn who_is_not_heard_of_goes_and_is_forgotten_later() {
        let alice = user_id!("@alice:c.test");
        let mut states = States::new(us(), 0);
        states.set(alice, online(""), 100);
        assert_eq!((states.of_server.len(), states.others), (1, 1));
        states.prolong(alice, 50);
        assert!(states.expire(99).is_empty());
        states.prolong(alice, 150);
        assert!(states.expire(100).is_empty());
        assert_eq!(states.expire(150), [alice]);
        assert_eq!(states.of(alice).presence, PresenceState::Offline);
        assert_eq!(named(&states, 1), ["alice"], "that she has gone is news");
        assert!(states.expire(150).is_empty());
        assert!(states.expire(150 + REMEMBER_OFFLINE_MS).is_empty());
        assert!(states.after(0, 100).is_empty());
        assert_eq!((states.of_server.len(), states.others), (0, 0));
    }

    #[test]
    fn a_server_cannot_fill_the_list() {
        let mut states = States::new(us(), 0);
        let user = |number: usize| UserId::parse(format!("@u{number}:b.test")).unwrap();
        for number in 0..MAX_PRESENCE_USERS_PER_SERVER + 10 {
            let taken = states.set(&user(number), online(""), 100);
            assert_eq!(taken, number < MAX_PRESENCE_USERS_PER_SERVER);
        }
        assert!(states.set(user_id!("@carol:c.test"), online(""), 100));
        assert_eq!(states.others, MAX_PRESENCE_USERS_PER_SERVER + 1);
        for number in 0..=MAX_PRESENCE_USERS_PER_SERVER {
            let ours = UserId::parse(format!("@u{number}:a.test")).unwrap();
            assert!(states.set(&ours, online(""), 100), "our users are as many as may be");
        }
        assert!(states.set(&user(0), online("still here"), 100));
    }

    #[test]
    fn other_servers_are_told_again_of_those_who_are_there() {
        let (alice, bob) = (user_id!("@alice:a.test"), user_id!("@bob:b.test"));
        let mut states = States::new(us(), 0);
        states.set(alice, online(""), 100);
        states.set(bob, online(""), 100);
        assert_eq!(states.untold(10), [alice]);
        states.note_told(alice, 10);
        assert_eq!(states.untold(10), [] as [OwnedUserId; 0]);
        assert_eq!(states.untold(11), [alice]);
        states.expire(100);
        assert_eq!(states.untold(11), [] as [OwnedUserId; 0]);
    }
}
