//! Registry of subscribers, and the delivery of each commit to them. Must not wait for a subscriber.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use ruma::{DeviceId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::watch;
use weft_room_api::{Changes, ConnectionId, Delivery, Missed, RoomChange};
use weft_store::Lane;
use weft_wire::live::awareness::Entry;

use crate::{EditFrame, RoomSubscription, subscription::Mailbox};

/// The newest change that a user was notified of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wake {
    /// The highest position of each lane that concerns the user. It may be above the visible position: readers wait for
    /// that too.
    pub positions: BTreeMap<Lane, u64>,
    /// Incremented with each change that has no position (typing, sessions).
    pub unstored: u64,
    /// The server is stopping: respond with the changes that are there.
    pub stopping: bool,
}

impl Wake {
    fn reached(&mut self, lane: Lane, position: u64) {
        let newest = self.positions.entry(lane).or_default();
        *newest = position.max(*newest);
    }
}

/// The subscribers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Fanout {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Sockets by room. Closed ones are dropped at the next delivery to, or subscription of, the room.
    rooms: Mutex<HashMap<OwnedRoomId, Vec<Weak<Mailbox>>>>,
    /// `/sync` requests by user. An entry without receivers is dropped at the next wake-up.
    users: Mutex<HashMap<OwnedUserId, watch::Sender<Wake>>>,
    /// Set, under the lock of `users`, when the server stops: later subscribers are notified at once.
    stopping: AtomicBool,
}

impl Fanout {
    /// A hub without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Subscribes a socket of a user's device to a room. Subscribe before reading the document: an edit may then be
    /// delivered twice, which is harmless, but none is missed.
    #[must_use]
    pub fn subscribe(
        &self,
        room: &RoomId,
        session: ConnectionId,
        user: &UserId,
        device: &DeviceId,
    ) -> RoomSubscription {
        self.add(room, Mailbox::new(session, user.to_owned(), device.to_owned()))
    }

    /// The same for a reader that also gets the events of the room, except those that timelines omit.
    #[must_use]
    pub fn subscribe_with_events(
        &self,
        room: &RoomId,
        session: ConnectionId,
        user: &UserId,
        device: &DeviceId,
    ) -> RoomSubscription {
        let mailbox = Mailbox::new(session, user.to_owned(), device.to_owned());
        self.add(room, mailbox.with_events())
    }

    fn add(&self, room: &RoomId, mailbox: Mailbox) -> RoomSubscription {
        let mailbox = Arc::new(mailbox);
        let mut rooms = self.inner.rooms.lock();
        let mailboxes = rooms.entry(room.to_owned()).or_default();
        mailboxes.retain(|other| other.strong_count() > 0);
        mailboxes.push(Arc::downgrade(&mailbox));
        RoomSubscription::new(mailbox)
    }

    /// Watches the changes that concern a user. Register before reading, so that no change is missed in between.
    #[must_use]
    pub fn user_watch(&self, user: &UserId) -> watch::Receiver<Wake> {
        let mut users = self.inner.users.lock();
        let sender = users.entry(user.to_owned()).or_default();
        let receiver = sender.subscribe();
        if self.inner.stopping.load(Ordering::Relaxed) {
            sender.send_modify(|wake| wake.stopping = true);
        }
        receiver
    }

    /// Wakes users for a stored change (receipts, account data) at a position of a lane.
    pub fn wake<'a>(&self, users: impl IntoIterator<Item = &'a UserId>, lane: Lane, position: u64) {
        self.each_user(users, |wake| wake.reached(lane, position));
    }

    /// Wakes users for a change that has no position in the stream.
    pub fn wake_unstored<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) {
        self.each_user(users, |wake| wake.unstored = wake.unstored.wrapping_add(1));
    }

    /// Makes every socket of the room check its permissions again.
    pub fn access_changed(&self, room: &RoomId) {
        self.each_mailbox(room, Mailbox::access_changed);
    }

    /// Makes a user's sockets and waiting `/sync` requests check their sessions again after a sign-out, a
    /// deactivation or a change of tokens. With a device, only its sockets; sockets of other users are never
    /// affected.
    pub fn sessions_changed(&self, user: &UserId, device: Option<&DeviceId>) {
        self.every_mailbox(|mailbox| {
            if mailbox.belongs_to(user, device) {
                mailbox.access_changed();
            }
        });
        self.wake_unstored([user]);
    }

    /// Notifies every socket and every waiting `/sync` request that the server is stopping.
    pub fn stop(&self) {
        self.every_mailbox(Mailbox::stop);
        let users = self.inner.users.lock();
        self.inner.stopping.store(true, Ordering::Relaxed);
        for sender in users.values() {
            sender.send_modify(|wake| wake.stopping = true);
        }
    }

    /// Delivers changes until their bus is closed.
    pub async fn follow(self, mut changes: Changes) {
        while let Some(delivery) = changes.next().await {
            match delivery {
                Delivery::Change(change) => {
                    if catch_unwind(AssertUnwindSafe(|| self.deliver(&change))).is_err() {
                        tracing::error!(
                            event = "fanout.delivery_panicked", room = %change.room_id,
                            "the delivery of a change panicked"
                        );
                        self.catch_up(&Missed::of(&change));
                    }
                }
                Delivery::Missed(missed) => self.catch_up(&missed),
            }
        }
    }

    /// After changes were dropped: every socket checks its rights and gets a diff, every `/sync` request reads again.
    fn catch_up(&self, missed: &Missed) {
        tracing::warn!(
            event = "fanout.changes_dropped", positions = ?missed.positions,
            "changes were dropped; all readers read from the store"
        );
        self.every_mailbox(|mailbox| {
            mailbox.access_changed();
            if missed.reload {
                mailbox.reload();
            }
            mailbox.lag();
        });
        for sender in self.inner.users.lock().values() {
            sender.send_modify(|wake| {
                for (lane, position) in &missed.positions {
                    wake.reached(*lane, *position);
                }
            });
        }
    }

    /// Delivers one commit.
    pub fn deliver(&self, change: &RoomChange) {
        let mailboxes = self.mailboxes(&change.room_id);
        if !mailboxes.is_empty() {
            let frames: Vec<_> = change.edits.iter().map(|edit| Arc::new(EditFrame::new(edit))).collect();
            for mailbox in &mailboxes {
                if change.access_changed {
                    mailbox.access_changed();
                }
                frames.iter().for_each(|frame| mailbox.edit(frame));
                mailbox.events(&change.events);
                if change.reload {
                    mailbox.reload();
                }
            }
        }
        if change.position > 0 {
            self.wake(change.users.iter().map(AsRef::as_ref), change.lane, change.position);
        }
    }

    pub(crate) fn awareness(&self, room: &RoomId, entries: &[Entry]) {
        self.each_mailbox(room, |mailbox| mailbox.awareness(entries));
    }

    fn each_user<'a>(&self, users: impl IntoIterator<Item = &'a UserId>, change: impl Fn(&mut Wake)) {
        let mut watches = self.inner.users.lock();
        for user in users {
            let Some(sender) = watches.get(user) else { continue };
            if sender.receiver_count() == 0 {
                watches.remove(user);
            } else {
                sender.send_modify(&change);
            }
        }
    }

    fn mailboxes(&self, room: &RoomId) -> Vec<Arc<Mailbox>> {
        let mut rooms = self.inner.rooms.lock();
        let Some(mailboxes) = rooms.get_mut(room) else {
            return Vec::new();
        };
        let live: Vec<_> = mailboxes.iter().filter_map(Weak::upgrade).collect();
        if live.is_empty() {
            rooms.remove(room);
        }
        live
    }

    fn each_mailbox(&self, room: &RoomId, notify: impl Fn(&Mailbox)) {
        self.mailboxes(room).iter().for_each(|mailbox| notify(mailbox));
    }

    fn every_mailbox(&self, notify: impl Fn(&Mailbox)) {
        let all: Vec<_> = self
            .inner
            .rooms
            .lock()
            .values()
            .flatten()
            .filter_map(Weak::upgrade)
            .collect();
        all.iter().for_each(|mailbox| notify(mailbox));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ruma::{RoomVersionId, device_id, room_id, user_id};
    use weft_dag::testing::World;
    use weft_room_api::{ChangeBus as _, CommittedEvent, Incarnation, Interest, LiveEdit, LocalBus};
    use weft_wire::limits::MAX_QUEUE_PER_SOCKET;

    use super::*;
    use crate::Change;

    fn commit(edits: Vec<LiveEdit>) -> Arc<RoomChange> {
        Arc::new(RoomChange {
            position: 7,
            edits,
            users: vec![user_id!("@alice:alpha.example").to_owned()],
            ..RoomChange::new(room_id!("!doc:alpha.example"), Lane::FIRST)
        })
    }

    fn edit(number: u32, session: Option<u64>) -> LiveEdit {
        LiveEdit {
            update: Bytes::copy_from_slice(&number.to_be_bytes()),
            author: user_id!("@alice:alpha.example").to_owned(),
            session: session.map(|number| ConnectionId::new(Incarnation(1), number)),
            version: u64::from(number) + 1,
        }
    }

    fn subscribe(fanout: &Fanout, room: &RoomId, session: u64) -> RoomSubscription {
        fanout.subscribe(
            room,
            ConnectionId::new(Incarnation(1), session),
            user_id!("@alice:alpha.example"),
            device_id!("DESK"),
        )
    }

    fn numbers(subscription: &mut RoomSubscription) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some(Change::Edit(frame)) = subscription.try_next() {
            seen.push(u32::from_be_bytes(frame.update[..].try_into().unwrap()));
        }
        seen
    }

    #[test]
    fn edits_are_delivered_to_all_other_sockets_in_order() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        let (mut writer, mut reader) = (subscribe(&fanout, room, 1), subscribe(&fanout, room, 2));
        for number in 0..50 {
            fanout.deliver(&commit(vec![edit(number, Some(1))]));
        }
        assert_eq!(numbers(&mut reader), (0..50).collect::<Vec<_>>());
        assert!(writer.try_next().is_none());
    }

    #[test]
    fn a_connection_of_another_process_with_the_same_number_gets_the_edit() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        let mut other = subscribe(&fanout, room, 1);
        let mut change = edit(1, None);
        change.session = Some(ConnectionId::new(Incarnation(2), 1));
        fanout.deliver(&commit(vec![change]));
        assert_eq!(numbers(&mut other), [1]);
    }

    #[test]
    fn a_full_queue_is_reported_as_lagged_and_continues_afterwards() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        let mut reader = subscribe(&fanout, room, 2);
        for number in 0..=u32::try_from(MAX_QUEUE_PER_SOCKET).unwrap() {
            fanout.deliver(&commit(vec![edit(number, None)]));
        }
        assert!(matches!(reader.try_next(), Some(Change::Lagged)));
        assert!(
            reader.try_next().is_none(),
            "edits from before the diff are not sent twice"
        );
        fanout.deliver(&commit(vec![edit(9999, None)]));
        assert_eq!(numbers(&mut reader), [9999]);
    }

    #[tokio::test]
    async fn after_dropped_changes_all_readers_read_again() {
        let fanout = Fanout::new();
        let mut reader = subscribe(&fanout, room_id!("!doc:alpha.example"), 2);
        let mut user = fanout.user_watch(user_id!("@alice:alpha.example"));
        let bus = LocalBus::new();
        let changes = bus.subscribe(Interest::All);
        let huge = Bytes::from(vec![0; 40 * 1024 * 1024]);
        let mut change = edit(1, None);
        change.update = huge;
        bus.publish(commit(vec![change]));
        bus.publish(commit(vec![edit(2, None)]));
        bus.close();
        fanout.follow(changes).await;
        assert!(matches!(reader.try_next(), Some(Change::AccessChanged)));
        assert!(matches!(reader.try_next(), Some(Change::Lagged)));
        assert!(reader.try_next().is_none());
        assert_eq!(user.borrow_and_update().positions, BTreeMap::from([(Lane::FIRST, 7)]));
    }

    #[test]
    fn only_a_reader_of_events_gets_them_and_none_is_lost_silently() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        let (alice, desk) = (user_id!("@alice:alpha.example"), device_id!("DESK"));
        let mut reader = fanout.subscribe_with_events(room, ConnectionId::new(Incarnation(1), 1), alice, desk);
        let mut socket = subscribe(&fanout, room, 2);
        let mut made = World::new(&RoomVersionId::V12, "@alice:alpha.example");
        let mut of = |kind: &str, position: u64, visible: bool| CommittedEvent {
            pdu: made.send("@alice:alpha.example", kind, None, serde_json::json!({})),
            position,
            visible,
        };
        let mut change = Arc::unwrap_or_clone(commit(Vec::new()));
        change.events = vec![
            of("m.room.message", 1, true),
            of("dev.weft.update", 2, true),
            of("m.room.message", 3, false),
            of("m.room.topic", 4, true),
        ];
        fanout.deliver(&change);
        assert!(socket.try_next().is_none());
        let mut positions = Vec::new();
        while let Some(Change::Event(event)) = reader.try_next() {
            positions.push(event.position);
        }
        assert_eq!(positions, [1, 4]);
        change.events.truncate(1);
        for _ in 0..=MAX_QUEUE_PER_SOCKET {
            fanout.deliver(&change);
        }
        assert!(matches!(reader.try_next(), Some(Change::Lagged)));
        assert!(reader.try_next().is_none());
    }

    #[test]
    fn access_changed_is_delivered_before_edits() {
        let fanout = Fanout::new();
        let mut reader = subscribe(&fanout, room_id!("!doc:alpha.example"), 2);
        let mut change = Arc::unwrap_or_clone(commit(vec![edit(1, None)]));
        fanout.deliver(&change);
        change.access_changed = true;
        fanout.deliver(&change);
        assert!(matches!(reader.try_next(), Some(Change::AccessChanged)));
        assert_eq!(numbers(&mut reader), [1, 1]);
    }

    #[test]
    fn sessions_changed_reaches_only_the_sockets_and_syncs_of_the_user() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        let (alice, bob) = (user_id!("@alice:alpha.example"), user_id!("@bob:alpha.example"));
        let mut desk = fanout.subscribe(room, ConnectionId::new(Incarnation(1), 1), alice, device_id!("DESK"));
        let mut phone = fanout.subscribe(
            room_id!("!other:a"),
            ConnectionId::new(Incarnation(1), 2),
            alice,
            device_id!("PHONE"),
        );
        let mut bobs = fanout.subscribe(room, ConnectionId::new(Incarnation(1), 3), bob, device_id!("DESK"));
        let (alices_sync, bobs_sync) = (fanout.user_watch(alice), fanout.user_watch(bob));
        let notified = |socket: &mut RoomSubscription| matches!(socket.try_next(), Some(Change::AccessChanged));

        fanout.sessions_changed(alice, Some(device_id!("DESK")));
        assert!(notified(&mut desk) && !notified(&mut phone) && !notified(&mut bobs));
        assert!(alices_sync.has_changed().unwrap() && !bobs_sync.has_changed().unwrap());

        fanout.sessions_changed(alice, None);
        assert!(notified(&mut desk) && notified(&mut phone) && !notified(&mut bobs));
    }

    #[tokio::test]
    async fn a_commit_wakes_a_waiting_reader_and_a_waiting_user() {
        let fanout = Fanout::new();
        let mut reader = subscribe(&fanout, room_id!("!doc:alpha.example"), 2);
        let mut user = fanout.user_watch(user_id!("@alice:alpha.example"));
        let other = fanout.user_watch(user_id!("@bob:alpha.example"));
        let waiting = tokio::spawn(async move { reader.next(true).await });
        tokio::task::yield_now().await;
        fanout.deliver(&commit(vec![edit(1, None)]));
        assert!(matches!(waiting.await.unwrap(), Change::Edit(_)));
        user.changed().await.unwrap();
        assert_eq!(user.borrow().positions, BTreeMap::from([(Lane::FIRST, 7)]));
        assert!(!other.has_changed().unwrap());
    }

    #[tokio::test]
    async fn current_and_later_waiters_are_notified_of_the_stop() {
        let fanout = Fanout::new();
        let mut waiting = fanout.user_watch(user_id!("@alice:alpha.example"));
        assert!(!waiting.borrow_and_update().stopping);
        fanout.stop();
        waiting.changed().await.unwrap();
        assert!(waiting.borrow().stopping);
        assert!(
            fanout
                .user_watch(user_id!("@bob:alpha.example"))
                .borrow_and_update()
                .stopping
        );
    }

    #[test]
    fn closed_subscriptions_are_removed() {
        let fanout = Fanout::new();
        let room = room_id!("!doc:alpha.example");
        drop(subscribe(&fanout, room, 1));
        drop(fanout.user_watch(user_id!("@alice:alpha.example")));
        fanout.deliver(&commit(vec![edit(1, None)]));
        assert!(fanout.inner.rooms.lock().is_empty());
        assert!(fanout.inner.users.lock().is_empty());
    }
}
