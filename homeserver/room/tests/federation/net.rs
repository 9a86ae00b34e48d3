//! Servers connected by function calls: a substitute for federation, with partitions, losses and power failures.
#![allow(clippy::too_many_arguments, unreachable_pub, reason = "test support")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::{Value, json};
use weft_clock::testing::RuntimeClock;
use weft_dag::{Draft, Pdu, Placement, RoomVersion, Unchecked, Verified, testing};
use weft_room::{OutOfBandMembership, RoomConfig, Rooms};
use weft_room_api::{
    Clock, ConnectionId, CreateRoom, Edit, EditOutcome, Incarnation, JoinedRoom, RoomChange, RoomError, Template,
    TemplateKind,
    testing::{ObservedBus, SerialisedRouter},
};
use weft_store::{
    Store,
    engine::{Engine as _, Op, WriteBatch},
    memory::{Fault, MemoryDisk, MemoryEngine, Tail},
};
use weft_testkit::{
    Editor, Gate, GatedEngine, MemoryNetwork, RoomsSetup, check, joined_room, new_event, sign_template, text_of, user,
    verify,
};
use weft_wire::document::DocumentKind;
use yrs::Text as _;

/// Bytes of staged events of one room.
pub const STAGED_BYTES: u64 = 4 << 20;

/// From, to: the queued events.
type Queues = BTreeMap<(OwnedServerName, OwnedServerName), VecDeque<Arc<Pdu>>>;

struct Sink {
    from: OwnedServerName,
    queues: Arc<Mutex<Queues>>,
    network: Arc<MemoryNetwork>,
}

impl Sink {
    fn enqueue(&self, change: &RoomChange) {
        let mut queues = self.queues.lock().unwrap();
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
        self.network.happened.notify_waiters();
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
    queues: Arc<Mutex<Queues>>,
    network: Arc<MemoryNetwork>,
    clock: Arc<RuntimeClock>,
    text_eviction: Duration,
    staged_bytes: u64,
}

impl Inner {
    async fn start(self: &Arc<Self>, name: &ServerName, engine: MemoryEngine) {
        let disk = engine.disk();
        let (engine, gate) = GatedEngine::new(engine);
        gate.record_scans();
        let store = Store::open(engine).await.unwrap();
        let config = RoomConfig {
            seal_idle: Duration::from_millis(20),
            seal_max: Duration::from_millis(40),
            staged_bytes_per_room: self.staged_bytes,
            text_eviction: self.text_eviction,
            ..RoomConfig::default()
        };
        let sink = Sink {
            from: name.to_owned(),
            queues: Arc::clone(&self.queues),
            network: Arc::clone(&self.network),
        };
        let setup = RoomsSetup {
            config,
            changes: ObservedBus::new(move |change| sink.enqueue(change)),
            peers: self.network.peers(),
            clock: self.clock.clone(),
            ..RoomsSetup::of(name)
        };
        let (rooms, router) = setup.start_serialised(&store);
        self.network.up(name, rooms.clone());
        self.servers.lock().unwrap().insert(
            name.to_owned(),
            Server {
                rooms,
                router,
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
            queues: Arc::default(),
            network: Arc::default(),
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

    /// The faults between the servers.
    pub fn network(&self) -> &MemoryNetwork {
        &self.inner.network
    }

    /// Drops the queued events.
    pub fn lose(&self) {
        self.inner.queues.lock().unwrap().clear();
    }

    /// Delivers queued events: by server in an order that follows from the seed, in transactions of a few events.
    pub async fn heal(&self, seed: u64) {
        self.network().heal();
        let mut waiting: Vec<_> = std::mem::take(&mut *self.inner.queues.lock().unwrap())
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
        if self.network().is_cut() {
            return false;
        }
        let waiting = std::mem::take(&mut *self.inner.queues.lock().unwrap());
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
                let happened = self.network().happened.notified();
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
            let empty = self.inner.queues.lock().unwrap().values().all(VecDeque::is_empty);
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
        self.network().down(&name);
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
        self.of(who)
            .send(room, new_event(&user(who), kind, Some(""), content))
            .await
    }

    /// A user changes the membership of another.
    pub async fn end_membership(&self, who: &str, room: &RoomId, whom: &str, membership: &str) {
        let content = json!({ "membership": membership, "reason": "r".repeat(2_000) });
        let event = new_event(&user(who), "m.room.member", Some(whom), content);
        self.of(who).send(room, event).await.unwrap();
    }

    pub async fn topic(&self, who: &str, room: &RoomId, topic: &str) {
        self.state_event(who, room, "m.room.topic", json!({ "topic": topic }))
            .await
            .unwrap();
    }

    pub async fn message(&self, who: &str, room: &RoomId, text: &str) -> OwnedEventId {
        let event = new_event(
            &user(who),
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
        let event = new_event(&user(who), "m.room.member", Some(whom), content);
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
        let signed = sign_template(&user(who), room, &object, &version);
        let unchecked = Unchecked::parse(signed.json(), &version).unwrap();
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
        let event = verify(unchecked).unwrap();
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
        let at = [answer.event.event_id().to_owned()];
        let resident = ServerName::parse("a.example").unwrap();
        let snapshot = self.rooms(resident.as_str()).content(room, Some(&at)).await.unwrap();
        joined_room(answer, &resident, Some(snapshot))
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
        let event = new_event(
            &user(who),
            "m.room.member",
            Some(whom),
            json!({ "membership": membership }),
        );
        self.of(who).send(room, event).await.unwrap();
    }

    /// Waits until a user's server has this membership.
    pub async fn until_member(&self, whom: &str, room: &RoomId, membership: &str) {
        let (theirs, whom) = (self.of(whom), user(whom));
        self.until(|| async { theirs.access(room, &whom).await.unwrap().membership.as_str() == membership })
            .await;
    }

    pub async fn leave(&self, who: &str, room: &RoomId) {
        let event = new_event(&user(who), "m.room.member", Some(who), json!({ "membership": "leave" }));
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
        let editor = Editor::open(client, &rooms.content(room, None).await.unwrap());
        let update = editor.change(|body, transaction| body.insert(transaction, at, text));
        let edit = Edit {
            user: user(who),
            session: ConnectionId::new(Incarnation(1), client),
            update: update.into(),
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
        let update = Editor::new(client).append("x");
        let edit = Edit {
            user: user(who),
            session: ConnectionId::new(Incarnation(1), client),
            update,
        };
        let began = std::time::Instant::now();
        self.of(who).edit(room, edit).await.unwrap();
        began.elapsed()
    }

    pub async fn seal(&self, who: &str, room: &RoomId) {
        self.of(who).seal(room).await.unwrap();
    }

    pub async fn text(&self, server: &str, room: &RoomId) -> String {
        text_of(&self.rooms(server).content(room, None).await.unwrap())
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
        text_of(&rooms.content(room, Some(&extremities)).await.unwrap())
    }
}
