//! One server of a run: its rooms on a memory disk, and the tasks that empty its outbox.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};
use tokio::{sync::Notify, task::JoinHandle};
use weft_clock::{Clock as _, testing::RuntimeClock};
use weft_federation::outbox::{
    OutboxStore as _,
    queue::{Action, Input, Queue},
};
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{ChangeBus as _, Changes, Delivery, Interest, LocalBus};
use weft_store::{
    Lane, Lanes, OpenOptions, Store,
    memory::{Fault, LaneMove, MemoryDisk, MemoryEngine, Tail},
};
use weft_testkit::{LinkedPeers, RoomsSetup};

use super::{
    network::{Network, ServerLink, clock, name},
    outbox::StoredOutbox,
};

/// The interval at which a task reads its rows without being woken. Longer than the real one: virtual time is fast.
const SWEEP: Duration = Duration::from_secs(20 * 60);

/// See the module.
pub struct Server {
    pub number: usize,
    pub rooms: Rooms,
    pub store: Store,
    disk: MemoryDisk,
    network: Arc<Network>,
    others: usize,
    pub lanes: u16,
    /// The senders, and the task that wakes them.
    tasks: Vec<JoinHandle<()>>,
    /// The process that had the lanes before. It is still running.
    before: Option<Box<Server>>,
}

impl Server {
    /// Starts a server on a new disk; it can reach servers 0 to `others - 1`.
    pub async fn new(number: usize, others: usize, lanes: u16, network: &Arc<Network>) -> Self {
        Self::start((number, others, lanes), network, MemoryEngine::new()).await
    }

    async fn start((number, others, lanes): (usize, usize, u16), network: &Arc<Network>, engine: MemoryEngine) -> Self {
        let disk = engine.disk();
        let options = OpenOptions {
            lanes: Lanes::new(lanes),
            ..OpenOptions::default()
        };
        let store = Store::open_with(engine, options).await.unwrap();
        let clock = Arc::new(clock(network, number));
        let wakes: BTreeMap<OwnedServerName, Arc<Notify>> = (0..others)
            .filter(|other| *other != number)
            .map(|other| (name(other), Arc::default()))
            .collect();
        let bus = LocalBus::new();
        let mut tasks = vec![tokio::spawn(wake_senders(
            bus.subscribe(Interest::OtherServers),
            wakes.clone(),
        ))];
        let setup = RoomsSetup {
            config: config(),
            changes: Arc::new(bus),
            peers: Arc::new(LinkedPeers(ServerLink {
                network: Arc::clone(network),
                me: number,
            })),
            clock: clock.clone(),
            ..RoomsSetup::of(&name(number))
        };
        let rooms = setup.start(&store);
        for (to, wake) in wakes {
            let outbox = StoredOutbox {
                store: store.clone(),
                reader: rooms.reader().clone(),
            };
            let (network, clock) = (Arc::clone(network), Arc::clone(&clock));
            tasks.push(tokio::spawn(send(network, clock, number, to, outbox, wake)));
        }
        network.up(number, rooms.clone());
        // As at a real start.
        rooms.recover().await.unwrap();
        Self {
            number,
            rooms,
            store,
            disk,
            network: Arc::clone(network),
            others,
            lanes,
            tasks,
            before: None,
        }
    }

    /// Another process takes the lanes. This one goes on as the one before.
    pub async fn take_over(&mut self) {
        let config = (self.number, self.others, self.lanes);
        let next = Self::start(config, &self.network, self.disk.attach()).await;
        let mut before = std::mem::replace(self, next);
        before.end_before();
        self.before = Some(Box::new(before));
    }

    /// The rooms of the process that had the lanes before.
    pub fn before(&self) -> Option<Rooms> {
        self.before.as_ref().map(|before| before.rooms.clone())
    }

    fn end_before(&mut self) {
        if let Some(before) = self.before.take() {
            before.tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// The answer to the next commit is lost.
    pub fn doubt(&self, written: bool) {
        let fault = if written {
            Fault::DoubtAfterSync
        } else {
            Fault::DoubtBeforeWrite
        };
        self.disk.plan(0, fault);
    }

    /// Checks that the commits of each lane form one chain, whichever process wrote them, and that its visible position
    /// never falls within an era.
    pub fn check_chain(&self) -> Result<(), String> {
        let mut last: BTreeMap<Lane, LaneMove> = BTreeMap::new();
        for next in self.disk.moves() {
            let Some(before) = last.insert(next.lane, next) else {
                continue;
            };
            let is_next = next.seq == before.seq + 1 && next.epoch >= before.epoch;
            if !is_next || (next.era == before.era && next.visible < before.visible) {
                return Err(format!("s{}: {next:?} follows {before:?}", self.number));
            }
        }
        Ok(())
    }

    /// A graceful stop and a start.
    pub async fn restart(&mut self) {
        self.network.down(self.number);
        self.rooms.stop().await;
        self.start_again(None).await;
    }

    /// A power loss and a start.
    pub async fn power_loss(&mut self, kept: usize) {
        self.network.down(self.number);
        self.start_again(Some(Tail::Torn(kept))).await;
    }

    async fn start_again(&mut self, tail: Option<Tail>) {
        self.end_before();
        for task in self.tasks.drain(..) {
            task.abort();
        }
        match tail {
            Some(tail) => self.disk.power_loss(tail),
            None => self.store.close().await,
        }
        let config = (self.number, self.others, self.lanes);
        *self = Self::start(config, &self.network, self.disk.open()).await;
    }

    /// Whether nothing is waiting to be sent to any of these.
    pub async fn has_sent_all(&self, to: impl Iterator<Item = usize>) -> bool {
        let outbox = StoredOutbox {
            store: self.store.clone(),
            reader: self.rooms.reader().clone(),
        };
        let behind = outbox.backlog().await.unwrap();
        let mut to = to.map(name);
        to.all(|server| !behind.contains(&server))
    }
}

/// Wakes the senders as the program does.
async fn wake_senders(mut changes: Changes, wakes: BTreeMap<OwnedServerName, Arc<Notify>>) {
    while let Some(delivery) = changes.next().await {
        let Delivery::Change(change) = delivery else {
            wakes.values().for_each(|wake| wake.notify_one());
            continue;
        };
        for wake in change.destinations.iter().filter_map(|server| wakes.get(server)) {
            wake.notify_one();
        }
    }
}

/// What the real sender does around the pure queue.
async fn send(
    network: Arc<Network>,
    clock: Arc<RuntimeClock>,
    from: usize,
    to: OwnedServerName,
    outbox: StoredOutbox,
    wake: Arc<Notify>,
) {
    let requested = network.requested(from, super::network::number(&to));
    let mut queue = Queue::new(network.elapsed());
    let retry = outbox.load_retry(&to).await.unwrap_or_default();
    let mut inputs = VecDeque::from([Input::Started(retry)]);
    let mut wake_at = None;
    loop {
        while let Some(input) = inputs.pop_front() {
            for action in queue.step(input, clock.now(), network.dice(u64::MAX)) {
                match action {
                    Action::WakeAt(at) => wake_at = Some(at),
                    action => inputs.extend(perform(&network, &outbox, from, &to, action).await),
                }
            }
        }
        let now: u64 = clock.now().get().into();
        let until = wake_at.map_or(0, |at| u64::from(at.get()).saturating_sub(now).max(1));
        let pause = if queue.is_waiting() {
            Duration::from_millis(until)
        } else {
            SWEEP
        };
        let input = tokio::select! {
            biased;
            () = wake.notified() => Input::Wake,
            () = requested.notified() => Input::Reachable,
            () = tokio::time::sleep(pause) => if queue.is_waiting() { Input::Tick } else { Input::Wake },
        };
        inputs.push_back(input);
    }
}

async fn perform(
    network: &Network,
    outbox: &StoredOutbox,
    from: usize,
    to: &ServerName,
    action: Action,
) -> Option<Input> {
    match action {
        Action::Load { after, limit } => Some(match outbox.pending(to, after, limit).await {
            Ok(rows) => Input::Loaded(rows),
            Err(_) => Input::LoadFailed,
        }),
        Action::Send(outgoing) => {
            let pdus: Vec<String> = outgoing.rows.iter().map(|row| row.pdu.get().to_owned()).collect();
            Some(Input::Sent(
                network.deliver(from, super::network::number(to), &pdus).await,
            ))
        }
        Action::Acknowledge { rows } => {
            // A failure means a power loss.
            let _ = outbox.acknowledge(to, &rows).await;
            Some(Input::Acknowledged)
        }
        Action::SaveRetry(retry) => {
            let _ = outbox.save_retry(to, retry).await;
            None
        }
        Action::WakeAt(_) => None,
        Action::Skipped(event) => {
            network.note(format_args!("s{from} drops {event}"));
            None
        }
    }
}

/// Snapshots are written after few updates, so that each run has checkpoints, and texts leave memory after a short pause.
fn config() -> RoomConfig {
    RoomConfig {
        snapshot_after: 2,
        checkpoint_after: 6,
        text_eviction: Duration::from_millis(700),
        ..RoomConfig::default()
    }
}
