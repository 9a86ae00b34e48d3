//! The webhooks of this server in memory: what wakes the task of each, and how many there are. Must not write rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedUserId};
use tokio::{sync::Notify, task::AbortHandle};
use weft_store::VisiblePositions;
use weft_wire::limits::{MAX_WEBHOOKS, MAX_WEBHOOKS_PER_OWNER, MAX_WEBHOOKS_PER_USER, WEBHOOK_POSITION_STEP};

use crate::{
    WebhookError,
    owner::{Key, Owner},
};

/// What the task of a webhook shares with others.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// There may be something to do.
    pub(crate) wake: Notify,
    /// How far an idle webhook of a user has nothing to deliver.
    idle: Mutex<Option<Idle>>,
}

#[derive(Debug, Clone)]
struct Idle {
    /// What the task has read.
    from: VisiblePositions,
    /// What it need not read.
    through: VisiblePositions,
}

impl Signal {
    /// Everything up to these positions is read, and nothing is left to deliver.
    pub(crate) fn rest(&self, at: &VisiblePositions) {
        *self.idle.lock() = Some(Idle {
            from: at.clone(),
            through: at.clone(),
        });
    }

    /// Up to where nothing is to be delivered, if it rested.
    pub(crate) fn rise(&self) -> Option<VisiblePositions> {
        self.idle.lock().take().map(|idle| idle.through)
    }

    /// Nothing that became visible from `from` to `to` is for the webhook. It is woken if it has not read up to `from`, and
    /// now and then, so that its position is written.
    fn pass(&self, from: &VisiblePositions, to: &VisiblePositions) {
        let mut idle = self.idle.lock();
        let Some(idle) = idle.as_mut() else { return };
        if !from.since(&idle.through).iter().all(|(_, has, needs)| has >= needs) {
            self.wake.notify_one();
            return;
        }
        idle.through = to.clone();
        let passed = to.since(&idle.from);
        if passed
            .iter()
            .any(|(_, from, to)| to.saturating_sub(*from) >= WEBHOOK_POSITION_STEP)
        {
            self.wake.notify_one();
        }
    }
}

struct Entry {
    creator: OwnedUserId,
    signal: Arc<Signal>,
    task: Option<AbortHandle>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Registry {
    entries: BTreeMap<Key, Entry>,
}

impl Registry {
    /// # Errors
    /// When there are as many webhooks as there may be.
    pub(crate) fn check_room(&self, owner: &Owner, creator: &OwnedUserId) -> Result<(), WebhookError> {
        let too_many = |whose, limit| Err(WebhookError::TooMany { whose, limit });
        if self.of_owner(owner).count() >= MAX_WEBHOOKS_PER_OWNER {
            let whose = match owner {
                Owner::Document(_) => "a document",
                Owner::User(_) => "a user",
            };
            return too_many(whose, MAX_WEBHOOKS_PER_OWNER);
        }
        let own = self.entries.values().filter(|entry| entry.creator == *creator);
        if own.count() >= MAX_WEBHOOKS_PER_USER {
            return too_many("a user, with those of documents,", MAX_WEBHOOKS_PER_USER);
        }
        if self.entries.len() >= MAX_WEBHOOKS {
            return too_many("this server", MAX_WEBHOOKS);
        }
        Ok(())
    }

    /// Adds a webhook; `start` begins its task.
    pub(crate) fn add(&mut self, key: Key, creator: OwnedUserId, start: impl FnOnce(Key, Arc<Signal>) -> AbortHandle) {
        if self.entries.contains_key(&key) {
            return;
        }
        let signal = Arc::new(Signal::default());
        let task = start(key.clone(), Arc::clone(&signal));
        let task = Some(task);
        self.entries.insert(key, Entry { creator, signal, task });
    }

    /// Ends the task of a webhook.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(task) = self.entries.remove(key).and_then(|entry| entry.task) {
            task.abort();
        }
    }

    /// Ends all tasks.
    pub(crate) fn clear(&mut self) {
        for task in std::mem::take(&mut self.entries)
            .into_values()
            .filter_map(|entry| entry.task)
        {
            task.abort();
        }
    }

    /// A webhook was changed.
    pub(crate) fn changed(&mut self, key: &Key, creator: &OwnedUserId) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.creator.clone_from(creator);
            entry.signal.wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        for entry in self.entries.values() {
            entry.signal.wake.notify_one();
        }
    }

    /// Whether a user has webhooks for all documents.
    pub(crate) fn has_users(&self) -> bool {
        self.entries.keys().any(|key| matches!(key.owner, Owner::User(_)))
    }

    /// Wakes the webhooks of these documents, and of these users. All other users have nothing new.
    pub(crate) fn moved(
        &self,
        rooms: impl IntoIterator<Item = OwnedRoomId>,
        users: &BTreeSet<OwnedUserId>,
        (from, to): (&VisiblePositions, &VisiblePositions),
    ) {
        for room in rooms {
            for (_, entry) in self.of_owner(&Owner::Document(room)) {
                entry.signal.wake.notify_one();
            }
        }
        for (key, entry) in &self.entries {
            let Owner::User(user) = &key.owner else { continue };
            if users.contains(user) {
                entry.signal.wake.notify_one();
            } else {
                entry.signal.pass(from, to);
            }
        }
    }

    fn of_owner(&self, owner: &Owner) -> impl Iterator<Item = (&Key, &Entry)> {
        let first = Key {
            owner: owner.clone(),
            id: String::new(),
        };
        let owner = first.owner.clone();
        let from_first = self.entries.range(first..);
        from_first.take_while(move |(key, _)| key.owner == owner)
    }
}
