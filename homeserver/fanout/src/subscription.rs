//! A reader's subscription to one room: a bounded queue of edits, and flags for changes that must not be lost.
//!
//! Awareness is stored as the newest entry of each client, so a slow reader costs at most one entry for each client.
//! If the edits overflow they are dropped and the reader gets `Lagged`. Must not drop edits without that notice.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use tokio::sync::Notify;
use weft_room_api::{CommittedEvent, ConnectionId};
use weft_wire::{
    event_types,
    limits::{MAX_QUEUE_BYTES_PER_SOCKET, MAX_QUEUE_PER_SOCKET},
    live::awareness::Entry,
    purpose::Purpose,
};

use crate::EditFrame;

/// A change in the room since the last call.
#[derive(Debug, Clone)]
pub enum Change {
    /// The document was rebuilt: load it again. Later changes are of no use without that.
    Reload,
    /// Members, roles or tokens changed: check the socket's permissions again before anything else is sent.
    AccessChanged,
    /// The queue overflowed and is empty now: bring the reader up to date with a diff.
    Lagged,
    /// An edit, in commit order.
    Edit(Arc<EditFrame>),
    /// An event of the room, in stream ordering; only for readers that asked for events.
    Event(CommittedEvent),
    /// The newest awareness of each client that changed.
    Awareness(Vec<Entry>),
    /// The server is stopping.
    Stopping,
}

fn is_left_out(event: &CommittedEvent) -> bool {
    event_types::LEFT_OUT_OF_TIMELINES.contains(&event.pdu.kind())
}

/// Whether it is an update that says what it is for: a reader shows that, not only the edit.
fn has_purpose(event: &CommittedEvent) -> bool {
    let is_update = event.pdu.kind() == event_types::UPDATE && event.pdu.state_key().is_none();
    let purpose = || event.pdu.content_as::<Purpose>();
    is_update && purpose().is_ok_and(|purpose| !purpose.is_empty())
}

#[derive(Debug, Default)]
struct Pending {
    stopping: bool,
    reload: bool,
    access_changed: bool,
    lagged: bool,
    edits: VecDeque<Arc<EditFrame>>,
    /// The total bytes of the queued edits and events.
    bytes: usize,
    events: VecDeque<CommittedEvent>,
    awareness: BTreeMap<u64, Entry>,
}

impl Pending {
    /// Whether another edit or event can be queued. If the queue overflows, it is emptied and the reader is told.
    fn has_room(&mut self) -> bool {
        let queued = self.edits.len().saturating_add(self.events.len());
        if !self.lagged && (queued >= MAX_QUEUE_PER_SOCKET || self.bytes >= MAX_QUEUE_BYTES_PER_SOCKET) {
            self.lag();
        }
        !self.lagged
    }

    fn lag(&mut self) {
        self.edits.clear();
        self.events.clear();
        self.bytes = 0;
        self.lagged = true;
    }

    /// Returns the most urgent change; without `all`, only one that ends or limits the subscription.
    fn take(&mut self, all: bool) -> Option<Change> {
        if std::mem::take(&mut self.stopping) {
            return Some(Change::Stopping);
        }
        if std::mem::take(&mut self.access_changed) {
            return Some(Change::AccessChanged);
        }
        if std::mem::take(&mut self.reload) {
            return Some(Change::Reload);
        }
        if !all {
            return None;
        }
        if std::mem::take(&mut self.lagged) {
            return Some(Change::Lagged);
        }
        if let Some(edit) = self.edits.pop_front() {
            self.bytes = self.bytes.saturating_sub(edit.update.len());
            return Some(Change::Edit(edit));
        }
        if let Some(event) = self.events.pop_front() {
            self.bytes = self.bytes.saturating_sub(event.pdu.json().len());
            return Some(Change::Event(event));
        }
        if self.awareness.is_empty() {
            return None;
        }
        Some(Change::Awareness(
            std::mem::take(&mut self.awareness).into_values().collect(),
        ))
    }
}

/// The side of the subscription that the hub holds.
#[derive(Debug)]
pub(crate) struct Mailbox {
    session: ConnectionId,
    user: OwnedUserId,
    device: OwnedDeviceId,
    /// The reader gets events too.
    wants_events: bool,
    pending: Mutex<Pending>,
    woken: Notify,
}

impl Mailbox {
    pub(crate) fn new(session: ConnectionId, user: OwnedUserId, device: OwnedDeviceId) -> Self {
        Self {
            session,
            user,
            device,
            wants_events: false,
            pending: Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// For a reader that gets events too.
    pub(crate) fn with_events(mut self) -> Self {
        self.wants_events = true;
        self
    }

    /// Whether the socket belongs to this user and, if a device is given, to this device.
    pub(crate) fn belongs_to(&self, user: &UserId, device: Option<&DeviceId>) -> bool {
        self.user == user && device.is_none_or(|device| self.device == device)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }

    pub(crate) fn edit(&self, frame: &Arc<EditFrame>) {
        if frame.session == Some(self.session) {
            return;
        }
        let mut pending = self.lock();
        // A lagged reader gets a diff and needs no edits from before that diff.
        if pending.has_room() {
            pending.bytes += frame.update.len();
            pending.edits.push_back(Arc::clone(frame));
        }
        drop(pending);
        self.woken.notify_one();
    }

    pub(crate) fn events(&self, events: &[CommittedEvent]) {
        if !self.wants_events || events.is_empty() {
            return;
        }
        let mut pending = self.lock();
        let is_shown = |event: &&CommittedEvent| event.visible && (!is_left_out(event) || has_purpose(event));
        for event in events.iter().filter(is_shown) {
            if pending.has_room() {
                pending.bytes += event.pdu.json().len();
                pending.events.push_back(event.clone());
            }
        }
        drop(pending);
        self.woken.notify_one();
    }

    pub(crate) fn awareness(&self, entries: &[Entry]) {
        let mut pending = self.lock();
        for entry in entries {
            // Two calls may arrive in either order.
            let newer = |known: &Entry| entry.supersedes(known);
            if pending.awareness.get(&entry.client).is_none_or(newer) {
                pending.awareness.insert(entry.client, entry.clone());
            }
        }
        drop(pending);
        self.woken.notify_one();
    }

    pub(crate) fn access_changed(&self) {
        self.lock().access_changed = true;
        self.woken.notify_one();
    }

    pub(crate) fn reload(&self) {
        self.lock().reload = true;
        self.woken.notify_one();
    }

    /// Edits were dropped before they reached this queue.
    pub(crate) fn lag(&self) {
        let mut pending = self.lock();
        pending.lag();
        drop(pending);
        self.woken.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.woken.notify_one();
    }
}

/// A reader's subscription to a room; ends when dropped.
#[derive(Debug)]
pub struct RoomSubscription {
    mailbox: Arc<Mailbox>,
}

impl RoomSubscription {
    pub(crate) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }

    /// Waits for the next change. Cancel-safe: no change is lost.
    ///
    /// A reader that can't process data at the moment passes `all: false`: edits and awareness then stay queued, and
    /// only changes that end or limit the subscription are returned.
    pub async fn next(&mut self, all: bool) -> Change {
        loop {
            let woken = self.mailbox.woken.notified();
            if let Some(change) = self.mailbox.lock().take(all) {
                return change;
            }
            woken.await;
        }
    }

    /// Returns the next change if there is one already.
    pub fn try_next(&mut self) -> Option<Change> {
        self.mailbox.lock().take(true)
    }
}
