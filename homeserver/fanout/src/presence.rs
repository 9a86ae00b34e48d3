//! Presence (client-server API, "Presence"): who says that he is there, of this server and of others, and who hears of it.
//!
//! In memory: after a restart everybody is away until he says otherwise. It wakes nobody: it comes along with the next
//! answer of `/sync`. Must not be taken for cursors in documents, which are awareness.

mod states;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{DeviceId, OwnedServerName, OwnedUserId, ServerName, UserId, presence::PresenceState};
use serde_json::{Map, Value, json};
use weft_room::Clock;
use weft_wire::{
    limits::MAX_PRESENCE_PER_ANSWER,
    presence::{PresenceEntry, short_enough},
};

use self::states::States;
pub use self::states::UserPresence;
use crate::{EduSink, MembershipView};

/// Who asked for nothing for so long, beyond the time that his last question may take, has gone.
const GONE_AFTER_MS: u64 = 30_000;
/// How long what another server says counts; it says it again before.
const REMOTE_LIFETIME_MS: u64 = 30 * 60 * 1_000;
/// How often other servers are told again of those who are still there.
const TELL_AGAIN_AFTER_MS: u64 = 25 * 60 * 1_000;

/// Why what another server says of a user is ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} is not a user of {origin}")]
pub struct ForeignUser {
    /// Whom it is about.
    pub user: OwnedUserId,
    /// Who sent it.
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
    /// With nobody there. Changes are numbered by the time of the start, so that numbers of an earlier run are lower.
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

    /// A user of this server says how he is. Words that are not [`short_enough`] are left out.
    pub async fn set(&self, user: &UserId, presence: PresenceState, status: Option<String>) {
        let now = self.now();
        let seen = UserPresence {
            last_active: Some(now),
            presence,
            status: short_enough(status),
        };
        if self.states().set(user, seen, now.saturating_add(GONE_AFTER_MS)) {
            self.tell(user).await;
        }
    }

    /// A device of a user of this server syncs and waits so many milliseconds, which shows that the user is there: online,
    /// or unavailable where that is what all the user's devices ask for (`set_presence`). Offline shows nothing.
    pub async fn record_activity(&self, user: &UserId, device: &DeviceId, presence: PresenceState, timeout_ms: u64) {
        if presence == PresenceState::Offline {
            return;
        }
        let now = self.now();
        let until = now.saturating_add(timeout_ms).saturating_add(GONE_AFTER_MS);
        let changed = self.states().syncs(user, device, presence, now, until);
        if changed {
            self.tell(user).await;
        }
    }

    /// Another server says how one of its users is (`m.presence`).
    ///
    /// # Errors
    /// When it speaks for somebody else's user (T52).
    pub fn edu(&self, origin: &ServerName, entry: PresenceEntry) -> Result<(), ForeignUser> {
        let user = entry.user_id;
        if user.server_name() != origin || origin == self.inner.us {
            return Err(ForeignUser {
                user,
                origin: origin.to_owned(),
            });
        }
        let now = self.now();
        let seen = UserPresence {
            presence: entry.presence,
            status: entry.status_msg,
            last_active: entry.last_active_ago.map(|ago| now.saturating_sub(ago)),
        };
        self.states().set(&user, seen, now.saturating_add(REMOTE_LIFETIME_MS));
        Ok(())
    }

    /// How a user is, as `viewer` may know it: of himself, and of those with whom he shares a room. None: he may not.
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

    /// What is new to a viewer after a number, at most [`MAX_PRESENCE_PER_ANSWER`] changes looked at, and the number up to
    /// which that is all. None: at first, when only those who are there are told of.
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
        let companions: BTreeSet<OwnedUserId> = self.inner.membership_view.companions(viewer, &users).await;
        let states = self.states();
        let seen = users
            .into_iter()
            .filter(|user| user == viewer || companions.contains(user))
            .map(|user| (user.clone(), states.of(&user)))
            .filter(|(_, seen)| after.is_some() || seen.presence != PresenceState::Offline)
            .collect();
        (seen, last)
    }

    /// The presence of users who are known to share a room with whoever asks; without those who are offline.
    #[must_use]
    pub fn present(&self, users: &BTreeSet<OwnedUserId>) -> Vec<(OwnedUserId, UserPresence)> {
        let states = self.states();
        let seen = users.iter().map(|user| (user.clone(), states.of(user)));
        seen.filter(|(_, seen)| seen.presence != PresenceState::Offline)
            .collect()
    }

    /// Ends what is over, and tells other servers again of those who are still there. To be called about once a second.
    pub async fn expire(&self) {
        let now = self.now();
        let mut tell = self.states().expire(now);
        tell.retain(|user| user.server_name() == self.inner.us);
        tell.extend(self.states().untold(now.saturating_sub(TELL_AGAIN_AFTER_MS)));
        for user in tell {
            self.tell(&user).await;
        }
    }

    /// What is known of a user as the specification writes it.
    #[must_use]
    pub fn content(&self, seen: &UserPresence) -> Map<String, Value> {
        let mut content = Map::new();
        content.insert("presence".to_owned(), json!(seen.presence));
        let online = seen.presence == PresenceState::Online;
        content.insert("currently_active".to_owned(), json!(online));
        if let Some(at) = seen.last_active {
            content.insert("last_active_ago".to_owned(), json!(self.now().saturating_sub(at)));
        }
        if let Some(status) = &seen.status {
            content.insert("status_msg".to_owned(), json!(status));
        }
        content
    }

    /// Tells the servers that share a room with a user of this one.
    async fn tell(&self, user: &UserId) {
        let Inner {
            membership_view, edus, ..
        } = &*self.inner;
        let seen = {
            let mut states = self.states();
            states.note_told(user, self.now());
            states.of(user)
        };
        let mut entry = self.content(&seen);
        entry.insert("user_id".to_owned(), json!(user));
        let content = json!({ "push": [entry] });
        let mut told = BTreeSet::new();
        for room in membership_view.rooms_of(user).await {
            let mut servers = membership_view.remote_servers(&room).await;
            servers.retain(|server| told.insert(server.clone()));
            if !servers.is_empty() {
                let key = format!("presence\0{user}");
                edus.send(&room, &servers, "m.presence", content.clone(), Some(key));
            }
        }
    }

    fn states(&self) -> MutexGuard<'_, States> {
        // Presence may be lost; a half-finished change is corrected by the next.
        self.inner.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.inner.clock.now().get().into()
    }
}
