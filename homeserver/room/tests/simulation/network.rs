//! The network between the servers of a run: it delays, reorders, repeats and loses packets as the seed's random
//! numbers determine, and is cut and healed as the plan says. It also records the run's trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use tokio::{sync::Notify, time::Instant};
use weft_clock::testing::RuntimeClock;
use weft_dag::Pdu;
use weft_federation::outbox::queue::SendFailure;
use weft_room::Rooms;
use weft_room_api::PeerError;
use weft_testkit::{Conduct, Link, Request, check_json, refused, unreachable};

/// State that all servers share.
pub struct Network {
    state: Mutex<State>,
    began: Instant,
}

struct State {
    dice: StdRng,
    /// Cut links: (from, to).
    cut: BTreeSet<(usize, usize)>,
    servers: BTreeMap<usize, Rooms>,
    /// Notified on a request: (receiver, requesting server).
    requested: BTreeMap<(usize, usize), Arc<Notify>>,
    /// Events of a malicious server that are not in its own room.
    forged: BTreeMap<OwnedEventId, Arc<Pdu>>,
    malicious: Option<usize>,
    trace: Vec<String>,
    /// The end of a run: no more faults.
    reliable: bool,
}

/// `s0.example`, ...
pub fn name(server: usize) -> OwnedServerName {
    ServerName::parse(format!("s{server}.example")).unwrap()
}

/// The number in a server's name.
pub fn number(name: &ServerName) -> usize {
    name.as_str()[1..name.as_str().len() - ".example".len()]
        .parse()
        .unwrap()
}

impl Network {
    pub fn new(seed: u64, malicious: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                dice: StdRng::seed_from_u64(!seed),
                cut: BTreeSet::new(),
                servers: BTreeMap::new(),
                requested: BTreeMap::new(),
                forged: BTreeMap::new(),
                malicious,
                trace: Vec::new(),
                reliable: false,
            }),
            began: Instant::now(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Milliseconds since the run began.
    pub fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    pub fn note(&self, line: impl std::fmt::Display) {
        let line = format!("{} ms: {line}", self.elapsed());
        // With the rooms' log lines, so that one sees which server does what.
        tracing::debug!(target: "weft_room::network", "{line}");
        self.lock().trace.push(line);
    }

    pub fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().trace)
    }

    pub fn dice(&self, below: u64) -> u64 {
        self.lock().dice.random_range(0..below)
    }

    pub fn up(&self, server: usize, rooms: Rooms) {
        self.lock().servers.insert(server, rooms);
    }

    pub fn down(&self, server: usize) {
        self.lock().servers.remove(&server);
    }

    pub fn cut(&self, from: usize, to: usize) {
        self.lock().cut.insert((from, to));
    }

    pub fn heal(&self, from: usize, to: usize) {
        self.lock().cut.remove(&(from, to));
    }

    /// From now on every link works and loses nothing.
    pub fn stop_faults(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.reliable = true;
    }

    pub fn heal_all(&self) {
        self.lock().cut.clear();
    }

    pub fn keep_forged(&self, pdu: &Arc<Pdu>) {
        self.lock().forged.insert(pdu.event_id().to_owned(), Arc::clone(pdu));
    }

    /// Notified when `whose` makes a request to `who`.
    pub fn requested(&self, who: usize, whose: usize) -> Arc<Notify> {
        Arc::clone(self.lock().requested.entry((who, whose)).or_default())
    }

    /// The rooms of a server, if it can be reached at this moment in both directions.
    pub fn reach(&self, from: usize, to: usize) -> Option<Rooms> {
        let state = self.lock();
        let cut = state.cut.contains(&(from, to)) || state.cut.contains(&(to, from));
        state.servers.get(&to).filter(|_| !cut).cloned()
    }

    /// Some milliseconds; sometimes more.
    pub async fn delay(&self) {
        let milliseconds = {
            let mut state = self.lock();
            if state.dice.random_ratio(1, 8) {
                state.dice.random_range(50..1_500)
            } else {
                state.dice.random_range(1..30)
            }
        };
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    fn happens(&self, of_hundred: u32) -> bool {
        let mut state = self.lock();
        !state.reliable && state.dice.random_ratio(of_hundred, 100)
    }

    /// Delivers a transaction.
    pub async fn deliver(&self, from: usize, to: usize, pdus: &[String]) -> Result<(), SendFailure> {
        self.delay().await;
        if self.happens(5) {
            return Err(SendFailure::Unreachable);
        }
        let times = if self.happens(4) { 2 } else { 1 };
        for _ in 0..times {
            let rooms = self.reach(from, to).ok_or(SendFailure::Unreachable)?;
            self.lock().requested.entry((to, from)).or_default().notify_one();
            receive(&rooms, from, pdus).await.ok_or(SendFailure::Unreachable)?;
        }
        self.note(format_args!("s{from} -> s{to}: {} events", pdus.len()));
        self.delay().await;
        if self.happens(4) || self.reach(from, to).is_none() {
            return Err(SendFailure::Unreachable);
        }
        Ok(())
    }
}

/// What `federation/inbound` does with the events of a transaction: each on its own, without the invalid ones.
async fn receive(rooms: &Rooms, from: usize, pdus: &[String]) -> Option<()> {
    let mut events = Vec::new();
    for json in pdus {
        let room = room_of(json)?;
        rooms.until_joined(&room).await;
        let Some(version) = rooms.reader().version(&room).await.ok()? else {
            continue;
        };
        events.extend(check_json(json, &version));
    }
    rooms.receive(&name(from), events).await.ok().map(drop)
}

fn room_of(json: &str) -> Option<ruma::OwnedRoomId> {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    // Create events of room version 12 have no room id; they are never sent in a transaction.
    RoomId::parse(value["room_id"].as_str()?).ok()
}

/// One server's requests to the others.
pub struct ServerLink {
    pub network: Arc<Network>,
    pub me: usize,
}

impl ServerLink {
    fn reachable(&self, server: &ServerName) -> Result<Rooms, PeerError> {
        let rooms = self.network.reach(self.me, number(server));
        rooms.ok_or_else(|| unreachable(server, "not reachable at this moment"))
    }
}

#[async_trait]
impl Link for ServerLink {
    async fn reach(&self, server: &ServerName) -> Result<Rooms, PeerError> {
        self.network.delay().await;
        if self.network.happens(5) {
            return Err(unreachable(server, "not reachable at this moment"));
        }
        let rooms = self.reachable(server)?;
        self.network
            .lock()
            .requested
            .entry((number(server), self.me))
            .or_default()
            .notify_one();
        Ok(rooms)
    }

    /// A malicious server returns its forged events on request.
    fn conduct(&self, server: &ServerName, request: Request<'_>) -> Conduct {
        let ids = match request {
            Request::Events(ids) => ids,
            Request::Event(id) => &[id.to_owned()],
            _ => return Conduct::Honest,
        };
        if self.network.lock().malicious != Some(number(server)) || self.network.happens(40) {
            return Conduct::Honest;
        }
        let state = self.network.lock();
        Conduct::Adds(ids.iter().filter_map(|id| state.forged.get(id).cloned()).collect())
    }

    /// As in `gateway/server/gate.rs`.
    async fn allowed(
        &self,
        rooms: &Rooms,
        room: &RoomId,
        server: &ServerName,
        at: &[OwnedEventId],
        extremities: &[OwnedEventId],
    ) -> Result<Vec<OwnedEventId>, PeerError> {
        let allowed = rooms
            .reader()
            .may_ask_about(room, &name(self.me), at, extremities)
            .await;
        let allowed = allowed.map_err(|_| unreachable(server, "its store can't be read"))?;
        if allowed.is_empty() && !at.is_empty() {
            return Err(refused(server));
        }
        Ok(allowed)
    }

    async fn answered(&self, server: &ServerName) -> Result<(), PeerError> {
        self.network.delay().await;
        self.reachable(server).map(drop)
    }

    fn page_sizes(&self) -> (usize, usize) {
        (20, 40)
    }
}

/// A server's clock: the virtual time with a small offset.
pub fn clock(network: &Network, server: usize) -> RuntimeClock {
    RuntimeClock::since(network.began, 1_800_000_000_000 + server as u64 * 137)
}
