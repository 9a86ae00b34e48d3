//! Finds the worker of a room, or starts it. Two workers of one room must not run at the same time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use weft_budget::{DailyBudget, Overspent};
use weft_clock::millis;
use weft_document::{Published, Readable};
use weft_room_api::{ChangeBus, Clock, Identity, Unavailable};
use weft_room_read::Reader;
use weft_store::{Lane, Store};

use crate::{
    RoomConfig,
    background::Background,
    edit::LargeEdits,
    mailbox::{Command, LocalCommand, Reply},
    pace::Pace,
    staging::StagedBytes,
    worker::Worker,
};

/// What all workers of a server share. Must not collect services: each worker needs everything here.
pub(crate) struct Shared {
    pub(crate) config: RoomConfig,
    pub(crate) store: Store,
    pub(crate) reader: Reader,
    pub(crate) identity: Arc<dyn Identity>,
    pub(crate) changes: Arc<dyn ChangeBus>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Work that needs other servers. A worker can only request it.
    pub(crate) background: Arc<dyn Background>,
    slots: Mutex<HashMap<OwnedRoomId, Slot>>,
    presence: Mutex<HashMap<OwnedRoomId, Instant>>,
    joining: Mutex<HashMap<OwnedRoomId, CancellationToken>>,
    /// Held while an out-of-band invitation is counted and written.
    pub(crate) outside: tokio::sync::Mutex<()>,
    /// Bytes of events and live edits of each user in a day.
    pub(crate) event_bytes: Arc<DailyBudget<OwnedUserId>>,
    /// How often documents are edited.
    pace: Option<Pace>,
    /// Bytes of staged events of each room.
    pub(crate) staged: StagedBytes,
    /// Large edits that are being admitted.
    pub(crate) large_edits: LargeEdits,
    /// When this server started.
    pub(crate) started: MilliSecondsSinceUnixEpoch,
    created: Mutex<Nonces>,
    /// The newest deleted client request of each lane, by time and event.
    forgotten: Mutex<BTreeMap<Lane, (u64, OwnedEventId)>>,
    /// The time of the newest deleted answer to an edit of each lane: none is older.
    forgotten_edits: Mutex<BTreeMap<Lane, u64>>,
    stopping: AtomicBool,
}

#[derive(Clone)]
struct Slot {
    commands: mpsc::Sender<Command>,
    published: Arc<Published>,
    /// Cancelled when the worker has ended, for whatever reason.
    ended: CancellationToken,
}

/// Rooms with recorded presence above which expired ones are removed: a limit on memory, not on rooms.
const PRESENCE_SWEEP: usize = 4_096;

/// Numbers that make equal rooms of the same time different.
#[derive(Debug, Default)]
struct Nonces {
    /// The latest time at which a room was created, in milliseconds since 1970.
    latest: u64,
    /// The last number that was given. Never given again: requests read the clock before they get their number, so one
    /// with an earlier time can be later than one with a later time.
    last: u32,
}

impl Nonces {
    fn next(&mut self, now: u64) -> Option<u32> {
        if now > self.latest {
            self.latest = now;
            return None;
        }
        self.last = self.last.wrapping_add(1);
        Some(self.last)
    }
}

impl Shared {
    pub(crate) fn new(
        config: RoomConfig,
        store: Store,
        identity: Arc<dyn Identity>,
        (changes, clock): (Arc<dyn ChangeBus>, Arc<dyn Clock>),
        background: Arc<dyn Background>,
    ) -> Self {
        Self {
            event_bytes: DailyBudget::new("event_bytes_per_user_and_day", config.event_bytes_per_user_and_day),
            pace: config.edit_rates.map(Pace::new),
            staged: StagedBytes::new(config.staged_bytes_per_room),
            config,
            reader: Reader::new(store.clone()),
            large_edits: LargeEdits::default(),
            started: clock.now(),
            store,
            identity,
            changes,
            clock,
            background,
            slots: Mutex::default(),
            presence: Mutex::default(),
            joining: Mutex::default(),
            outside: tokio::sync::Mutex::default(),
            created: Mutex::default(),
            forgotten: Mutex::default(),
            forgotten_edits: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The newest deleted client request of a lane: no older one is left.
    pub(crate) fn forgotten_requests(&self, lane: Lane) -> Option<(u64, OwnedEventId)> {
        self.forgotten.lock().get(&lane).cloned()
    }

    /// Records that a client's request is deleted.
    pub(crate) fn note_forgotten_request(&self, lane: Lane, key: (u64, OwnedEventId)) {
        let mut forgotten = self.forgotten.lock();
        if forgotten.get(&lane).is_none_or(|last| *last < key) {
            forgotten.insert(lane, key);
        }
    }

    /// The time of the oldest answers to edits of a lane that may be left.
    pub(crate) fn forgotten_edit_requests(&self, lane: Lane) -> u64 {
        self.forgotten_edits.lock().get(&lane).copied().unwrap_or_default()
    }

    /// Records that the answers to edits before this time are deleted.
    pub(crate) fn note_forgotten_edit_request(&self, lane: Lane, time: u64) {
        let mut forgotten = self.forgotten_edits.lock();
        let last = forgotten.entry(lane).or_default();
        *last = time.max(*last);
    }

    /// Charges bytes that a user of this server sends: they are stored, and sent to all servers of the room.
    pub(crate) fn charge(&self, user: &UserId, bytes: usize) -> Result<(), Overspent> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.event_bytes
            .spend(&user.to_owned(), bytes, Instant::now().into_std())
    }

    /// Counts an edit of a document.
    pub(crate) fn pace(&self, room: &RoomId, user: &UserId) -> Result<(), Overspent> {
        match &self.pace {
            Some(pace) => pace.count(room, user, Instant::now().into_std()),
            None => Ok(()),
        }
    }

    /// A number that makes a room created now differ from all that were created at this time; `None` if none is needed.
    pub(crate) fn nonce(&self, now: MilliSecondsSinceUnixEpoch) -> Option<u32> {
        self.created.lock().next(millis(now))
    }

    /// Sends a command to the room's worker. Waits while the mailbox is full: this is the backpressure of a busy room.
    pub(crate) async fn send(self: &Arc<Self>, room: &RoomId, command: impl Into<Command>) -> Result<(), Unavailable> {
        let mut command = command.into();
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return Err(Unavailable::Stopping);
            }
            let slot = self.slot(room);
            match slot.commands.send(command).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(back)) => {
                    // The worker accepts no more commands and is about to end. The next one must not start before that.
                    command = back;
                    slot.ended.cancelled().await;
                }
            }
        }
    }

    /// Sends a command of a task of the room, and waits for the answer.
    pub(crate) async fn ask<T: Send + 'static, E: From<Unavailable> + Send + 'static>(
        self: &Arc<Self>,
        room: &RoomId,
        command: impl FnOnce(Reply<T, E>) -> LocalCommand,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.send(room, command(Reply::to_task(reply))).await?;
        answer.await.unwrap_or_else(|_| Err(Unavailable::Interrupted.into()))
    }

    /// Sends a command if a worker runs and has room for it: for hints that may be lost.
    pub(crate) fn try_send(&self, room: &RoomId, command: LocalCommand) {
        if let Some(slot) = self.slots.lock().get(room) {
            // With a full mailbox the worker recomputes its deadlines soon anyway.
            let _ = slot.commands.try_send(command.into());
        }
    }

    /// Where the text of a room as of its last commit is.
    pub(crate) fn readable_text(&self, room: &RoomId) -> Readable {
        let slots = self.slots.lock();
        let Some(slot) = slots.get(room).filter(|slot| !slot.ended.is_cancelled()) else {
            return Readable::OnDisk;
        };
        let published = Arc::clone(&slot.published);
        drop(slots);
        published.readable()
    }

    /// The number of documents whose text is in memory.
    pub(crate) fn texts_in_memory(&self) -> usize {
        let slots = self.slots.lock();
        let running = slots.values().filter(|slot| !slot.ended.is_cancelled());
        running.filter(|slot| slot.published.is_in_memory()).count()
    }

    fn slot(self: &Arc<Self>, room: &RoomId) -> Slot {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(room)
            && !slot.ended.is_cancelled()
        {
            return slot.clone();
        }
        let (commands, mailbox) = mpsc::channel(self.config.mailbox);
        let published = Arc::<Published>::default();
        let slot = Slot {
            commands,
            published: Arc::clone(&published),
            ended: CancellationToken::new(),
        };
        let guard = slot.ended.clone().drop_guard();
        let worker = Worker::new(Arc::clone(self), room.to_owned(), mailbox, published);
        let (shared, id) = (Arc::clone(self), room.to_owned());
        tokio::spawn(async move {
            worker.supervise().await;
            drop(guard);
            shared.forget(&id);
        });
        slots.insert(room.to_owned(), slot.clone());
        slot
    }

    fn forget(&self, room: &RoomId) {
        let mut slots = self.slots.lock();
        if slots.get(room).is_some_and(|slot| slot.ended.is_cancelled()) {
            slots.remove(room);
        }
    }

    /// The number of running workers.
    pub(crate) fn running(&self) -> usize {
        self.slots
            .lock()
            .values()
            .filter(|slot| !slot.ended.is_cancelled())
            .count()
    }

    /// Records that a user of another server is live in a room. True if that was not the case before.
    pub(crate) fn note_presence(&self, room: &RoomId) -> bool {
        let until = Instant::now() + self.config.remote_presence;
        let mut presence = self.presence.lock();
        if presence.len() > PRESENCE_SWEEP {
            let now = Instant::now();
            presence.retain(|_, until| *until > now);
        }
        let before = presence.insert(room.to_owned(), until);
        before.is_none_or(|before| before <= Instant::now())
    }

    /// Whether a user of another server was live in a room recently.
    pub(crate) fn is_remote_present(&self, room: &RoomId) -> bool {
        self.presence
            .lock()
            .get(room)
            .is_some_and(|until| *until > Instant::now())
    }

    /// Records a join; the token is cancelled when it ends. Of two joins of one room the later one counts.
    pub(crate) fn note_joining(&self, room: &RoomId) -> CancellationToken {
        let ended = CancellationToken::new();
        self.joining.lock().insert(room.to_owned(), ended.clone());
        ended
    }

    /// The join of a room that is in progress.
    pub(crate) fn joining(&self, room: &RoomId) -> Option<CancellationToken> {
        self.joining.lock().get(room).cloned()
    }

    /// Deletes the record of a join that has ended.
    pub(crate) fn forget_joining(&self, room: &RoomId) {
        let mut joining = self.joining.lock();
        if joining.get(room).is_some_and(CancellationToken::is_cancelled) {
            joining.remove(room);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Refuses new commands, lets every worker seal and end, and waits for them.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.background.stop();
        let slots: Vec<Slot> = self.slots.lock().values().cloned().collect();
        for slot in &slots {
            // The nudge wakes an idle worker, which then checks whether the server is stopping.
            let _ = slot.commands.send(LocalCommand::Nudge.into()).await;
        }
        for slot in slots {
            slot.ended.cancelled().await;
        }
    }

    /// When a seal is due. `first`, `last`: the times of the first and the last pending edit.
    pub(crate) fn seal_due(&self, room: &RoomId, first: Instant, last: Instant) -> Instant {
        let due = (first + self.config.seal_max).min(last + self.config.seal_idle);
        if self.is_remote_present(room) {
            due.min(first + self.config.seal_remote)
        } else {
            due
        }
    }

    pub(crate) fn idle(&self) -> Duration {
        self.config.idle_eviction
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_rooms_have_the_same_time_and_number() {
        let mut nonces = Nonces::default();
        let mut given = HashSet::new();
        // Times as they arrive from threads that read the clock in another order.
        for now in [100, 100, 101, 100, 101, 99, 102, 100, 101, 102, 102, 99] {
            assert!(given.insert((now, nonces.next(now))), "{now}: {nonces:?}");
        }
    }
}
