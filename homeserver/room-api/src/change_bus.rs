//! The bus that distributes committed changes to their subscribers: live connections, `/sync` and the outbox sender.
//!
//! A worker publishes and never waits. Each subscriber has a queue of limited size; the queue of a subscriber that falls
//! behind is dropped, and the subscriber gets [`Delivery::Missed`] and reads from the store. Must not drop a change
//! without that, and must not notify under a lock.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use weft_store::Lane;

use crate::RoomChange;

/// Changes that may wait for a subscriber: several seconds of a busy server.
const MAX_QUEUED: usize = 8_192;
/// The bytes of their edits and events. Subscribers share them with each other.
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;

/// Distributes changes. A bus to other processes serialises them; in one process they are shared.
pub trait ChangeBus: Send + Sync + 'static {
    /// Called once for each commit, in the room's order, after the batch is on disk. Must not block.
    fn publish(&self, change: Arc<RoomChange>);
    /// The changes from now on, in the order of each room. Subscribe before reading: a change may then be seen twice, but
    /// none is missed.
    fn subscribe(&self, interest: Interest) -> Changes;
}

/// The changes that a subscriber needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// All changes.
    All,
    /// Changes that wrote outbox rows for other servers.
    OtherServers,
}

impl Interest {
    fn covers(self, change: &RoomChange) -> bool {
        match self {
            Self::All => true,
            Self::OtherServers => !change.destinations.is_empty(),
        }
    }
}

/// One item of a subscription.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// A change.
    Change(Arc<RoomChange>),
    /// Changes were dropped, because too many were waiting.
    Missed(Missed),
}

/// A summary of dropped changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missed {
    /// The highest stream position among them, of each lane.
    pub positions: BTreeMap<Lane, u64>,
    /// One of them replaced a text: live connections must reload it.
    pub reload: bool,
}

impl Missed {
    /// A change that a subscriber could not process.
    #[must_use]
    pub fn of(change: &RoomChange) -> Self {
        let mut missed = Self::default();
        missed.note(change);
        missed
    }

    fn note(&mut self, change: &RoomChange) {
        if change.position > 0 {
            let highest = self.positions.entry(change.lane).or_default();
            *highest = change.position.max(*highest);
        }
        self.reload |= change.reload;
    }
}

#[derive(Debug, Default)]
struct Pending {
    changes: VecDeque<Arc<RoomChange>>,
    bytes: usize,
    missed: Option<Missed>,
    closed: bool,
}

impl Pending {
    fn push(&mut self, change: &Arc<RoomChange>) {
        if let Some(missed) = &mut self.missed {
            // The subscriber must read from the store in any case.
            missed.note(change);
            return;
        }
        let bytes = change.size();
        if self.changes.len() < MAX_QUEUED && self.bytes.saturating_add(bytes) <= MAX_QUEUED_BYTES {
            self.bytes = self.bytes.saturating_add(bytes);
            self.changes.push_back(Arc::clone(change));
            return;
        }
        let mut missed = Missed::default();
        for dropped in std::mem::take(&mut self.changes).iter().chain([change]) {
            missed.note(dropped);
        }
        self.bytes = 0;
        self.missed = Some(missed);
    }

    fn take(&mut self) -> Option<Delivery> {
        if let Some(missed) = self.missed.take() {
            return Some(Delivery::Missed(missed));
        }
        let change = self.changes.pop_front()?;
        self.bytes = self.bytes.saturating_sub(change.size());
        Some(Delivery::Change(change))
    }
}

#[derive(Debug)]
struct Queue {
    interest: Interest,
    pending: Mutex<Pending>,
    /// Has one waiter at most.
    woken: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }

    fn push(&self, change: &Arc<RoomChange>) {
        if !self.interest.covers(change) {
            return;
        }
        let mut pending = self.lock();
        if !pending.closed {
            pending.push(change);
        }
        drop(pending);
        self.woken.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_one();
    }
}

/// A subscription; ends when dropped.
#[derive(Debug)]
pub struct Changes {
    queue: Arc<Queue>,
}

impl Changes {
    /// Waits for the next change; `None` when the bus is closed and everything is delivered. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        // A subscriber with a long queue must leave time for other tasks.
        tokio::task::coop::consume_budget().await;
        loop {
            let woken = self.queue.woken.notified();
            {
                let mut pending = self.queue.lock();
                if let Some(delivery) = pending.take() {
                    return Some(delivery);
                }
                if pending.closed {
                    return None;
                }
            }
            woken.await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let closed = Pending {
            closed: true,
            ..Pending::default()
        };
        // What was queued is freed after the lock is released.
        let queued = std::mem::replace(&mut *self.queue.lock(), closed);
        drop(queued);
    }
}

/// The bus of one process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LocalBus {
    subscribers: Arc<Mutex<Subscribers>>,
}

#[derive(Debug, Clone, Default)]
struct Subscribers {
    /// Replaced as a whole, so that nothing is notified under the lock.
    queues: Arc<[Arc<Queue>]>,
    closed: bool,
}

impl LocalBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the subscriptions after what was published until now. Later changes are dropped.
    pub fn close(&self) {
        let queues = {
            let mut subscribers = self.lock();
            subscribers.closed = true;
            Arc::clone(&subscribers.queues)
        };
        queues.iter().for_each(|queue| queue.close());
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock()
    }
}

impl ChangeBus for LocalBus {
    fn publish(&self, change: Arc<RoomChange>) {
        let queues = Arc::clone(&self.lock().queues);
        queues.iter().for_each(|queue| queue.push(&change));
    }

    fn subscribe(&self, interest: Interest) -> Changes {
        let mut subscribers = self.lock();
        let queue = Arc::new(Queue {
            interest,
            pending: Mutex::new(Pending {
                closed: subscribers.closed,
                ..Pending::default()
            }),
            woken: Notify::new(),
        });
        let live = subscribers.queues.iter().filter(|queue| !queue.lock().closed);
        subscribers.queues = live.cloned().chain([Arc::clone(&queue)]).collect();
        Changes { queue }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ruma::{owned_server_name, owned_user_id, room_id};

    use super::*;
    use crate::LiveEdit;

    fn change(position: u64, bytes: usize) -> RoomChange {
        RoomChange {
            position,
            edits: vec![LiveEdit {
                update: Bytes::from(vec![0; bytes]),
                author: owned_user_id!("@alice:a.example"),
                session: None,
                version: 1,
            }],
            ..RoomChange::new(room_id!("!r:a.example"), Lane::FIRST)
        }
    }

    fn publish(bus: &LocalBus, position: u64, bytes: usize) {
        bus.publish(Arc::new(change(position, bytes)));
    }

    async fn position(changes: &mut Changes) -> Option<u64> {
        match changes.next().await {
            Some(Delivery::Change(change)) => Some(change.position),
            Some(Delivery::Missed(missed)) => panic!("{missed:?}"),
            None => None,
        }
    }

    #[tokio::test]
    async fn each_subscriber_gets_the_changes_in_order_until_the_bus_is_closed() {
        let bus = LocalBus::new();
        let (mut one, mut other) = (bus.subscribe(Interest::All), bus.subscribe(Interest::All));
        (1..=3).for_each(|number| publish(&bus, number, 1));
        bus.close();
        publish(&bus, 4, 1);
        for changes in [&mut one, &mut other] {
            for expected in [Some(1), Some(2), Some(3), None] {
                assert_eq!(position(changes).await, expected);
            }
        }
        assert_eq!(position(&mut bus.subscribe(Interest::All)).await, None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_gets_the_positions_that_it_missed_and_continues() {
        let bus = LocalBus::new();
        let (mut slow, mut fast) = (bus.subscribe(Interest::All), bus.subscribe(Interest::All));
        let last = u64::try_from(MAX_QUEUED).unwrap() + 5;
        let second = Lane::new(1).unwrap();
        for number in 1..=last {
            let mut one = change(number, 1);
            one.reload = number == 7;
            if number == 8 {
                (one.lane, one.position) = (second, 3);
            }
            let expected = one.position;
            bus.publish(Arc::new(one));
            assert_eq!(position(&mut fast).await, Some(expected), "others are not affected");
        }
        let Some(Delivery::Missed(missed)) = slow.next().await else {
            panic!("nothing is missing")
        };
        let expected = Missed {
            positions: BTreeMap::from([(Lane::FIRST, last), (second, 3)]),
            reload: true,
        };
        assert_eq!(missed, expected);
        publish(&bus, last + 1, 1);
        assert_eq!(position(&mut slow).await, Some(last + 1));
    }

    #[tokio::test]
    async fn the_bytes_of_a_queue_are_limited() {
        let bus = LocalBus::new();
        let mut slow = bus.subscribe(Interest::All);
        (1..=4).for_each(|number| publish(&bus, number, MAX_QUEUED_BYTES / 3));
        let missed = slow.next().await;
        assert!(matches!(missed, Some(Delivery::Missed(missed)) if missed.positions[&Lane::FIRST] == 4));
        assert_eq!(slow.queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn a_subscriber_for_other_servers_gets_only_their_changes() {
        let bus = LocalBus::new();
        let mut sender = bus.subscribe(Interest::OtherServers);
        publish(&bus, 1, 1);
        let mut sent = change(2, 1);
        sent.destinations = vec![owned_server_name!("b.example")];
        bus.publish(Arc::new(sent));
        assert_eq!(position(&mut sender).await, Some(2));
    }

    #[tokio::test]
    async fn a_subscription_that_ended_keeps_nothing() {
        let bus = LocalBus::new();
        let ended = Arc::clone(&bus.subscribe(Interest::All).queue);
        publish(&bus, 1, 1);
        assert!(ended.lock().changes.is_empty());
        let _next = bus.subscribe(Interest::All);
        assert_eq!(bus.lock().queues.len(), 1);
    }

    /// The bus is used by workers, subscribers and the stop at the same time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_change_is_delivered_or_reported_as_missed() {
        const ROOMS: u16 = 4;
        const EACH: u64 = 5_000;
        let bus = LocalBus::new();
        let mut changes = bus.subscribe(Interest::All);
        let reader = tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            while let Some(delivery) = changes.next().await {
                match delivery {
                    Delivery::Change(change) => {
                        let before = seen.insert(change.lane, change.position).unwrap_or(0);
                        assert!(before < change.position, "the order of a room is kept");
                    }
                    Delivery::Missed(missed) => seen.extend(missed.positions),
                }
            }
            seen
        });
        let mut workers = tokio::task::JoinSet::new();
        for room in 0..ROOMS {
            let bus = bus.clone();
            workers.spawn(async move {
                for number in 1..=EACH {
                    let lane = Lane::new(room).unwrap();
                    bus.publish(Arc::new(RoomChange {
                        lane,
                        ..change(number, 1)
                    }));
                    if number % 64 == 0 {
                        drop(bus.subscribe(Interest::All));
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
        workers.join_all().await;
        bus.close();
        let seen = reader.await.unwrap();
        assert_eq!(seen.len(), usize::from(ROOMS));
        assert!(seen.values().all(|last| *last == EACH), "{seen:?}");
    }

    #[test]
    fn a_change_survives_serialisation() {
        let mut sent = change(3, 2);
        sent.lane = Lane::new(2).unwrap();
        sent.destinations = vec![owned_server_name!("b.example")];
        sent.access_changed = true;
        let text = serde_json::to_string(&sent).unwrap();
        let received: RoomChange = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&received).unwrap(), text);
        assert_eq!((received.position, received.edits.len()), (3, 1));
        assert_eq!(received.lane, sent.lane);
    }
}
