//! Awareness of one document: the newest state of each client id, and the device that introduced it. Pure; time is an
//! argument.
//!
//! Clocks belong to clients: a removal has the last clock of the client itself, and never a higher one. Stock clients
//! (y-protocols) show a client again only with a clock above that of its removal. Therefore removed ids are
//! remembered for a while, and a client that returns with its old clock is sent its removal: it then raises its clock
//! by itself.

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Value, json};
use weft_room_api::ConnectionId;
use weft_wire::{
    limits::{
        AWARENESS_EXPIRY_MS, AWARENESS_MEMORY_MS, MAX_AWARENESS_CLIENTS_PER_DEVICE, MAX_AWARENESS_CLIENTS_PER_ROOM,
        MAX_AWARENESS_CLIENTS_PER_USER,
    },
    live::awareness::Entry,
};

/// Sockets of one client id that are remembered; more than two at a time are rare (a broken connection and its
/// successor).
const MAX_SOCKETS_PER_CLIENT: usize = 8;

/// The source of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A socket of this server.
    Local(ConnectionId),
    /// An EDU.
    Remote,
}

/// The author of an entry.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) origin: Origin,
    /// The entry is from the socket's first message, which shows which ids are its own. Later messages may repeat
    /// others.
    pub(super) announces: bool,
    pub(super) user: OwnedUserId,
    pub(super) device: OwnedDeviceId,
    pub(super) display_name: Option<String>,
}

#[derive(Debug)]
struct Client {
    user: OwnedUserId,
    device: OwnedDeviceId,
    /// The sockets of this server that announced it, oldest first. The client is removed when the last of them
    /// closes.
    sockets: Vec<ConnectionId>,
    clock: u64,
    /// JSON text with the server's identity fields.
    state: String,
    /// Milliseconds since 1970.
    renewed: u64,
}

impl Client {
    fn belongs_to(&self, user: &UserId, device: &DeviceId) -> bool {
        self.user == user && self.device == device
    }

    fn announced_by(&mut self, origin: Origin) {
        let Origin::Local(session) = origin else { return };
        if !self.sockets.contains(&session) {
            if self.sockets.len() >= MAX_SOCKETS_PER_CLIENT {
                self.sockets.remove(0);
            }
            self.sockets.push(session);
        }
    }
}

/// A client that was removed.
#[derive(Debug)]
struct Removed {
    user: OwnedUserId,
    device: OwnedDeviceId,
    clock: u64,
    /// Milliseconds since 1970.
    at: u64,
}

/// The effect of an entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The entry to send to other clients.
    pub(super) broadcast: Option<Entry>,
    /// The removal to send to the client itself, so that it raises its clock.
    pub(super) answer: Option<Entry>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RoomStates {
    clients: BTreeMap<u64, Client>,
    removed: BTreeMap<u64, Removed>,
}

impl RoomStates {
    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.removed.is_empty()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.clients
            .iter()
            .map(|(client, known)| Entry {
                client: *client,
                clock: known.clock,
                state: known.state.clone(),
            })
            .collect()
    }

    /// The newest entry of a client with its user and device; also if it was removed recently.
    pub(super) fn newest(&self, client: u64) -> Option<(&UserId, &DeviceId, Entry)> {
        if let Some(known) = self.clients.get(&client) {
            let entry = Entry {
                client,
                clock: known.clock,
                state: known.state.clone(),
            };
            return Some((&known.user, &known.device, entry));
        }
        let known = self.removed.get(&client)?;
        Some((&known.user, &known.device, removal(client, known.clock)))
    }

    /// Whether an entry from this writer could change anything. Stock clients repeat the states of other clients.
    pub(super) fn is_relevant(&self, writer: &Writer, entry: &Entry) -> bool {
        if let Some(known) = self.clients.get(&entry.client) {
            let says_something = entry.clock > known.clock || entry.is_gone() || writer.announces;
            return known.belongs_to(&writer.user, &writer.device) && entry.clock >= known.clock && says_something;
        }
        let owned = self
            .removed
            .get(&entry.client)
            .is_none_or(|known| known.user == writer.user);
        owned && !entry.is_gone()
    }

    /// Sets or removes (`None`) a client's state.
    pub(super) fn set(&mut self, writer: &Writer, client: u64, clock: u64, state: Option<Value>, now: u64) -> Outcome {
        // Above this limit the client's next clock would not fit the EDU (T112).
        if u32::try_from(clock).is_err() {
            return Outcome::default();
        }
        if self.clients.contains_key(&client) {
            return self.change(writer, client, clock, state, now);
        }
        match state {
            Some(state) => self.introduce(writer, client, clock, state, now),
            None => Outcome::default(),
        }
    }

    fn change(&mut self, writer: &Writer, client: u64, clock: u64, state: Option<Value>, now: u64) -> Outcome {
        let Some(known) = self.clients.get_mut(&client) else {
            return Outcome::default();
        };
        if !known.belongs_to(&writer.user, &writer.device) || clock < known.clock {
            return Outcome::default();
        }
        let Some(state) = state else {
            return Outcome {
                broadcast: self.remove(client, clock, now),
                answer: None,
            };
        };
        if writer.announces {
            known.announced_by(writer.origin);
        }
        if clock == known.clock {
            return Outcome::default();
        }
        known.clock = clock;
        known.renewed = now;
        known.state = with_identity(state, writer).to_string();
        Outcome {
            broadcast: Some(Entry {
                client,
                clock,
                state: known.state.clone(),
            }),
            answer: None,
        }
    }

    fn introduce(&mut self, writer: &Writer, client: u64, clock: u64, state: Value, now: u64) -> Outcome {
        if let Some(before) = self.removed.get(&client) {
            if before.user != writer.user {
                return Outcome::default();
            }
            if clock <= before.clock {
                return Outcome {
                    broadcast: None,
                    answer: Some(removal(client, before.clock)),
                };
            }
        }
        if !self.has_room_for(writer) {
            return Outcome::default();
        }
        let returns = self.removed.remove(&client).is_some();
        let state = with_identity(state, writer).to_string();
        let entry = Entry {
            client,
            clock,
            state: state.clone(),
        };
        let mut known = Client {
            user: writer.user.clone(),
            device: writer.device.clone(),
            sockets: Vec::new(),
            clock,
            state,
            renewed: now,
        };
        known.announced_by(writer.origin);
        self.clients.insert(client, known);
        Outcome {
            broadcast: Some(entry),
            // Other clients may remember it with this clock from before the restart of this server.
            answer: (!returns && clock > 0).then(|| removal(client, clock)),
        }
    }

    fn has_room_for(&self, writer: &Writer) -> bool {
        if self.clients.len() >= MAX_AWARENESS_CLIENTS_PER_ROOM {
            return false;
        }
        let of_user = || self.clients.values().filter(|client| client.user == writer.user);
        let of_device = of_user().filter(|client| client.device == writer.device).count();
        of_user().count() < MAX_AWARENESS_CLIENTS_PER_USER && of_device < MAX_AWARENESS_CLIENTS_PER_DEVICE
    }

    /// A socket has closed: removes the clients that no other socket announced. Returns the entries to send to
    /// others.
    pub(super) fn remove_session(&mut self, session: ConnectionId, now: u64) -> Vec<Entry> {
        self.remove_if(now, |client| {
            let held = client.sockets.contains(&session);
            client.sockets.retain(|socket| *socket != session);
            held && client.sockets.is_empty()
        })
    }

    /// Removes clients that were not renewed in time, and old records of removals.
    pub(super) fn expire(&mut self, now: u64) -> Vec<Entry> {
        self.removed
            .retain(|_, known| now.saturating_sub(known.at) <= AWARENESS_MEMORY_MS);
        self.remove_if(now, |client| now.saturating_sub(client.renewed) > AWARENESS_EXPIRY_MS)
    }

    fn remove_if(&mut self, now: u64, mut condition: impl FnMut(&mut Client) -> bool) -> Vec<Entry> {
        let removed: Vec<_> = self
            .clients
            .iter_mut()
            .filter_map(|(id, client)| condition(client).then_some((*id, client.clock)))
            .collect();
        removed
            .into_iter()
            .filter_map(|(id, clock)| self.remove(id, clock, now))
            .collect()
    }

    fn remove(&mut self, client: u64, clock: u64, now: u64) -> Option<Entry> {
        let known = self.clients.remove(&client)?;
        self.evict_removed(&known.user);
        self.removed.insert(
            client,
            Removed {
                user: known.user,
                device: known.device,
                clock,
                at: now,
            },
        );
        Some(removal(client, clock))
    }

    /// Removed ids have the limits of live ones; the oldest is dropped first.
    fn evict_removed(&mut self, user: &UserId) {
        let of_user = || self.removed.iter().filter(|(_, known)| known.user == user);
        let oldest = if of_user().count() >= MAX_AWARENESS_CLIENTS_PER_USER {
            of_user().min_by_key(|(_, known)| known.at).map(|(id, _)| *id)
        } else if self.removed.len() >= MAX_AWARENESS_CLIENTS_PER_ROOM {
            self.removed.iter().min_by_key(|(_, known)| known.at).map(|(id, _)| *id)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            self.removed.remove(&oldest);
        }
    }
}

fn removal(client: u64, clock: u64) -> Entry {
    Entry {
        client,
        clock,
        state: "null".to_owned(),
    }
}

/// The state with `user.id` and `user.name` set by the server, whatever the client sent.
fn with_identity(mut state: Value, writer: &Writer) -> Value {
    let name = writer
        .display_name
        .as_deref()
        .unwrap_or_else(|| weft_wire::rest::name_of(&writer.user));
    if let Some(fields) = state.as_object_mut() {
        let user = fields.entry("user").or_insert_with(|| json!({}));
        if !user.is_object() {
            *user = json!({});
        }
        if let Some(user) = user.as_object_mut() {
            user.insert("id".to_owned(), json!(writer.user));
            user.insert("name".to_owned(), json!(name));
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};
    use weft_room_api::Incarnation;

    use super::*;

    fn writer(session: u64) -> Writer {
        Writer {
            origin: Origin::Local(ConnectionId::new(Incarnation(1), session)),
            announces: true,
            user: user_id!("@alice:alpha.example").to_owned(),
            device: device_id!("D").to_owned(),
            display_name: Some("Alice".to_owned()),
        }
    }

    fn bob() -> Writer {
        Writer {
            origin: Origin::Remote,
            user: user_id!("@bob:beta.example").to_owned(),
            ..writer(0)
        }
    }

    impl RoomStates {
        fn broadcast(&mut self, writer: &Writer, client: u64, clock: u64, state: Option<Value>) -> Option<Entry> {
            self.set(writer, client, clock, state, 0).broadcast
        }
    }

    #[test]
    fn the_server_sets_the_identity() {
        let mut states = RoomStates::default();
        let claimed = json!({"user": {"name": "Mallory", "id": "@m:x", "color": "#f00"}, "cursor": 1});
        let entry = states.broadcast(&writer(1), 5, 1, Some(claimed)).unwrap();
        let state: Value = serde_json::from_str(&entry.state).unwrap();
        assert_eq!(
            state,
            json!({"user": {"name": "Alice", "id": "@alice:alpha.example", "color": "#f00"}, "cursor": 1})
        );
        for odd in [json!({"user": 3}), json!({})] {
            let entry = states.broadcast(&writer(2), 6, 1, Some(odd));
            if let Some(entry) = entry {
                assert!(entry.state.contains("@alice:alpha.example"));
            }
        }
    }

    #[test]
    fn only_newer_clocks_are_accepted_and_an_equal_one_can_remove() {
        let mut states = RoomStates::default();
        assert!(states.broadcast(&writer(1), 5, 3, Some(json!({}))).is_some());
        assert!(states.broadcast(&writer(1), 5, 3, Some(json!({"x": 1}))).is_none());
        assert!(states.broadcast(&writer(1), 5, 2, Some(json!({"x": 1}))).is_none());
        assert!(states.broadcast(&writer(1), 5, 2, None).is_none());
        assert_eq!(states.broadcast(&writer(1), 5, 3, None), Some(removal(5, 3)));
        assert_eq!(states.entries(), []);
    }

    /// T53, T112: another device's client id can neither be taken over nor removed, nor used while its removal is
    /// remembered.
    #[test]
    fn a_client_belongs_to_the_device_that_introduced_it() {
        let mut states = RoomStates::default();
        let tablet = Writer {
            device: device_id!("TABLET").to_owned(),
            ..writer(2)
        };
        assert!(states.broadcast(&writer(1), 5, 1, Some(json!({}))).is_some());
        for other in [tablet, bob()] {
            assert_eq!(states.set(&other, 5, 99, Some(json!({})), 0), Outcome::default());
            assert_eq!(states.set(&other, 5, 99, None, 0), Outcome::default());
        }
        assert_eq!(states.entries().len(), 1);
        states.remove_session(ConnectionId::new(Incarnation(1), 1), 0);
        assert_eq!(states.set(&bob(), 5, 99, Some(json!({})), 0), Outcome::default());
    }

    /// F3: clocks belong to the client. Other clients accept its return only above the clock of its removal, so it is
    /// sent that removal.
    #[test]
    fn a_removal_has_the_last_clock_and_a_return_needs_a_higher_one() {
        for by_itself in [true, false] {
            let mut states = RoomStates::default();
            states.set(&writer(1), 5, 7, Some(json!({})), 0);
            let removed = if by_itself {
                states.broadcast(&writer(1), 5, 7, None)
            } else {
                states.remove_session(ConnectionId::new(Incarnation(1), 1), 0).pop()
            };
            assert_eq!(removed, Some(removal(5, 7)));
            // The same clock, and another device of the same user after a new sign-in.
            let again = Writer {
                device: device_id!("E").to_owned(),
                ..writer(2)
            };
            for back in [writer(2), again.clone()] {
                let outcome = states.set(&back, 5, 7, Some(json!({})), 300);
                assert_eq!((outcome.broadcast, outcome.answer), (None, Some(removal(5, 7))));
            }
            let outcome = states.set(&again, 5, 8, Some(json!({})), 310);
            assert_eq!(outcome.broadcast.map(|entry| entry.clock), Some(8));
            assert_eq!(outcome.answer, None);
        }
    }

    /// F3: after a restart this server remembers nothing, but other clients do.
    #[test]
    fn an_unknown_client_is_sent_a_removal_to_raise_its_clock() {
        let mut states = RoomStates::default();
        let outcome = states.set(&writer(1), 5, 7, Some(json!({})), 0);
        assert_eq!(outcome.answer, Some(removal(5, 7)));
        assert_eq!(states.set(&writer(1), 5, 8, Some(json!({})), 0).answer, None);
    }

    /// F4: the connection of the first socket is broken, which is not detected yet.
    #[test]
    fn a_newer_socket_of_the_same_device_replaces_the_older() {
        let mut states = RoomStates::default();
        states.set(&writer(1), 5, 3, Some(json!({})), 0);
        // As a stock client reconnects: with the same clock.
        assert_eq!(states.set(&writer(2), 5, 3, Some(json!({})), 0), Outcome::default());
        assert!(states.broadcast(&writer(2), 5, 4, Some(json!({"cursor": 1}))).is_some());
        assert_eq!(
            states.remove_session(ConnectionId::new(Incarnation(1), 1), 0),
            [],
            "the successor is connected"
        );
        assert_eq!(
            states.remove_session(ConnectionId::new(Incarnation(1), 2), 0),
            [removal(5, 4)]
        );
    }

    /// Two tabs of one browser repeat each other's states; closing one does not remove the other.
    #[test]
    fn closing_a_tab_does_not_remove_a_client_that_it_repeated() {
        let mut states = RoomStates::default();
        let repeats = |session| Writer {
            announces: false,
            ..writer(session)
        };
        states.set(&writer(1), 5, 3, Some(json!({})), 0);
        states.set(&writer(2), 6, 1, Some(json!({})), 0);
        states.set(&repeats(2), 5, 3, Some(json!({})), 0);
        assert!(
            states.broadcast(&repeats(2), 5, 4, Some(json!({}))).is_some(),
            "sent by the other tab"
        );
        assert!(states.broadcast(&repeats(1), 5, 5, Some(json!({}))).is_some());
        assert_eq!(
            states.remove_session(ConnectionId::new(Incarnation(1), 2), 0),
            [removal(6, 1)]
        );
        assert_eq!(
            states.remove_session(ConnectionId::new(Incarnation(1), 1), 0),
            [removal(5, 5)]
        );
    }

    #[test]
    fn known_entries_and_entries_of_others_are_not_relevant() {
        let mut states = RoomStates::default();
        states.set(&writer(1), 5, 3, Some(json!({})), 0);
        states.set(&bob(), 6, 3, Some(json!({})), 0);
        states.set(&bob(), 7, 3, Some(json!({})), 0);
        states.set(&bob(), 7, 3, None, 0);
        let relevant = |announces, client, clock, state: &str| {
            let writer = Writer { announces, ..writer(1) };
            let entry = Entry {
                client,
                clock,
                state: state.to_owned(),
            };
            states.is_relevant(&writer, &entry)
        };
        assert!(relevant(false, 5, 4, "{}") && relevant(false, 5, 3, "null") && relevant(true, 5, 3, "{}"));
        assert!(relevant(false, 8, 0, "{}"));
        assert!(!relevant(false, 5, 3, "{}") && !relevant(true, 5, 2, "null"));
        for announces in [true, false] {
            assert!(!relevant(announces, 6, 9, "{}") && !relevant(announces, 7, 9, "{}"));
            assert!(!relevant(announces, 8, 1, "null"));
        }
    }

    /// T112: fake clients, and clocks that would overflow.
    #[test]
    fn numbers_are_bounded() {
        let mut states = RoomStates::default();
        assert!(states.broadcast(&writer(1), 5, 1 << 32, Some(json!({}))).is_none());
        let taken = (0..1_000)
            .filter(|id| states.broadcast(&writer(*id), *id, 1, Some(json!({}))).is_some())
            .count();
        assert_eq!(taken, MAX_AWARENESS_CLIENTS_PER_DEVICE, "one device, many sockets");
        for device in 2..10_000 {
            let writer = Writer {
                device: format!("D{device}").into(),
                ..writer(device)
            };
            states.set(&writer, device * 100_000, 1, Some(json!({})), 0);
        }
        assert_eq!(states.entries().len(), MAX_AWARENESS_CLIENTS_PER_USER);
        for number in 1..10_000_u64 {
            let writer = Writer {
                user: format!("@u{number}:alpha.example").try_into().unwrap(),
                ..writer(number)
            };
            states.set(&writer, number * 100_000 + 1, 1, Some(json!({})), 0);
        }
        assert_eq!(states.entries().len(), MAX_AWARENESS_CLIENTS_PER_ROOM);
    }

    /// T112: the memory of removed clients is bounded too.
    #[test]
    fn removed_clients_are_remembered_within_limits() {
        let mut states = RoomStates::default();
        for id in 0..10_000 {
            states.set(&writer(1), id, 1, Some(json!({})), id);
            states.set(&writer(1), id, 1, None, id);
        }
        assert_eq!(states.removed.len(), MAX_AWARENESS_CLIENTS_PER_USER);
        assert!(states.newest(9_999).is_some());
        states.expire(10_000 + AWARENESS_MEMORY_MS);
        assert!(states.is_empty());
    }

    /// T57, T112: a server can make up devices of its user without getting a higher limit.
    #[test]
    fn t112_one_user_with_made_up_devices_does_not_use_up_the_room_limit() {
        let mut states = RoomStates::default();
        for device in 0..10_000_u64 {
            let mallory = Writer {
                origin: Origin::Remote,
                announces: false,
                user: user_id!("@mallory:evil.example").to_owned(),
                device: format!("D{device}").into(),
                display_name: None,
            };
            states.set(&mallory, device, 1, Some(json!({})), 0);
        }
        assert_eq!(states.entries().len(), MAX_AWARENESS_CLIENTS_PER_USER);
        assert!(states.broadcast(&writer(1), 1 << 40, 1, Some(json!({}))).is_some());
    }

    #[test]
    fn expired_and_disconnected_clients_are_removed() {
        let mut states = RoomStates::default();
        states.set(&writer(1), 5, 1, Some(json!({})), 0);
        states.set(&bob(), 6, 1, Some(json!({})), 10_000);
        assert_eq!(states.expire(AWARENESS_EXPIRY_MS), []);
        assert_eq!(states.expire(AWARENESS_EXPIRY_MS + 1), [removal(5, 1)]);
        assert_eq!(states.remove_session(ConnectionId::new(Incarnation(1), 1), 0), []);
        states.set(&writer(1), 7, 4, Some(json!({})), 0);
        assert_eq!(
            states.remove_session(ConnectionId::new(Incarnation(1), 1), 0),
            [removal(7, 4)]
        );
        assert_eq!(states.entries().len(), 1);
    }
}
