//! Servers connected by function calls: a substitute for federation, with partitions, losses and power failures.
#![allow(clippy::too_many_arguments, unreachable_pub, reason = "test support")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use weft_clock::testing::RuntimeClock;
use weft_dag::{Draft, Pdu, Placement, RoomVersion, Signer, Unchecked, Verified, testing};
use weft_room::{OutOfBandMembership, RoomConfig, Rooms};
use weft_room_api::{
    Clock, ConnectionId, CreateRoom, Edit, EditOutcome, Identity, Incarnation, JoinedRoom, NewEvent, PeerError, Peers,
    Ports, RoomChange, RoomError, StateIds, Template, TemplateKind,
    testing::{ObservedBus, SerialisedRouter},
};
use weft_store::{
    Store,
    engine::{Engine as _, Op, WriteBatch},
    memory::{Fault, MemoryDisk, MemoryEngine, Tail},
};
use weft_wire::{document::DocumentKind, update::UpdateContent};
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, Transact as _, Update,
    updates::decoder::Decode as _,
};

use super::gate::{Gate, GatedEngine};

/// Bytes of staged events of one room.
pub const STAGED_BYTES: u64 = 4 << 20;

pub fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

struct TestIdentity(Arc<Signer>);

impl Identity for TestIdentity {
    fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.0)
    }
    fn server_name(&self) -> &ServerName {
        self.0.server_name()
    }
}

/// From, to: the queued events.
type Queues = BTreeMap<(OwnedServerName, OwnedServerName), VecDeque<Arc<Pdu>>>;

/// Queued events, and the notification of activity.
#[derive(Default)]
struct Wire {
    queues: Mutex<Queues>,
    happened: Notify,
    /// The number of requests between servers.
    requests: AtomicU64,
    cut: AtomicBool,
    refuse_missing: AtomicBool,
    redact_history: AtomicBool,
    refuse_history: AtomicBool,
    /// Servers that accept requests and don't answer.
    silent: Mutex<BTreeSet<OwnedServerName>>,
    /// Servers whose answers don't arrive before the deadline of the request, and that deadline.
    slow: Mutex<HashMap<OwnedServerName, Duration>>,
    /// Requests that wait for such servers now.
    unanswered: AtomicU64,
    responsive: Notify,
    /// The answer of a server to a request for the ancestors of these events: each has a gap before it.
    gaps: Mutex<HashMap<OwnedEventId, Arc<Pdu>>>,
}

/// A request that is counted until it is answered or cancelled.
struct Unanswered<'a>(&'a AtomicU64);

impl<'a> Unanswered<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wire {
    /// The events that the server returns as missing before others of them.
    fn gaps_before(&self, from: &ServerName, latest: &[OwnedEventId]) -> Vec<Arc<Pdu>> {
        let gaps = self.gaps.lock().unwrap();
        let asked = latest.iter().filter_map(|id| gaps.get(id));
        let before = asked.flat_map(|pdu| pdu.prev_events()).filter_map(|id| gaps.get(id));
        before
            .filter(|pdu| pdu.sender().server_name() == from)
            .cloned()
            .collect()
    }

    async fn until_responsive(&self, server: &ServerName) {
        let is_silent = || self.silent.lock().unwrap().contains(server);
        if !is_silent() {
            return;
        }
        let _unanswered = Unanswered::new(&self.unanswered);
        self.happened.notify_waiters();
        loop {
            let responsive = self.responsive.notified();
            tokio::pin!(responsive);
            responsive.as_mut().enable();
            if !is_silent() {
                return;
            }
            responsive.await;
        }
    }
}

struct Sink {
    from: OwnedServerName,
    wire: Arc<Wire>,
}

impl Sink {
    fn enqueue(&self, change: &RoomChange) {
        let mut queues = self.wire.queues.lock().unwrap();
        for to in &change.destinations {
            let queue = queues.entry((self.from.clone(), to.clone())).or_default();
            // Only what this server distributes: events of its own users, and those that it relays.
            queue.extend(
                change
                    .events
                    .iter()
                    .filter(|event| event.visible)
                    .map(|event| Arc::clone(&event.pdu)),
            );
        }
        drop(queues);
        self.wire.happened.notify_waiters();
    }
}

struct Server {
    rooms: Rooms,
    router: Arc<SerialisedRouter>,
    store: Store,
    disk: MemoryDisk,
    gate: Arc<Gate>,
}

/// All servers.
pub struct Net {
    inner: Arc<Inner>,
    clients: AtomicU64,
}

struct Inner {
    servers: Mutex<HashMap<OwnedServerName, Server>>,
    wire: Arc<Wire>,
    clock: Arc<RuntimeClock>,
    text_eviction: Duration,
    staged_bytes: u64,
}

struct TestPeers(OnceLock<Weak<Inner>>);

pub fn check(pdu: &Pdu, version: &RoomVersion) -> Verified {
    let unchecked = Unchecked::parse(pdu.json(), version).unwrap();
    let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
    unchecked.verify(&keys).unwrap()
}

impl TestPeers {
    fn wire(&self) -> Arc<Wire> {
        Arc::clone(&self.0.get().and_then(Weak::upgrade).unwrap().wire)
    }

    fn check_history(&self, from: &ServerName) -> Result<(), PeerError> {
        let inner = self.0.get().and_then(Weak::upgrade).unwrap();
        if inner.wire.refuse_history.load(Ordering::Relaxed) {
            return Err(refused(from));
        }
        Ok(())
    }

    async fn rooms(&self, server: &ServerName) -> Result<Rooms, PeerError> {
        let wire = self.wire();
        wire.requests.fetch_add(1, Ordering::Relaxed);
        wire.until_responsive(server).await;
        let deadline = wire.slow.lock().unwrap().get(server).copied();
        if let Some(deadline) = deadline {
            tokio::time::sleep(deadline).await;
            return Err(PeerError::Unreachable {
                server: server.to_string(),
                reason: "the answer is not complete in time".into(),
            });
        }
        let inner = self.0.get().and_then(Weak::upgrade).unwrap();
        if inner.wire.cut.load(Ordering::Relaxed) {
            return Err(PeerError::Unreachable {
                server: server.to_string(),
                reason: "cut".into(),
            });
        }
        let servers = inner.servers.lock().unwrap();
        Ok(servers[server].rooms.clone())
    }
}

fn refused(server: &ServerName) -> PeerError {
    PeerError::Refused {
        server: server.to_string(),
        reason: "not found".into(),
    }
}

#[async_trait]
impl Peers for TestPeers {
    async fn missing_events(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let rooms = self.rooms(from).await?;
        let gaps_before = self.wire().gaps_before(from, latest);
        if !gaps_before.is_empty() {
            return Ok(gaps_before.iter().map(|pdu| check(pdu, version)).collect());
        }
        if self
            .0
            .get()
            .and_then(Weak::upgrade)
            .unwrap()
            .wire
            .refuse_missing
            .load(Ordering::Relaxed)
        {
            return Err(refused(from));
        }
        let events = rooms
            .reader()
            .missing_events(room, earliest, latest, limit.min(10))
            .await
            .unwrap();
        Ok(events.iter().map(|pdu| check(pdu, version)).collect())
    }

    async fn event(&self, version: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        let event = self.rooms(from).await?.reader().event(None, id).await.unwrap();
        event.map(|pdu| check(&pdu, version)).ok_or_else(|| refused(from))
    }

    async fn events(
        &self,
        version: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        self.check_history(from)?;
        let rooms = self.rooms(from).await?;
        let mut events = Vec::new();
        for id in ids {
            events.extend(
                rooms
                    .reader()
                    .event(None, id)
                    .await
                    .unwrap()
                    .map(|pdu| check(&pdu, version)),
            );
        }
        Ok(events)
    }

    async fn state_ids(&self, room: &RoomId, from: &ServerName, at: &EventId) -> Result<StateIds, PeerError> {
        self.rooms(from)
            .await?
            .reader()
            .state_ids(room, at)
            .await
            .unwrap()
            .ok_or_else(|| refused(from))
    }

    async fn backfill(
        &self,
        room: &RoomId,
        version: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        self.check_history(from)?;
        let rooms = self.rooms(from).await?;
        let events = rooms.reader().backfill(room, before, limit).await.unwrap();
        let inner = self.0.get().and_then(Weak::upgrade).unwrap();
        let redacted = inner.wire.redact_history.load(Ordering::Relaxed);
        let copy = |pdu: &Arc<Pdu>| match redacted {
            true => check(&weft_dag::redact::redact(pdu, version).unwrap(), version),
            false => check(pdu, version),
        };
        Ok(events.iter().map(copy).collect())
    }
}

impl Inner {
    async fn start(self: &Arc<Self>, name: &ServerName, engine: MemoryEngine) {
        let disk = engine.disk();
        let gate = Arc::new(Gate::default());
        let gated = GatedEngine {
            engine,
            gate: Arc::clone(&gate),
        };
        let store = Store::open(gated).await.unwrap();
        let others = TestPeers(OnceLock::new());
        others.0.set(Arc::downgrade(self)).unwrap();
        let config = RoomConfig {
            seal_idle: Duration::from_millis(20),
            seal_max: Duration::from_millis(40),
            staged_bytes_per_room: self.staged_bytes,
            text_eviction: self.text_eviction,
            ..RoomConfig::default()
        };
        let sink = Sink {
            from: name.to_owned(),
            wire: Arc::clone(&self.wire),
        };
        let ports = Ports {
            changes: ObservedBus::new(move |change| sink.enqueue(change)),
            peers: Arc::new(others),
            clock: self.clock.clone(),
        };
        let rooms = Rooms::start(
            config,
            store.clone(),
            Arc::new(TestIdentity(testing::signer(name))),
            ports,
        );
        let mut router = None;
        // As if each caller were in another process.
        let rooms = rooms.routed(|local| router.insert(SerialisedRouter::new(local)).clone());
        self.servers.lock().unwrap().insert(
            name.to_owned(),
            Server {
                rooms,
                router: router.unwrap(),
                store,
                disk,
                gate,
            },
        );
    }
}

impl Net {
    pub async fn new(names: &[&str]) -> Self {
        Self::with_text_eviction(names, RoomConfig::default().text_eviction).await
    }

    /// Servers with the usual budgets, which stage thousands of events.
    pub async fn with_usual_budgets(names: &[&str]) -> Self {
        let RoomConfig {
            text_eviction,
            staged_bytes_per_room,
            ..
        } = RoomConfig::default();
        Self::with(names, text_eviction, staged_bytes_per_room).await
    }

    /// Servers whose texts leave memory after this time.
    pub async fn with_text_eviction(names: &[&str], text_eviction: Duration) -> Self {
        Self::with(names, text_eviction, STAGED_BYTES).await
    }

    async fn with(names: &[&str], text_eviction: Duration, staged_bytes: u64) -> Self {
        let inner = Arc::new(Inner {
            servers: Mutex::default(),
            wire: Arc::default(),
            clock: Arc::new(RuntimeClock::distinct(1_800_000_000_000)),
            text_eviction,
            staged_bytes,
        });
        for name in names {
            inner
                .start(&ServerName::parse(*name).unwrap(), MemoryEngine::new())
                .await;
        }
        Self {
            inner,
            clients: AtomicU64::new(1),
        }
    }

    pub fn rooms(&self, server: &str) -> Rooms {
        let name = ServerName::parse(server).unwrap();
        self.inner.servers.lock().unwrap()[&name].rooms.clone()
    }

    pub fn store(&self, server: &str) -> Store {
        let name = ServerName::parse(server).unwrap();
        self.inner.servers.lock().unwrap()[&name].store.clone()
    }

    /// Can block a read of a server's store.
    pub fn gate(&self, server: &str) -> Arc<Gate> {
        let name = ServerName::parse(server).unwrap();
        Arc::clone(&self.inner.servers.lock().unwrap()[&name].gate)
    }

    /// The names of the commands that the rooms of all servers answered.
    pub fn commands(&self) -> BTreeSet<&'static str> {
        let servers = self.inner.servers.lock().unwrap();
        servers.values().flat_map(|server| server.router.seen()).collect()
    }

    fn of(&self, id: &str) -> Rooms {
        self.rooms(user(id).server_name().as_str())
    }

    fn names(&self) -> Vec<OwnedServerName> {
        let mut names: Vec<_> = self.inner.servers.lock().unwrap().keys().cloned().collect();
        names.sort();
        names
    }

    // --- Network ---------------------------------------------------------------------------------------------

    pub fn cut(&self, _seed: u64) {
        self.inner.wire.cut.store(true, Ordering::Relaxed);
    }

    /// Drops the queued events.
    pub fn lose(&self) {
        self.inner.wire.queues.lock().unwrap().clear();
    }

    /// From now on this server accepts requests and doesn't answer.
    pub fn silence(&self, server: &str) {
        let server = ServerName::parse(server).unwrap();
        self.inner.wire.silent.lock().unwrap().insert(server);
    }

    /// All servers answer, also pending requests.
    pub fn answer_slowly(&self, server: &str, deadline: Duration) {
        let name = ServerName::parse(server).unwrap();
        self.inner.wire.slow.lock().unwrap().insert(name, deadline);
    }

    pub fn answer_again(&self) {
        self.inner.wire.silent.lock().unwrap().clear();
        self.inner.wire.responsive.notify_waiters();
    }

    /// Requests that are not answered now.
    pub fn unanswered(&self) -> u64 {
        self.inner.wire.unanswered.load(Ordering::Relaxed)
    }

    /// For a request for the ancestors of one of these events, their server returns others of them, and no event of its
    /// room.
    pub fn answer_with_gaps(&self, events: &[Verified]) {
        let events = events
            .iter()
            .map(|event| (event.pdu().event_id().to_owned(), Arc::clone(event.pdu())));
        self.inner.wire.gaps.lock().unwrap().extend(events);
    }

    pub fn requests(&self) -> u64 {
        self.inner.wire.requests.load(Ordering::Relaxed)
    }

    /// No server returns the history from before a join, neither by backfill nor event by event.
    pub fn refuse_history(&self, refuse: bool) {
        self.inner.wire.refuse_history.store(refuse, Ordering::Relaxed);
    }

    /// From now on backfill returns redacted copies, as for a server that must not see the content.
    pub fn redact_history(&self) {
        self.inner.wire.redact_history.store(true, Ordering::Relaxed);
    }

    pub fn refuse_missing_events(&self, refuse: bool) {
        self.inner.wire.refuse_missing.store(refuse, Ordering::Relaxed);
    }

    /// Delivers queued events: by server in an order that follows from the seed, in transactions of a few events.
    pub async fn heal(&self, seed: u64) {
        self.inner.wire.cut.store(false, Ordering::Relaxed);
        let mut waiting: Vec<_> = std::mem::take(&mut *self.inner.wire.queues.lock().unwrap())
            .into_iter()
            .collect();
        let rotation = usize::try_from(seed).unwrap() % waiting.len().max(1);
        waiting.rotate_left(rotation);
        let mut left = true;
        while left {
            left = false;
            for ((from, to), queue) in &mut waiting {
                let take = (usize::try_from(seed).unwrap() % 4 + 1).min(queue.len());
                let events: Vec<Arc<Pdu>> = queue.drain(..take).collect();
                self.deliver(from, to, events).await;
                left |= !queue.is_empty();
            }
        }
    }

    async fn deliver(&self, from: &ServerName, to: &ServerName, events: Vec<Arc<Pdu>>) {
        let rooms = self.rooms(to.as_str());
        let mut verified = Vec::new();
        for pdu in events {
            // As in federation: the end of an invitation is handled out of band, because this server is not in the
            // room.
            let about = pdu.state_key().and_then(|key| UserId::parse(key).ok());
            if let Some(about) = about
                && rooms.reader().outside(&about, pdu.room_id()).await.unwrap().is_some()
            {
                rooms.withdrawn(&pdu).await.unwrap();
                continue;
            }
            if let Some(version) = rooms.reader().version(pdu.room_id()).await.unwrap() {
                verified.push(check(&pdu, &version));
            }
        }
        rooms.receive(from, verified).await.unwrap();
    }

    async fn pump(&self) -> bool {
        if self.inner.wire.cut.load(Ordering::Relaxed) {
            return false;
        }
        let waiting = std::mem::take(&mut *self.inner.wire.queues.lock().unwrap());
        let any = !waiting.is_empty();
        for ((from, to), queue) in waiting {
            self.deliver(&from, &to, queue.into()).await;
        }
        any
    }

    /// Delivers until the condition holds. Each commit wakes it.
    pub async fn until<F: Future<Output = bool>>(&self, condition: impl Fn() -> F) {
        let wait = async {
            loop {
                let happened = self.inner.wire.happened.notified();
                tokio::pin!(happened);
                happened.as_mut().enable();
                self.pump().await;
                if condition().await {
                    return;
                }
                // Backfilled events cause no notification.
                let _ = tokio::time::timeout(Duration::from_millis(25), happened).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
            "the condition does not hold in time"
        );
    }

    /// Waits until every edit is sealed, everything is delivered, and all servers in the room have the same forward
    /// extremities.
    pub async fn quiet(&self, room: &RoomId) {
        for name in self.names() {
            let rooms = self.rooms(name.as_str());
            if self.is_in(&name, room).await {
                rooms.seal(room).await.unwrap();
            }
        }
        self.until(|| async {
            let mut extremities = Vec::new();
            for name in self.names() {
                if self.is_in(&name, room).await {
                    let mut of = self.rooms(name.as_str()).reader().extremities(room).await.unwrap();
                    of.sort();
                    extremities.push(of);
                }
            }
            let empty = self.inner.wire.queues.lock().unwrap().values().all(VecDeque::is_empty);
            empty && extremities.windows(2).all(|pair| pair[0] == pair[1])
        })
        .await;
    }

    async fn is_in(&self, name: &ServerName, room: &RoomId) -> bool {
        self.rooms(name.as_str())
            .reader()
            .servers_in(room)
            .await
            .unwrap()
            .contains(name)
    }

    pub async fn power_loss(&self, server: &str, tail: Tail) {
        self.power_loss_with(server, tail, Vec::new()).await;
    }

    /// The same; the disk then has these rows, as written by another program.
    pub async fn power_loss_with(&self, server: &str, tail: Tail, ops: Vec<Op>) {
        let name = ServerName::parse(server).unwrap();
        let disk = self.inner.servers.lock().unwrap().remove(&name).unwrap().disk;
        disk.power_loss(tail);
        let engine = disk.open();
        let fences = Vec::new();
        for written in engine.commit(vec![WriteBatch { ops, fences }]).await {
            written.unwrap();
        }
        self.inner.start(&name, engine).await;
    }

    /// The fault of a server's disk after this number of commits.
    pub fn plan(&self, server: &str, commits: u64, fault: Fault) {
        let name = ServerName::parse(server).unwrap();
        let servers = self.inner.servers.lock().unwrap();
        servers[&name].disk.plan(commits, fault);
    }

    // --- Rooms ---------------------------------------------------------------------------------------------------

    pub async fn document(&self, creator: &str, version: &RoomVersionId) -> OwnedRoomId {
        let request = CreateRoom {
            version: Some(version.clone()),
            document: Some(DocumentKind::Text),
            ..CreateRoom::default()
        };
        self.of(creator).create(&user(creator), request).await.unwrap()
    }

    pub async fn state_event(
        &self,
        who: &str,
        room: &RoomId,
        kind: &str,
        content: Value,
    ) -> Result<OwnedEventId, RoomError> {
        self.of(who).send(room, new_event(who, kind, Some(""), content)).await
    }

    /// A user changes the membership of another.
    pub async fn end_membership(&self, who: &str, room: &RoomId, whom: &str, membership: &str) {
        let content = json!({ "membership": membership, "reason": "r".repeat(2_000) });
        let event = new_event(who, "m.room.member", Some(whom), content);
        self.of(who).send(room, event).await.unwrap();
    }

    pub async fn topic(&self, who: &str, room: &RoomId, topic: &str) {
        self.state_event(who, room, "m.room.topic", json!({ "topic": topic }))
            .await
            .unwrap();
    }

    pub async fn message(&self, who: &str, room: &RoomId, text: &str) -> OwnedEventId {
        let event = new_event(
            who,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": text }),
        );
        self.of(who).send(room, event).await.unwrap()
    }

    pub async fn power(&self, who: &str, room: &RoomId, whom: &str, level: i64) {
        let levels = self
            .of(who)
            .reader()
            .state_event(room, "m.room.power_levels", "")
            .await
            .unwrap()
            .unwrap();
        let mut levels: Value = levels.content_as().unwrap();
        levels["users"][whom] = json!(level);
        levels["events"]["m.room.message"] = json!(0);
        self.state_event(who, room, "m.room.power_levels", levels)
            .await
            .unwrap();
    }

    pub async fn invite(&self, who: &str, whom: &str, room: &RoomId) {
        let content = json!({ "membership": "invite" });
        let event = new_event(who, "m.room.member", Some(whom), content);
        let unsent = self.of(who).draft(room, event).await.unwrap();
        let version = RoomVersion::new(&unsent.version).unwrap();
        let theirs = testing::signer(user(whom).server_name());
        let both = theirs.cosign(&check(&unsent.event, &version), &version).unwrap();
        self.of(whom)
            .invited(OutOfBandMembership {
                event: both.clone(),
                version: unsent.version,
                resident: user(who).server_name().to_owned(),
                stripped: unsent.stripped,
                user: user(whom),
            })
            .await
            .unwrap();
        self.of(who)
            .accept_membership(user(whom).server_name(), both)
            .await
            .unwrap();
    }

    /// The resident server's answer to a join.
    pub async fn join_answer(&self, who: &str, room: &RoomId) -> JoinedRoom {
        let template = Template {
            user: user(who),
            kind: TemplateKind::Join,
        };
        let via = self.rooms("a.example");
        let (version, object) = via.template(room, template).await.unwrap();
        let version = RoomVersion::new(&version).unwrap();
        let unchecked = sign_template(who, room, &object, &version);
        let restricted = object["content"]
            .as_object()
            .unwrap()
            .contains_key("join_authorised_via_users_server");
        let ours = testing::signer(&ServerName::parse("a.example").unwrap());
        let unchecked = if restricted {
            unchecked.cosigned(&ours).unwrap()
        } else {
            unchecked
        };
        let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
        let event = unchecked.verify(&keys).unwrap();
        let answer = via.accept_membership(user(who).server_name(), event).await.unwrap();
        self.joined(&answer, room).await
    }

    /// The same answer again.
    pub async fn join_again(&self, who: &str, room: &RoomId) -> JoinedRoom {
        let via = self.rooms("a.example");
        let member = via
            .reader()
            .state_event(room, "m.room.member", who)
            .await
            .unwrap()
            .unwrap();
        let version = via.reader().version(room).await.unwrap().unwrap();
        let answer = via
            .accept_membership(user(who).server_name(), check(&member, &version))
            .await
            .unwrap();
        self.joined(&answer, room).await
    }

    async fn joined(&self, answer: &weft_room_api::JoinAnswer, room: &RoomId) -> JoinedRoom {
        let version = RoomVersion::new(&answer.version).unwrap();
        let all = |events: &[Arc<Pdu>]| events.iter().map(|pdu| check(pdu, &version)).collect();
        let at = [answer.event.event_id().to_owned()];
        let snapshot = self.rooms("a.example").content(room, Some(&at)).await.unwrap();
        JoinedRoom {
            version: answer.version.clone(),
            state: all(&answer.state),
            auth_chain: all(&answer.auth_chain),
            event: check(&answer.event, &version),
            resident: ServerName::parse("a.example").unwrap(),
            snapshot: Some(snapshot),
        }
    }

    pub async fn join(&self, who: &str, room: &RoomId) {
        let joined = self.join_answer(who, room).await;
        self.of(who).adopt(joined).await.unwrap();
    }

    pub async fn invite_and_join(&self, who: &str, whom: &str, room: &RoomId, power: i64) {
        self.invite(who, whom, room).await;
        self.join(whom, room).await;
        self.power(who, room, whom, power).await;
        let rooms = self.of(whom);
        self.until(|| async { rooms.access(room, &user(whom)).await.unwrap().power == power })
            .await;
    }

    /// `who` sets the membership of `whom`.
    pub async fn member(&self, who: &str, whom: &str, room: &RoomId, membership: &str) {
        let event = new_event(who, "m.room.member", Some(whom), json!({ "membership": membership }));
        self.of(who).send(room, event).await.unwrap();
    }

    /// Waits until a user's server has this membership.
    pub async fn until_member(&self, whom: &str, room: &RoomId, membership: &str) {
        let (theirs, whom) = (self.of(whom), user(whom));
        self.until(|| async { theirs.access(room, &whom).await.unwrap().membership.as_str() == membership })
            .await;
    }

    pub async fn leave(&self, who: &str, room: &RoomId) {
        let event = new_event(who, "m.room.member", Some(who), json!({ "membership": "leave" }));
        self.of(who).send(room, event).await.unwrap();
        let a = self.rooms("a.example");
        let whom = user(who);
        self.until(|| async {
            a.access(room, &whom).await.unwrap().membership == ruma::events::room::member::MembershipState::Leave
        })
        .await;
    }

    /// An event as a server could make it that ignores the rules.
    pub async fn forge(
        &self,
        sender: &str,
        room: &RoomId,
        prev_events: Vec<OwnedEventId>,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> Verified {
        let place = (kind, key, None);
        self.forge_with(sender, room, prev_events, place, content).await
    }

    /// The same for a redaction of any event.
    pub async fn forge_redaction(
        &self,
        sender: &str,
        room: &RoomId,
        prev_events: Vec<OwnedEventId>,
        target: &EventId,
    ) -> Verified {
        // In the content since version 11, a top-level field before.
        let content = json!({ "redacts": target });
        let place = ("m.room.redaction", None, Some(target.to_owned()));
        self.forge_with(sender, room, prev_events, place, content).await
    }

    async fn forge_with(
        &self,
        sender: &str,
        room: &RoomId,
        prev_events: Vec<OwnedEventId>,
        (kind, key, redacts): (&str, Option<&str>, Option<OwnedEventId>),
        content: Value,
    ) -> Verified {
        let state = self.rooms("a.example").reader().state(room).await.unwrap().unwrap();
        let version = state.version();
        let content = testing::object(content);
        let draft = Draft {
            sender: user(sender),
            kind: kind.into(),
            state_key: key.map(ToOwned::to_owned),
            content: content.clone(),
            redacts,
            room_id: Some(room.to_owned()),
        };
        let placement = Placement {
            prev_events,
            auth_events: state.auth_events(kind, &user(sender), key, &content).unwrap(),
            depth: 100,
            origin_server_ts: self.inner.clock.now(),
        };
        let signer = testing::signer(user(sender).server_name());
        check(&draft.sign(version, placement, &signer).unwrap().pdu, version)
    }

    // --- Text ----------------------------------------------------------------------------------------------------

    pub async fn try_edit(&self, who: &str, room: &RoomId, at: u32, text: &str) -> Result<EditOutcome, RoomError> {
        let rooms = self.of(who);
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        let doc = load(client, &rooms.content(room, None).await.unwrap());
        let before = doc.transact().state_vector();
        let body = doc.get_or_insert_text("body");
        body.insert(&mut doc.transact_mut(), at, text);
        let update = doc.transact().encode_diff_v1(&before);
        let edit = Edit {
            user: user(who),
            session: ConnectionId::new(Incarnation(1), client),
            update: Bytes::from(update),
        };
        rooms.edit(room, edit).await
    }

    pub async fn edit(&self, who: &str, room: &RoomId, at: u32, text: &str) {
        assert_eq!(
            self.try_edit(who, room, at, text).await.unwrap(),
            EditOutcome::Journaled
        );
    }

    /// The duration of an edit, without the work of the editor.
    pub async fn timed_edit(&self, who: &str, room: &RoomId) -> Duration {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        let doc = load(client, &Doc::new().transact().encode_diff_v1(&StateVector::default()));
        let body = doc.get_or_insert_text("body");
        body.insert(&mut doc.transact_mut(), 0, "x");
        let edit = Edit {
            user: user(who),
            session: ConnectionId::new(Incarnation(1), client),
            update: Bytes::from(doc.transact().encode_diff_v1(&StateVector::default())),
        };
        let began = std::time::Instant::now();
        self.of(who).edit(room, edit).await.unwrap();
        began.elapsed()
    }

    pub async fn seal(&self, who: &str, room: &RoomId) {
        self.of(who).seal(room).await.unwrap();
    }

    pub async fn text(&self, server: &str, room: &RoomId) -> String {
        read(&self.rooms(server).content(room, None).await.unwrap())
    }

    pub async fn state(&self, server: &str, room: &RoomId) -> weft_dag::StateMap {
        self.rooms(server).reader().state(room).await.unwrap().unwrap().map()
    }

    /// All servers in the room have the same state and text, and the text follows from the events alone.
    pub async fn assert_same(&self, room: &RoomId) {
        let mut seen = Vec::new();
        for name in self.names() {
            if self.is_in(&name, room).await {
                let text = self.text(name.as_str(), room).await;
                seen.push((text, self.state(name.as_str(), room).await));
            }
        }
        assert!(
            seen.windows(2).all(|pair| pair[0] == pair[1]),
            "{:?}",
            seen.iter().map(|(text, _)| text).collect::<Vec<_>>()
        );
        for name in self.names() {
            if self.is_in(&name, room).await {
                // Once all events are backfilled.
                self.until(|| async { self.text_of_events(&name, room).await == seen[0].0 })
                    .await;
            }
        }
        for name in self.names() {
            if self.is_in(&name, room).await {
                assert_eq!(self.text(name.as_str(), room).await, seen[0].0);
            }
        }
    }

    async fn text_of_events(&self, server: &ServerName, room: &RoomId) -> String {
        let rooms = self.rooms(server.as_str());
        let extremities = rooms.reader().extremities(room).await.unwrap();
        read(&rooms.content(room, Some(&extremities)).await.unwrap())
    }
}

pub fn new_event(who: &str, kind: &str, key: Option<&str>, content: Value) -> NewEvent {
    let content: Map<String, Value> = content.as_object().unwrap().clone();
    NewEvent {
        sender: user(who),
        kind: kind.into(),
        state_key: key.map(ToOwned::to_owned),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    }
}

/// Builds the event from the known fields, as federation does.
fn sign_template(who: &str, room: &RoomId, object: &ruma::CanonicalJsonObject, version: &RoomVersion) -> Unchecked {
    let value = serde_json::to_value(object).unwrap();
    let draft = Draft {
        sender: user(who),
        kind: "m.room.member".into(),
        state_key: Some(who.into()),
        content: object["content"].as_object().unwrap().clone(),
        redacts: None,
        room_id: Some(room.to_owned()),
    };
    let placement = Placement {
        prev_events: serde_json::from_value(value["prev_events"].clone()).unwrap(),
        auth_events: serde_json::from_value(value["auth_events"].clone()).unwrap(),
        depth: value["depth"].as_u64().unwrap(),
        origin_server_ts: serde_json::from_value(value["origin_server_ts"].clone()).unwrap(),
    };
    let signed = draft
        .sign(version, placement, &testing::signer(user(who).server_name()))
        .unwrap();
    Unchecked::parse(signed.pdu.json(), version).unwrap()
}

fn load(client: u64, update: &[u8]) -> Doc {
    let doc = Doc::with_options(Options {
        client_id: yrs::block::ClientID::new(client),
        offset_kind: OffsetKind::Utf16,
        ..Options::default()
    });
    doc.get_or_insert_text("body");
    doc.transact_mut()
        .apply_update(Update::decode_v1(update).unwrap())
        .unwrap();
    doc
}

pub fn read(update: &[u8]) -> String {
    let doc = load(999_999, update);
    let body = doc.get_or_insert_text("body");
    let transaction = doc.transact();
    body.get_string(&transaction)
}

/// The content of an update event by a new client id.
pub fn update_content(client: u64, text: &str) -> Value {
    let doc = load(client, &Doc::new().transact().encode_diff_v1(&StateVector::default()));
    let body = doc.get_or_insert_text("body");
    body.insert(&mut doc.transact_mut(), 0, text);
    let update = doc.transact().encode_diff_v1(&StateVector::default());
    let end = u32::try_from(text.encode_utf16().count()).unwrap();
    serde_json::to_value(UpdateContent::new(&update, [(client, (0, end))])).unwrap()
}
