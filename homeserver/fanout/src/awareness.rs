//! Awareness (`spec/docs/awareness.md`): which users are active in which document, with their cursors; never stored.
//!
//! Entries of local sockets are sent to the sockets of the room and, as EDUs, to the other servers; entries of other
//! servers are received as EDUs. The user identity in a state is written here, so that no client can impersonate
//! another user.

mod room_states;

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};
use weft_room_api::{Clock, ConnectionId};
use weft_wire::{
    awareness::{AwarenessEdu, AwarenessError, check_client_id, check_state},
    event_types::AWARENESS_EDU,
    live::awareness::Entry,
};

use self::room_states::{Origin, RoomStates, Writer};
use crate::{EduSink, Fanout, MembershipView};

/// A socket that has joined a document.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The document.
    pub room: OwnedRoomId,
    /// The socket.
    pub session: ConnectionId,
    /// The user.
    pub user: OwnedUserId,
    /// The device.
    pub device: OwnedDeviceId,
    /// The display name in this document.
    pub display_name: Option<String>,
}

impl Joined {
    fn writer(&self, announces: bool) -> Writer {
        Writer {
            origin: Origin::Local(self.session),
            announces,
            user: self.user.clone(),
            device: self.device.clone(),
            display_name: self.display_name.clone(),
        }
    }
}

/// Why an EDU of another server is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EduRefused {
    /// Its user belongs to another server than the one that sent it.
    #[error("{user} is not a user of {origin}")]
    ForeignUser {
        /// The user of the EDU.
        user: OwnedUserId,
        /// The server that sent it.
        origin: String,
    },
    /// The user is not joined.
    #[error("{0} is not in the room")]
    NotJoined(OwnedUserId),
    /// Too large or malformed.
    #[error(transparent)]
    Malformed(#[from] AwarenessError),
    /// The client id belongs to another device, the clock is old, or the limit of clients is reached.
    #[error("the state of client {0} is not accepted")]
    Ignored(u64),
}

/// Awareness of all documents. Cheap to clone.
#[derive(Clone)]
pub struct Awareness {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Mutex<HashMap<OwnedRoomId, RoomStates>>,
    fanout: Fanout,
    membership_view: Arc<dyn MembershipView>,
    edus: Arc<dyn EduSink>,
    clock: Arc<dyn Clock>,
}

impl Awareness {
    /// A new instance without any states.
    #[must_use]
    pub fn new(
        fanout: Fanout,
        membership_view: Arc<dyn MembershipView>,
        edus: Arc<dyn EduSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                rooms: Mutex::default(),
                fanout,
                membership_view,
                edus,
                clock,
            }),
        }
    }

    /// The states of all active clients of a document.
    #[must_use]
    pub fn states(&self, room: &RoomId) -> Vec<Entry> {
        self.rooms().get(room).map(RoomStates::entries).unwrap_or_default()
    }

    /// Returns those entries of a socket's message that could change anything: its own that are new. Stock clients
    /// repeat the states of other clients. `announces`: the entries are from the socket's first message, which has
    /// its own ids.
    #[must_use]
    pub fn relevant(&self, joined: &Joined, mut entries: Vec<Entry>, announces: bool) -> Vec<Entry> {
        let writer = joined.writer(announces);
        let rooms = self.rooms();
        if let Some(states) = rooms.get(&joined.room) {
            entries.retain(|entry| states.is_relevant(&writer, entry));
        } else {
            entries.retain(|entry| !entry.is_gone());
        }
        entries
    }

    /// Applies the entries that a socket sent. Entries that it may not set are left out without an error: stock
    /// clients repeat the entries of others. `announces` as with [`Awareness::relevant`].
    ///
    /// Returns removals to send to the socket: its client then raises its clock, so that other clients show it
    /// (again).
    pub async fn local(&self, joined: &Joined, entries: Vec<Entry>, announces: bool) -> Vec<Entry> {
        let now = self.now();
        let writer = joined.writer(announces);
        let (mut broadcast, mut answers) = (Vec::new(), Vec::new());
        {
            let mut rooms = self.rooms();
            let states = rooms.entry(joined.room.clone()).or_default();
            for entry in entries {
                let Some(state) = acceptable_state(&entry) else {
                    continue;
                };
                let outcome = states.set(&writer, entry.client, entry.clock, state, now);
                broadcast.extend(outcome.broadcast);
                answers.extend(outcome.answer);
            }
        }
        self.publish(&joined.room, &broadcast);
        self.send_edus(&joined.room, &broadcast).await;
        answers
    }

    /// A socket has closed: removes its entries for all clients.
    pub async fn leave(&self, joined: &Joined) {
        let now = self.now();
        let removals = self
            .rooms()
            .get_mut(&joined.room)
            .map(|states| states.remove_session(joined.session, now))
            .unwrap_or_default();
        self.publish(&joined.room, &removals);
        self.send_edus(&joined.room, &removals).await;
    }

    /// Applies an EDU of another server.
    ///
    /// # Errors
    /// When its user belongs to another server or is not joined, or the EDU is malformed. The sending server gets no
    /// error.
    pub async fn remote(&self, origin: &ServerName, edu: AwarenessEdu) -> Result<(), EduRefused> {
        if edu.user_id.server_name() != origin {
            return Err(EduRefused::ForeignUser {
                user: edu.user_id,
                origin: origin.to_string(),
            });
        }
        edu.check()?;
        let Some(member) = self.inner.membership_view.member(&edu.room_id, &edu.user_id).await else {
            return Err(EduRefused::NotJoined(edu.user_id));
        };
        let writer = Writer {
            origin: Origin::Remote,
            announces: false,
            user: edu.user_id,
            device: edu.device_id,
            display_name: member.display_name,
        };
        let (now, client, clock) = (self.now(), edu.client_id, u64::from(edu.clock));
        let live = edu.state.is_some();
        let changed = {
            let mut rooms = self.rooms();
            let states = rooms.entry(edu.room_id.clone()).or_default();
            states
                .set(&writer, client, clock, edu.state, now)
                .broadcast
                .ok_or(EduRefused::Ignored(client))?
        };
        self.publish(&edu.room_id, &[changed]);
        if live {
            self.inner.membership_view.remote_presence(&edu.room_id);
        }
        Ok(())
    }

    /// Removes entries that were not renewed. Must be called about once a second.
    pub fn expire(&self) {
        let now = self.now();
        let expired: Vec<_> = {
            let mut rooms = self.rooms();
            let expired = rooms
                .iter_mut()
                .map(|(room, states)| (room.clone(), states.expire(now)))
                .collect();
            rooms.retain(|_, states| !states.is_empty());
            expired
        };
        for (room, entries) in expired {
            self.publish(&room, &entries);
        }
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<OwnedRoomId, RoomStates>> {
        // Awareness may be lost: a half-finished change is corrected by the next renewal.
        self.inner.rooms.lock()
    }

    fn now(&self) -> u64 {
        self.inner.clock.now().get().into()
    }

    fn publish(&self, room: &RoomId, entries: &[Entry]) {
        if !entries.is_empty() {
            self.inner.fanout.awareness(room, entries);
        }
    }

    async fn send_edus(&self, room: &RoomId, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        let servers = self.inner.membership_view.remote_servers(room).await;
        if servers.is_empty() {
            return;
        }
        // An EDU replaces a queued one with the same key. It is queued under the lock and with the newest state,
        // whatever state caused the call: of two concurrent calls for one client the later one can't queue the older
        // state.
        let rooms = self.rooms();
        let Some(states) = rooms.get(room) else { return };
        for entry in entries {
            let Some((user, device, newest)) = states.newest(entry.client) else {
                continue;
            };
            let Some(content) = edu_content(room, user, device, &newest) else {
                continue;
            };
            let key = format!("{room}\0{user}\0{}", entry.client);
            self.inner.edus.send(room, &servers, AWARENESS_EDU, content, Some(key));
        }
    }
}

/// The state of an entry as JSON; the outer `None` means that the entry is not acceptable.
fn acceptable_state(entry: &Entry) -> Option<Option<serde_json::Value>> {
    check_client_id(entry.client).ok()?;
    if entry.is_gone() {
        return Some(None);
    }
    let state: serde_json::Value = serde_json::from_str(&entry.state).ok()?;
    check_state(&state).ok()?;
    Some(Some(state))
}

fn edu_content(room: &RoomId, user: &UserId, device: &DeviceId, entry: &Entry) -> Option<serde_json::Value> {
    let state = if entry.is_gone() {
        None
    } else {
        Some(serde_json::from_str(&entry.state).ok()?)
    };
    serde_json::to_value(AwarenessEdu {
        room_id: room.to_owned(),
        user_id: user.to_owned(),
        device_id: device.to_owned(),
        client_id: entry.client,
        clock: u32::try_from(entry.clock).ok()?,
        state,
    })
    .ok()
}
