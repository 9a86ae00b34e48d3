//! Presence states in the order of their changes, with their expiry. Pure; time is an argument.

use std::collections::{BTreeMap, HashMap};

use ruma::{DeviceId, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, presence::PresenceState};
use weft_wire::limits::{MAX_PRESENCE_USERS, MAX_PRESENCE_USERS_PER_SERVER};

/// How long an offline user is remembered, so that a client that syncs rarely still gets the change.
const REMEMBER_OFFLINE_MS: u64 = 60 * 60 * 1_000;

/// The presence of a user, as the user or their server set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPresence {
    /// Online, unavailable (idle), offline.
    pub presence: PresenceState,
    /// The status message.
    pub status: Option<String>,
    /// The time of the last activity, milliseconds since 1970.
    pub last_active: Option<u64>,
}

impl UserPresence {
    /// The presence of an unknown user.
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
    state: UserPresence,
    /// The time at which it expires, milliseconds since 1970.
    until: u64,
    /// When it was last sent to other servers.
    sent: u64,
    serial: u64,
    /// The presence comes from the user's syncs, and was not set by the user.
    from_sync: bool,
}

/// The newest sync of one device.
#[derive(Debug)]
struct DeviceSync {
    presence: PresenceState,
    until: u64,
}

/// See the module. Every change has a serial, by which `/sync` finds new changes.
#[derive(Debug)]
pub(super) struct States {
    users: HashMap<OwnedUserId, Entry>,
    order: BTreeMap<u64, OwnedUserId>,
    /// Syncs of our users by device.
    syncs: HashMap<OwnedUserId, HashMap<OwnedDeviceId, DeviceSync>>,
    /// This server, whose users have accounts here and need no further limit.
    us: OwnedServerName,
    /// The number of users of each other server, and of all of them.
    of_server: HashMap<OwnedServerName, usize>,
    others: usize,
    serial: u64,
}

impl States {
    /// All users are offline. Serials continue from `serial`.
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

    /// Sets the presence of a user until the given time; returns whether it changed. New users of other servers are
    /// ignored above the limits for their server and for all servers; users of this server don't count towards these
    /// limits.
    pub(super) fn set(&mut self, user: &UserId, state: UserPresence, until: u64) -> bool {
        let Some(entry) = self.users.get_mut(user) else {
            return state.presence != PresenceState::Offline && self.add(user, state, until);
        };
        entry.until = until;
        entry.from_sync = false;
        let changed = entry.state.presence != state.presence || entry.state.status != state.status;
        entry.state = state;
        if changed {
            self.touch(user);
        }
        changed
    }

    fn add(&mut self, user: &UserId, state: UserPresence, until: u64) -> bool {
        if user.server_name() != self.us && !self.reserve_entry(user.server_name()) {
            return false;
        }
        let entry = Entry {
            state,
            until,
            sent: 0,
            serial: 0,
            from_sync: false,
        };
        self.users.insert(user.to_owned(), entry);
        self.touch(user);
        true
    }

    fn reserve_entry(&mut self, server: &ServerName) -> bool {
        let of_server = self.of_server.entry(server.to_owned()).or_default();
        if self.others >= MAX_PRESENCE_USERS || *of_server >= MAX_PRESENCE_USERS_PER_SERVER {
            return false;
        }
        *of_server += 1;
        self.others += 1;
        true
    }

    /// The known presence of a user.
    pub(super) fn of(&self, user: &UserId) -> UserPresence {
        self.users
            .get(user)
            .map_or_else(UserPresence::nothing, |entry| entry.state.clone())
    }

    /// A device of one of our users syncs with this presence until the given time: the user is online while any
    /// device syncs as online, otherwise unavailable. A presence that the user set has priority, unless no device is
    /// online. Returns whether the presence changed.
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
        let was_from_sync = self.users.get(user).is_some_and(|entry| entry.from_sync);
        let is_set = known.presence == PresenceState::Unavailable && !was_from_sync;
        if is_set || known.presence == by_syncs {
            self.prolong(user, until);
            return false;
        }
        let last_active = if is_online {
            Some(now)
        } else {
            known.last_active.or(Some(now))
        };
        let state = UserPresence {
            presence: by_syncs,
            last_active,
            ..known
        };
        let changed = self.set(user, state, until);
        if let Some(entry) = self.users.get_mut(user) {
            entry.from_sync = true;
        }
        changed
    }

    /// Extends the expiry of a user's presence to at least this time.
    pub(super) fn prolong(&mut self, user: &UserId, until: u64) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.until = entry.until.max(until);
        }
    }

    /// The changes after a serial, oldest first, each user once.
    pub(super) fn after(&self, serial: u64, limit: usize) -> Vec<(u64, OwnedUserId)> {
        let later = self.order.range(serial.saturating_add(1)..);
        later
            .take(limit)
            .map(|(serial, user)| (*serial, user.clone()))
            .collect()
    }

    /// The serial of the last change.
    pub(super) const fn serial(&self) -> u64 {
        self.serial
    }

    /// Expires presence; returns the users who became offline.
    pub(super) fn expire(&mut self, now: u64) -> Vec<OwnedUserId> {
        let over = |(user, entry): (&OwnedUserId, &Entry)| (entry.until <= now).then(|| user.clone());
        let mut offline = Vec::new();
        for user in self.users.iter().filter_map(over).collect::<Vec<_>>() {
            if self.end(&user, now) {
                offline.push(user);
            }
        }
        offline
    }

    /// Returns whether the user became offline; an offline user is removed.
    fn end(&mut self, user: &UserId, now: u64) -> bool {
        let Some(entry) = self.users.get_mut(user) else {
            return false;
        };
        if entry.state.presence == PresenceState::Offline {
            self.remove(user);
            return false;
        }
        entry.state.presence = PresenceState::Offline;
        entry.until = now.saturating_add(REMEMBER_OFFLINE_MS);
        self.touch(user);
        true
    }

    fn remove(&mut self, user: &UserId) {
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

    /// Our online users whose presence was not sent to other servers since then.
    pub(super) fn due_for_renewal(&self, since: u64) -> Vec<OwnedUserId> {
        let due_for_renewal = |entry: &Entry| entry.state.presence != PresenceState::Offline && entry.sent < since;
        let ours = self.users.iter().filter(|(user, _)| user.server_name() == self.us);
        ours.filter(|(_, entry)| due_for_renewal(entry))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Records that a user's presence is sent to other servers.
    pub(super) fn note_sent(&mut self, user: &UserId, now: u64) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.sent = now;
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
    fn each_user_is_reported_once_with_the_newest_change() {
        let (alice, bob) = (user_id!("@alice:a.test"), user_id!("@bob:b.test"));
        let mut states = States::new(us(), 40);
        assert!(
            !states.set(alice, UserPresence::nothing(), 100),
            "an unknown user going offline is not a change"
        );
        assert!(states.set(alice, online(""), 100));
        assert!(states.set(bob, online(""), 100));
        assert!(!states.set(alice, online(""), 200), "an equal presence is not a change");
        assert_eq!(named(&states, 40), ["alice", "bob"]);
        assert!(states.set(alice, online("at lunch"), 200));
        assert_eq!(named(&states, 40), ["bob", "alice"]);
        assert_eq!(named(&states, 42), ["alice"]);
        assert_eq!(states.serial(), 43);
        assert!(named(&states, 43).is_empty());
        assert_eq!(states.after(40, 1).len(), 1);
    }

    #[test]
    fn expired_users_become_offline_and_are_removed_later() {
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
        assert_eq!(named(&states, 1), ["alice"], "going offline is a change");
        assert!(states.expire(150).is_empty());
        assert!(states.expire(150 + REMEMBER_OFFLINE_MS).is_empty());
        assert!(states.after(0, 100).is_empty());
        assert_eq!((states.of_server.len(), states.others), (0, 0));
    }

    #[test]
    fn one_server_cannot_fill_the_list() {
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
            assert!(states.set(&ours, online(""), 100), "our own users are not limited");
        }
        assert!(states.set(&user(0), online("still here"), 100));
    }

    #[test]
    fn the_presence_of_online_users_is_sent_to_other_servers_again() {
        let (alice, bob) = (user_id!("@alice:a.test"), user_id!("@bob:b.test"));
        let mut states = States::new(us(), 0);
        states.set(alice, online(""), 100);
        states.set(bob, online(""), 100);
        assert_eq!(states.due_for_renewal(10), [alice]);
        states.note_sent(alice, 10);
        assert_eq!(states.due_for_renewal(10), [] as [OwnedUserId; 0]);
        assert_eq!(states.due_for_renewal(11), [alice]);
        states.expire(100);
        assert_eq!(states.due_for_renewal(11), [] as [OwnedUserId; 0]);
    }
}
