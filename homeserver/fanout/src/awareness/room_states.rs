//! One document's awareness: the newest state of each client id, and who introduced it. Pure; time is an argument.

use std::collections::BTreeMap;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::{Value, json};
use weft_room::SessionId;
use weft_wire::{
    limits::{
        AWARENESS_EXPIRY_MS, MAX_AWARENESS_CLIENTS_PER_ROOM, MAX_AWARENESS_CLIENTS_PER_SOCKET,
        MAX_AWARENESS_CLIENTS_PER_USER,
    },
    live::awareness::Entry,
};

/// By which way a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A socket of this server.
    Local(SessionId),
    /// An EDU.
    Remote,
}

/// Who says something about a client.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) origin: Origin,
    pub(super) user: OwnedUserId,
    pub(super) device: OwnedDeviceId,
    pub(super) display_name: Option<String>,
}

#[derive(Debug)]
struct Client {
    origin: Origin,
    user: OwnedUserId,
    device: OwnedDeviceId,
    clock: u64,
    /// JSON text with the identity written in.
    state: String,
    /// Milliseconds since 1970.
    renewed: u64,
}

impl Client {
    /// Whether the writer is the one that introduced it.
    fn belongs_to(&self, writer: &Writer) -> bool {
        self.origin == writer.origin && self.user == writer.user && self.device == writer.device
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RoomStates {
    clients: BTreeMap<u64, Client>,
}

impl RoomStates {
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
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

    /// Sets or removes (`None`) a client's state; gives what others are to be told, or nothing where it is not taken.
    pub(super) fn set(
        &mut self,
        writer: &Writer,
        client: u64,
        clock: u64,
        state: Option<Value>,
        now: u64,
    ) -> Option<Entry> {
        // Above this the client's own next clock would not fit the EDU (T112).
        let clock = u64::from(u32::try_from(clock).ok()?);
        match self.clients.get(&client) {
            Some(known) if !known.belongs_to(writer) => return None,
            Some(known) if clock < known.clock || (clock == known.clock && state.is_some()) => return None,
            Some(_) => {}
            None if state.is_none() || !self.has_room_for(writer) => return None,
            None => {}
        }
        let Some(state) = state else {
            self.clients.remove(&client);
            return Some(gone(client, clock));
        };
        let state = with_identity(state, writer).to_string();
        let entry = Entry {
            client,
            clock,
            state: state.clone(),
        };
        let Writer {
            origin, user, device, ..
        } = writer.clone();
        self.clients.insert(
            client,
            Client {
                origin,
                user,
                device,
                clock,
                state,
                renewed: now,
            },
        );
        Some(entry)
    }

    fn has_room_for(&self, writer: &Writer) -> bool {
        if self.clients.len() >= MAX_AWARENESS_CLIENTS_PER_ROOM {
            return false;
        }
        let users = || self.clients.values().filter(|client| client.user == writer.user);
        let sockets = users().filter(|client| client.belongs_to(writer));
        users().count() < MAX_AWARENESS_CLIENTS_PER_USER && sockets.count() < MAX_AWARENESS_CLIENTS_PER_SOCKET
    }

    /// Removes what a socket introduced; gives what others are to be told.
    pub(super) fn remove_session(&mut self, session: SessionId) -> Vec<Entry> {
        self.remove_if(|client| client.origin == Origin::Local(session))
    }

    /// Removes what was not renewed in time.
    pub(super) fn expire(&mut self, now: u64) -> Vec<Entry> {
        self.remove_if(|client| now.saturating_sub(client.renewed) > AWARENESS_EXPIRY_MS)
    }

    fn remove_if(&mut self, condition: impl Fn(&Client) -> bool) -> Vec<Entry> {
        let removed: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| condition(client))
            .map(|(id, client)| gone(*id, client.clock.saturating_add(1)))
            .collect();
        for entry in &removed {
            self.clients.remove(&entry.client);
        }
        removed
    }
}

fn gone(client: u64, clock: u64) -> Entry {
    Entry {
        client,
        clock,
        state: "null".to_owned(),
    }
}

/// The state with `user.id` and `user.name` as the server knows them, whatever the client said.
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

    use super::*;

    fn writer(session: u64) -> Writer {
        Writer {
            origin: Origin::Local(SessionId(session)),
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

    #[test]
    fn the_identity_is_the_servers() {
        let mut states = RoomStates::default();
        let claimed = json!({"user": {"name": "Mallory", "id": "@m:x", "color": "#f00"}, "cursor": 1});
        let entry = states.set(&writer(1), 5, 1, Some(claimed), 0).unwrap();
        let state: Value = serde_json::from_str(&entry.state).unwrap();
        assert_eq!(
            state,
            json!({"user": {"name": "Alice", "id": "@alice:alpha.example", "color": "#f00"}, "cursor": 1})
        );
        for odd in [json!({"user": 3}), json!({})] {
            let entry = states.set(&writer(2), 6, 1, Some(odd), 0);
            if let Some(entry) = entry {
                assert!(entry.state.contains("@alice:alpha.example"));
            }
        }
    }

    #[test]
    fn only_newer_clocks_count_and_the_same_clock_removes() {
        let mut states = RoomStates::default();
        assert!(states.set(&writer(1), 5, 3, Some(json!({})), 0).is_some());
        assert!(states.set(&writer(1), 5, 3, Some(json!({"x": 1})), 0).is_none());
        assert!(states.set(&writer(1), 5, 2, Some(json!({"x": 1})), 0).is_none());
        assert!(states.set(&writer(1), 5, 2, None, 0).is_none());
        assert_eq!(states.set(&writer(1), 5, 3, None, 0), Some(gone(5, 3)));
        assert!(states.is_empty());
    }

    /// T53, T112: another's client id is neither taken over nor removed, whoever asks.
    #[test]
    fn a_client_belongs_to_the_socket_that_introduced_it() {
        let mut states = RoomStates::default();
        assert!(states.set(&writer(1), 5, 1, Some(json!({})), 0).is_some());
        for other in [writer(2), bob()] {
            assert!(states.set(&other, 5, 99, Some(json!({})), 0).is_none());
            assert!(states.set(&other, 5, 99, None, 0).is_none());
        }
        assert_eq!(states.entries().len(), 1);
    }

    /// T112: fake clients and clocks that would wrap.
    #[test]
    fn numbers_are_bounded() {
        let mut states = RoomStates::default();
        assert!(states.set(&writer(1), 5, 1 << 32, Some(json!({})), 0).is_none());
        let taken = (0..1_000)
            .filter(|id| states.set(&writer(1), *id, 1, Some(json!({})), 0).is_some())
            .count();
        assert_eq!(taken, MAX_AWARENESS_CLIENTS_PER_SOCKET);
        for session in 2..10_000 {
            states.set(&writer(session), session * 100_000, 1, Some(json!({})), 0);
        }
        assert_eq!(
            states.entries().len(),
            MAX_AWARENESS_CLIENTS_PER_USER,
            "one user, many sockets"
        );
        for number in 1..10_000_u64 {
            let writer = Writer {
                user: format!("@u{number}:alpha.example").try_into().unwrap(),
                ..writer(number)
            };
            states.set(&writer, number * 100_000 + 1, 1, Some(json!({})), 0);
        }
        assert_eq!(states.entries().len(), MAX_AWARENESS_CLIENTS_PER_ROOM);
    }

    /// T57, T112: a server makes up devices of its user as it likes, and takes no more places for it.
    #[test]
    fn t112_one_user_with_made_up_devices_leaves_room_for_others() {
        let mut states = RoomStates::default();
        for device in 0..10_000_u64 {
            let mallory = Writer {
                origin: Origin::Remote,
                user: user_id!("@mallory:liar.example").to_owned(),
                device: format!("D{device}").into(),
                display_name: None,
            };
            states.set(&mallory, device, 1, Some(json!({})), 0);
        }
        assert_eq!(states.entries().len(), MAX_AWARENESS_CLIENTS_PER_USER);
        assert!(states.set(&writer(1), 1 << 40, 1, Some(json!({})), 0).is_some());
    }

    #[test]
    fn who_is_silent_or_has_gone_is_removed() {
        let mut states = RoomStates::default();
        states.set(&writer(1), 5, 1, Some(json!({})), 0);
        states.set(&bob(), 6, 1, Some(json!({})), 10_000);
        assert_eq!(states.expire(AWARENESS_EXPIRY_MS), []);
        assert_eq!(states.expire(AWARENESS_EXPIRY_MS + 1), [gone(5, 2)]);
        assert_eq!(states.remove_session(SessionId(1)), []);
        states.set(&writer(1), 7, 4, Some(json!({})), 0);
        assert_eq!(states.remove_session(SessionId(1)), [gone(7, 5)]);
        assert_eq!(states.entries().len(), 1);
    }
}
