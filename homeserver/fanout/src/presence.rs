//! Presence (client-server API, "Presence") of local and remote users, and its delivery.
//!
//! In memory: after a restart every user is offline until they set a presence or sync. A change doesn't wake `/sync`
//! requests; it is part of their next response. Must not be used for cursors in documents, which are awareness.

mod states;

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use ruma::{DeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, presence::PresenceState};
use serde_json::{Map, Value, json};
use weft_room_api::Clock;
use weft_wire::{
    limits::MAX_PRESENCE_PER_ANSWER,
    presence::{PresenceEntry, short_enough},
};

use self::states::States;
pub use self::states::UserPresence;
use crate::{EduSink, MembershipView};

/// A user is offline if there was no `/sync` request for this time after the timeout of the last one.
const OFFLINE_AFTER_MS: u64 = 30_000;
/// How long the presence from another server is valid; that server renews it before.
const REMOTE_LIFETIME_MS: u64 = 30 * 60 * 1_000;
/// How often the presence of users who are still online is sent to other servers again.
const RENEW_AFTER_MS: u64 = 25 * 60 * 1_000;

/// Rooms whose servers are read at a time.
const ROOMS_AT_ONCE: usize = 64;

/// Why the presence of a user from another server is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} is not a user of {origin}")]
pub struct ForeignUser {
    /// The user of the EDU.
    pub user: OwnedUserId,
    /// The server that sent it.
    pub origin: OwnedServerName,
}

/// Presence of all users. Cheap to clone.
#[derive(Clone)]
pub struct Presence {
    inner: Arc<Inner>,
}

struct Inner {
    states: Mutex<States>,
    us: OwnedServerName,
    membership_view: Arc<dyn MembershipView>,
    edus: Arc<dyn EduSink>,
    clock: Arc<dyn Clock>,
}

impl Presence {
    /// A new instance with all users offline. Serials start at the time of the start, so that those of an earlier run
    /// are lower.
    #[must_use]
    pub fn new(
        us: OwnedServerName,
        membership_view: Arc<dyn MembershipView>,
        edus: Arc<dyn EduSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                states: Mutex::new(States::new(us.clone(), clock.now().get().into())),
                us,
                membership_view,
                edus,
                clock,
            }),
        }
    }

    /// Sets the presence of a user of this server. A status that is not [`short_enough`] is left out.
    pub async fn set(&self, user: &UserId, presence: PresenceState, status: Option<String>) {
        let now = self.now();
        let state = UserPresence {
            last_active: Some(now),
            presence,
            status: short_enough(status),
        };
        if self.states().set(user, state, now.saturating_add(OFFLINE_AFTER_MS)) {
            self.send_edu(user).await;
        }
    }

    /// A device of a user of this server syncs with this timeout in milliseconds, which shows that the user is
    /// active: online, or unavailable if all devices of the user sync with `set_presence=unavailable`. With `offline`
    /// it has no effect.
    pub async fn record_activity(&self, user: &UserId, device: &DeviceId, presence: PresenceState, timeout_ms: u64) {
        if presence == PresenceState::Offline {
            return;
        }
        let now = self.now();
        let until = now.saturating_add(timeout_ms).saturating_add(OFFLINE_AFTER_MS);
        let changed = self.states().syncs(user, device, presence, now, until);
        if changed {
            self.send_edu(user).await;
        }
    }

    /// Applies a presence EDU of another server (`m.presence`).
    ///
    /// # Errors
    /// When the user belongs to another server (T52).
    pub fn edu(&self, origin: &ServerName, entry: PresenceEntry) -> Result<(), ForeignUser> {
        let user = entry.user_id;
        if user.server_name() != origin || origin == self.inner.us {
            return Err(ForeignUser {
                user,
                origin: origin.to_owned(),
            });
        }
        let now = self.now();
        let state = UserPresence {
            presence: entry.presence,
            status: entry.status_msg,
            last_active: entry.last_active_ago.map(|ago| now.saturating_sub(ago)),
        };
        self.states().set(&user, state, now.saturating_add(REMOTE_LIFETIME_MS));
        Ok(())
    }

    /// The user's presence as `viewer` may see it: their own, and that of users who share a room with them. `None` if
    /// they share no room.
    pub async fn get(&self, viewer: &UserId, user: &UserId) -> Option<UserPresence> {
        let may = viewer == user
            || !self
                .inner
                .membership_view
                .companions(viewer, &[user.to_owned()])
                .await
                .is_empty();
        may.then(|| self.states().of(user))
    }

    /// The changes that are new to a viewer after a serial, of at most [`MAX_PRESENCE_PER_ANSWER`] examined changes,
    /// and the serial up to which the result is complete. `None`: an initial sync, which gets only users who are not
    /// offline.
    pub async fn changes_since(&self, viewer: &UserId, after: Option<u64>) -> (Vec<(OwnedUserId, UserPresence)>, u64) {
        let (changes, last) = {
            let states = self.states();
            let changes = states.after(after.unwrap_or(0), MAX_PRESENCE_PER_ANSWER);
            let all = changes.len() < MAX_PRESENCE_PER_ANSWER;
            let last = changes.last().map(|(serial, _)| *serial).filter(|_| !all);
            (changes, last.unwrap_or_else(|| states.serial()))
        };
        let users: Vec<OwnedUserId> = changes.into_iter().map(|(_, user)| user).collect();
        if users.is_empty() {
            return (Vec::new(), last);
        }
        // Viewers see their own presence without reading the members of their rooms.
        let others: Vec<OwnedUserId> = users.iter().filter(|user| *user != viewer).cloned().collect();
        let companions = match others.is_empty() {
            true => BTreeSet::new(),
            false => self.inner.membership_view.companions(viewer, &others).await,
        };
        let states = self.states();
        let presences = users
            .into_iter()
            .filter(|user| user == viewer || companions.contains(user))
            .map(|user| (user.clone(), states.of(&user)))
            .filter(|(_, state)| after.is_some() || state.presence != PresenceState::Offline)
            .collect();
        (presences, last)
    }

    /// The presence of users who are known to share a room with the requester, without those who are offline.
    #[must_use]
    pub fn present(&self, users: &BTreeSet<OwnedUserId>) -> Vec<(OwnedUserId, UserPresence)> {
        let states = self.states();
        let presences = users.iter().map(|user| (user.clone(), states.of(user)));
        presences
            .filter(|(_, state)| state.presence != PresenceState::Offline)
            .collect()
    }

    /// Expires presence and sends the presence of users who are still online to other servers again. Must be called
    /// about once a second.
    pub async fn expire(&self) {
        let now = self.now();
        let mut users = self.states().expire(now);
        users.retain(|user| user.server_name() == self.inner.us);
        users.extend(self.states().due_for_renewal(now.saturating_sub(RENEW_AFTER_MS)));
        for user in users {
            self.send_edu(&user).await;
        }
    }

    /// The presence of a user as content in the form of the specification.
    #[must_use]
    pub fn content(&self, state: &UserPresence) -> Map<String, Value> {
        let mut content = Map::new();
        content.insert("presence".to_owned(), json!(state.presence));
        let online = state.presence == PresenceState::Online;
        content.insert("currently_active".to_owned(), json!(online));
        if let Some(at) = state.last_active {
            content.insert("last_active_ago".to_owned(), json!(self.now().saturating_sub(at)));
        }
        if let Some(status) = &state.status {
            content.insert("status_msg".to_owned(), json!(status));
        }
        content
    }

    /// Sends the presence of a user of this server to the servers that share a room with them.
    async fn send_edu(&self, user: &UserId) {
        let Inner {
            membership_view, edus, ..
        } = &*self.inner;
        let state = {
            let mut states = self.states();
            states.note_sent(user, self.now());
            states.of(user)
        };
        let mut entry = self.content(&state);
        entry.insert("user_id".to_owned(), json!(user));
        let content = json!({ "push": [entry] });
        let mut reached = BTreeSet::new();
        let rooms = membership_view.rooms_of(user).await;
        let mut servers = Vec::with_capacity(rooms.len());
        for some in rooms.chunks(ROOMS_AT_ONCE) {
            let reads: Vec<_> = some.iter().map(|room| membership_view.remote_servers(room)).collect();
            servers.extend(join_all(reads).await);
        }
        for (room, mut servers) in rooms.into_iter().zip(servers) {
            servers.retain(|server| reached.insert(server.clone()));
            if !servers.is_empty() {
                let key = format!("presence\0{user}");
                edus.send(&room, &servers, "m.presence", content.clone(), Some(key));
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, States> {
        // Presence may be lost; a half-finished change is corrected by the next one.
        self.inner.states.lock()
    }

    fn now(&self) -> u64 {
        self.inner.clock.now().get().into()
    }
}
