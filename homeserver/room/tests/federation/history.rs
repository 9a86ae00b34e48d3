//! Long histories: fetched newest first and kept on disk, decided oldest first, with servers that lie or are cut off,
//! and with restarts in between.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId,
    RoomVersionId, ServerName, UInt,
};
use serde_json::{Value, json};
use weft_clock::testing::RuntimeClock;
use weft_dag::{
    Draft, Pdu, Placement, RoomVersion, Signer, StateView, Unchecked, Verified,
    testing::{self, World},
};
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{Identity, JoinedRoom, PeerError, Peers, Ports, StateIds, testing::ObservedBus};
use weft_store::{
    Store,
    memory::{MemoryDisk, MemoryEngine, Tail},
    tables::documents::EVENT_VECTOR,
    tables::rooms::{EVENTS, FETCHED_EVENTS, FETCHED_FOLLOWERS, FETCHED_HISTORY, FETCHED_READY, WANTED_EVENTS},
};
use weft_wire::update::UpdateContent;
use yrs::{Doc, ReadTxn as _, StateVector, Text as _, Transact as _};

use weft_testkit::{Gate, GatedEngine, text_of, user};

use super::{ALICE, BOB, CAROL};

const A: &str = "a.example";
const C: &str = "c.example";

/// How a server answers requests for a history.
#[derive(Default, Clone)]
struct Conduct {
    /// It does not return these events.
    hides: BTreeSet<OwnedEventId>,
    /// The content of these events is changed, so that their hash is wrong.
    changes: BTreeSet<OwnedEventId>,
    /// Each response has these events too.
    adds: Vec<Verified>,
    /// It can't be reached after this number of requests.
    requests: Option<u64>,
}

/// A room that was written elsewhere, and the servers that return its events.
struct Source {
    version: RoomVersion,
    room: OwnedRoomId,
    events: BTreeMap<OwnedEventId, Verified>,
    /// In the order in which they were made, without the join.
    order: Vec<OwnedEventId>,
    state: StateView,
    depth: u64,
    clock: u64,
    text: Doc,
    conduct: Mutex<BTreeMap<OwnedServerName, Conduct>>,
    requests: AtomicU64,
    returned: Mutex<BTreeMap<OwnedEventId, usize>>,
    /// Returned events, while anything holds them, and the largest number of them at a request.
    held: Mutex<(Vec<Weak<Pdu>>, usize)>,
}

impl Source {
    /// A public document of Alice and Carol, without text.
    fn new() -> Self {
        Self::numbered(0)
    }

    /// The same with a number in its create event, on which the room id depends.
    fn numbered(number: u32) -> Self {
        let create = json!({ "type": "dev.weft.document", "number": number });
        let mut world = World::with_create(&RoomVersionId::V12, ALICE, create);
        let levels = json!({ "users": { CAROL: 25, BOB: 25 }, "events": { "dev.weft.update": 0 } });
        world.state(ALICE, "m.room.power_levels", "", levels);
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        world.member(CAROL, CAROL, "join");
        let events = world.order.iter().map(|id| (id.clone(), world.verified(id)));
        Self {
            version: world.version.clone(),
            room: world.room_id.clone(),
            events: events.collect(),
            order: world.order.clone(),
            state: world.current(),
            depth: 10,
            clock: 1_700_001_000_000,
            text: Doc::with_client_id(7),
            conduct: Mutex::default(),
            requests: AtomicU64::new(0),
            returned: Mutex::default(),
            held: Mutex::default(),
        }
    }

    fn last(&self) -> OwnedEventId {
        self.order.last().unwrap().clone()
    }

    fn sign(&mut self, prev: &[OwnedEventId], who: &str, kind: &str, key: Option<&str>, content: Value) -> Verified {
        let content: CanonicalJsonObject = testing::object(content);
        (self.depth, self.clock) = (self.depth + 1, self.clock + 1_000);
        let placement = Placement {
            prev_events: prev.to_vec(),
            auth_events: self.state.auth_events(kind, &user(who), key, &content).unwrap(),
            depth: self.depth,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.clock).unwrap()),
        };
        let draft = Draft {
            sender: user(who),
            kind: kind.into(),
            state_key: key.map(ToOwned::to_owned),
            content,
            redacts: None,
            room_id: Some(self.room.clone()),
        };
        let signer = testing::signer(user(who).server_name());
        draft.sign(&self.version, placement, &signer).unwrap().into_verified()
    }

    /// An event after these.
    fn send(&mut self, prev: &[OwnedEventId], who: &str, kind: &str, content: Value) -> OwnedEventId {
        let event = self.sign(prev, who, kind, None, content);
        let id = event.pdu().event_id().to_owned();
        self.events.insert(id.clone(), event);
        self.order.push(id.clone());
        id
    }

    fn message(&mut self, prev: &[OwnedEventId], body: &str) -> OwnedEventId {
        self.send(
            prev,
            ALICE,
            "m.room.message",
            json!({ "msgtype": "m.text", "body": body }),
        )
    }

    /// Types a letter.
    fn update(&mut self, prev: &[OwnedEventId]) -> OwnedEventId {
        let body = self.text.get_or_insert_text("body");
        let before = self.text.transact().state_vector();
        let from = before.get(&yrs::block::ClientID::new(7));
        body.insert(
            &mut self.text.transact_mut(),
            0,
            if from.is_multiple_of(60) { "\n" } else { "x" },
        );
        let update = self.text.transact().encode_diff_v1(&before);
        let content = UpdateContent::new(&update, [(7, (from, from + 1))]);
        self.send(prev, ALICE, "dev.weft.update", serde_json::to_value(content).unwrap())
    }

    /// Updates in a row after the newest event.
    fn type_on(&mut self, count: usize) {
        for _ in 0..count {
            let last = self.last();
            self.update(&[last]);
        }
    }

    fn whole_text(&self) -> Vec<u8> {
        self.text.transact().encode_diff_v1(&StateVector::default())
    }

    /// Bob's join after the newest event, as the resident server answers it.
    fn join(&mut self) -> JoinedRoom {
        let last = self.last();
        let event = self.sign(
            &[last],
            BOB,
            "m.room.member",
            Some(BOB),
            json!({ "membership": "join" }),
        );
        let state: Vec<Verified> = self
            .state
            .iter()
            .map(|pdu| self.events[pdu.event_id()].clone())
            .collect();
        let in_state: BTreeSet<&EventId> = state.iter().map(|event| event.pdu().event_id()).collect();
        let auth = state.iter().flat_map(|event| event.pdu().auth_events());
        let auth: BTreeSet<&OwnedEventId> = auth.filter(|id| !in_state.contains(&***id)).collect();
        let auth_chain = auth.into_iter().map(|id| self.events[id].clone()).collect();
        JoinedRoom {
            version: self.version.id().clone(),
            auth_chain,
            state,
            event,
            resident: ServerName::parse(A).unwrap(),
            snapshot: Some(self.whole_text().into()),
        }
    }

    fn conduct(&self, server: &str, conduct: Conduct) {
        let server = ServerName::parse(server).unwrap();
        self.conduct.lock().unwrap().insert(server, conduct);
    }

    /// The conduct of a server for one request.
    fn asked(&self, server: &ServerName) -> Result<Conduct, PeerError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut conduct = self.conduct.lock().unwrap();
        let conduct = conduct.entry(server.to_owned()).or_default();
        if conduct.requests == Some(0) {
            return Err(PeerError::Unreachable {
                server: server.to_string(),
                reason: "cut".into(),
            });
        }
        conduct.requests = conduct.requests.map(|left| left - 1);
        Ok(conduct.clone())
    }

    fn answer(&self, conduct: &Conduct, id: &EventId) -> Option<Verified> {
        let event = self.events.get(id).filter(|_| !conduct.hides.contains(id))?;
        *self.returned.lock().unwrap().entry(id.to_owned()).or_default() += 1;
        let mut json: Value = serde_json::from_str(event.pdu().json()).unwrap();
        if conduct.changes.contains(id) {
            json["content"]["body"] = json!("changed");
        }
        let unchecked = Unchecked::parse(&json.to_string(), &self.version).unwrap();
        let keys = testing::verify_keys(unchecked.needed_keys().into_keys());
        let event = unchecked.verify(&keys).ok()?;
        self.held.lock().unwrap().0.push(Arc::downgrade(event.pdu()));
        Some(event)
    }

    /// Counts the events of earlier responses that are still in memory.
    fn count_held(&self) {
        let mut held = self.held.lock().unwrap();
        held.0.retain(|event| event.strong_count() > 0);
        held.1 = held.1.max(held.0.len());
    }
}

/// The client of the servers of some sources, which are of different rooms.
struct SourcePeers(Vec<Arc<Source>>);

impl SourcePeers {
    fn of_room(&self, room: &RoomId) -> &Source {
        self.0.iter().find(|source| source.room == room).unwrap()
    }

    /// The one with this event; the first, where none has it.
    fn of_event(&self, id: &EventId) -> &Source {
        let source = self.0.iter().find(|source| source.events.contains_key(id));
        source.unwrap_or(&self.0[0])
    }
}

fn refused(server: &ServerName) -> PeerError {
    PeerError::Refused {
        server: server.to_string(),
        reason: "not found".into(),
    }
}

#[async_trait]
impl Peers for SourcePeers {
    async fn missing_events(
        &self,
        _: &RoomId,
        _: &RoomVersion,
        from: &ServerName,
        _: &[OwnedEventId],
        _: &[OwnedEventId],
        _: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        Err(refused(from))
    }

    async fn event(&self, _: &RoomVersion, from: &ServerName, id: &EventId) -> Result<Verified, PeerError> {
        let source = self.of_event(id);
        let conduct = source.asked(from)?;
        source.answer(&conduct, id).ok_or_else(|| refused(from))
    }

    async fn events(
        &self,
        _: &RoomVersion,
        from: &ServerName,
        ids: &[OwnedEventId],
    ) -> Result<Vec<Verified>, PeerError> {
        let Some(first) = ids.first() else {
            return Ok(Vec::new());
        };
        let source = self.of_event(first);
        let conduct = source.asked(from)?;
        Ok(ids.iter().filter_map(|id| source.answer(&conduct, id)).collect())
    }

    async fn state_ids(&self, _: &RoomId, from: &ServerName, _: &EventId) -> Result<StateIds, PeerError> {
        Err(refused(from))
    }

    async fn backfill(
        &self,
        room: &RoomId,
        _: &RoomVersion,
        from: &ServerName,
        before: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Verified>, PeerError> {
        let source = self.of_room(room);
        let conduct = source.asked(from)?;
        source.count_held();
        let (mut queue, mut seen) = (VecDeque::from(before.to_vec()), BTreeSet::new());
        let mut answer = Vec::new();
        while let Some(id) = queue.pop_front().filter(|_| answer.len() < limit) {
            if seen.insert(id.clone())
                && let Some(event) = source.answer(&conduct, &id)
            {
                queue.extend(event.pdu().prev_events().iter().cloned());
                answer.push(event);
            }
        }
        answer.extend(conduct.adds);
        Ok(answer)
    }
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

/// Bob's server.
struct Joiner {
    rooms: Rooms,
    store: Store,
    disk: MemoryDisk,
    gate: Arc<Gate>,
}

impl Joiner {
    /// `limits`: bytes of the fetched history of a room, and of all rooms.
    async fn start(sources: &[&Arc<Source>], engine: MemoryEngine, limits: [u64; 2]) -> Self {
        let disk = engine.disk();
        let gate = Arc::new(Gate::default());
        let gated = GatedEngine {
            engine,
            gate: Arc::clone(&gate),
        };
        let store = Store::open(gated).await.unwrap();
        let config = RoomConfig {
            fetched_history_bytes_per_room: limits[0],
            fetched_history_bytes: limits[1],
            ..RoomConfig::default()
        };
        let ports = Ports {
            changes: ObservedBus::new(|_| {}),
            peers: Arc::new(SourcePeers(sources.iter().map(|source| Arc::clone(source)).collect())),
            clock: Arc::new(RuntimeClock::distinct(1_800_000_000_000)),
        };
        let identity = Arc::new(TestIdentity(testing::signer(user(BOB).server_name())));
        let rooms = Rooms::start(config, store.clone(), identity, ports);
        rooms.recover().await.unwrap();
        Self {
            rooms,
            store,
            disk,
            gate,
        }
    }

    async fn join(source: &Arc<Source>, joined: JoinedRoom) -> Self {
        Self::join_with(source, joined, u64::MAX).await
    }

    async fn join_with(source: &Arc<Source>, joined: JoinedRoom, limit: u64) -> Self {
        let joiner = Self::start(&[source], MemoryEngine::new(), [limit, u64::MAX]).await;
        joiner.rooms.adopt(joined).await.unwrap();
        joiner
    }

    /// The power fails, and the server starts again.
    async fn restart(self, source: &Arc<Source>) -> Self {
        let Self { rooms, disk, .. } = self;
        disk.power_loss(Tail::Lost);
        drop(rooms);
        Self::start(&[source], disk.open(), [u64::MAX; 2]).await
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..2_000_000_u32 {
            if condition().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what}");
    }

    async fn until_whole(&self, room: &RoomId) {
        self.until("the history is complete", async || {
            self.rooms.coming_history(room).is_none()
        })
        .await;
    }

    async fn has(&self, room: &RoomId, id: &EventId) -> bool {
        self.rooms.reader().order(room, id).await.unwrap().is_some()
    }

    /// The fetched events that are not decided.
    async fn waiting(&self, room: &RoomId) -> u64 {
        let row = self.store.get(&FETCHED_HISTORY, &(room,)).await.unwrap();
        row.map_or(0, |row| row.events)
    }

    /// All events are here, the text follows from them, and no row of the fetch is left.
    async fn assert_whole(&self, source: &Source) {
        let room = &source.room;
        for id in &source.order {
            assert!(self.has(room, id).await, "{id} is not here");
        }
        let last = [source.last()];
        let of_events = self.rooms.reader().content_of_events(room, &last).await.unwrap();
        let now = self.rooms.content(room, None).await.unwrap();
        assert_eq!(text_of(&of_events), text_of(&source.whole_text()));
        assert_eq!(text_of(&now), text_of(&source.whole_text()));
        self.assert_no_rows(room).await;
        assert_eq!(self.waiting(room).await, 0);
    }

    async fn assert_no_rows(&self, room: &RoomId) {
        let store = &self.store;
        assert!(store.scan_all(FETCHED_EVENTS.under(&(room,))).await.unwrap().is_empty());
        assert!(
            store
                .scan_all(FETCHED_FOLLOWERS.under(&(room,)))
                .await
                .unwrap()
                .is_empty()
        );
        assert!(store.scan_all(FETCHED_READY.under(&(room,))).await.unwrap().is_empty());
        assert!(store.scan_all(WANTED_EVENTS.under(&(room,))).await.unwrap().is_empty());
    }
}

/// Events of the long history: `make backfill EVENTS=60000` has more.
fn long() -> usize {
    let given = std::env::var("WEFT_HISTORY_EVENTS");
    given.map_or(3_000, |given| given.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_long_history_is_fetched_once_and_verified() {
    let mut source = Source::new();
    source.type_on(long());
    let joined = source.join();
    let source = Arc::new(source);
    let joiner = Joiner::join(&source, joined).await;
    joiner.until_whole(&source.room).await;
    joiner.assert_whole(&source).await;
    let most = source.returned.lock().unwrap().values().copied().max();
    assert_eq!(most, Some(1), "each event is returned once");
    let held = source.held.lock().unwrap().1;
    assert!(held <= 100, "{held} events of earlier responses are in memory");
    let whole: usize = source.events.values().map(|event| event.pdu().json().len()).sum();
    let (written, read) = (joiner.gate.largest_batch(), joiner.gate.largest_read());
    assert!(
        written < whole / 2,
        "a batch has {written} bytes, the history has {whole}"
    );
    assert!(read < whole / 2, "a read has {read} bytes, the history has {whole}");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_was_interrupted_continues_where_it_ended() {
    let mut source = Source::new();
    source.type_on(1_200);
    let joined = source.join();
    let source = Arc::new(source);
    for server in [A, C] {
        source.conduct(
            server,
            Conduct {
                requests: Some(4),
                ..Conduct::default()
            },
        );
    }
    let joiner = Joiner::join(&source, joined).await;
    let room = source.room.clone();
    joiner
        .until("some are fetched", async || joiner.waiting(&room).await >= 800)
        .await;
    assert!(
        !joiner.has(&room, &source.order[0]).await,
        "the oldest events are decided first"
    );
    let joiner = joiner.restart(&source).await;
    assert_eq!(joiner.waiting(&room).await, 800, "what was fetched is on disk");
    source.conduct(A, Conduct::default());
    joiner.until_whole(&room).await;
    joiner.assert_whole(&source).await;
    let most = source.returned.lock().unwrap().values().copied().max();
    assert_eq!(most, Some(1), "no event is requested twice");
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_was_interrupted_continues_without_requests() {
    let mut source = Source::new();
    source.type_on(1_500);
    let joined = source.join();
    let source = Arc::new(source);
    let joiner = Joiner::join(&source, joined).await;
    let room = source.room.clone();
    let (early, late) = (source.order[300].clone(), source.order[1_400].clone());
    joiner
        .gate
        .hold_next_read(EVENTS.physical(&(&room, &source.order[900])));
    joiner.gate.reached().await;
    assert!(joiner.has(&room, &early).await, "the portions before are decided");
    assert!(!joiner.has(&room, &late).await, "all are decided already");
    let before = source.requests.load(Ordering::Relaxed);
    let joiner = joiner.restart(&source).await;
    joiner.until_whole(&room).await;
    joiner.assert_whole(&source).await;
    assert_eq!(source.requests.load(Ordering::Relaxed), before);
}

/// One server hides an event and changes another one; a second server has both.
#[tokio::test(start_paused = true)]
async fn what_one_server_does_not_return_is_requested_from_others() {
    let mut source = Source::new();
    source.type_on(150);
    let last = source.last();
    let changed = source.message(&[last], "as it was written");
    source.type_on(150);
    let joined = source.join();
    let hidden = source.order[100].clone();
    let source = Arc::new(source);
    let dishonest = Conduct {
        hides: BTreeSet::from([hidden]),
        changes: BTreeSet::from([changed.clone()]),
        ..Conduct::default()
    };
    source.conduct(A, dishonest);
    let joiner = Joiner::join(&source, joined).await;
    joiner.until_whole(&source.room).await;
    joiner.assert_whole(&source).await;
    let stored = joiner
        .rooms
        .reader()
        .event(Some(&source.room), &changed)
        .await
        .unwrap()
        .unwrap();
    assert!(!stored.json().contains("changed"), "a wrong hash removes the content");
}

/// No server returns an event of one branch. The other branch and everything before are decided; what follows the gap is
/// decided when a server returns the event.
#[tokio::test(start_paused = true)]
async fn events_beside_a_gap_are_decided() {
    let mut source = Source::new();
    source.type_on(120);
    let fork = source.last();
    let beside = source.message(std::slice::from_ref(&fork), "beside");
    let hidden = source.message(&[fork], "hidden");
    let after = source.message(std::slice::from_ref(&hidden), "after");
    source.update(&[beside.clone(), after.clone()]);
    source.type_on(20);
    let joined = source.join();
    let source = Arc::new(source);
    let hides = Conduct {
        hides: BTreeSet::from([hidden.clone()]),
        ..Conduct::default()
    };
    source.conduct(A, hides.clone());
    source.conduct(C, hides);
    let joiner = Joiner::join(&source, joined).await;
    let room = &source.room;
    joiner
        .until("the other branch is decided", async || joiner.has(room, &beside).await)
        .await;
    for id in &source.order[..124] {
        assert!(joiner.has(room, id).await, "{id} is before the gap");
    }
    assert!(!joiner.has(room, &after).await, "its ancestor is missing");
    assert!(joiner.rooms.coming_history(room).is_some());
    assert_eq!(joiner.waiting(room).await, 22);
    let text = joiner.rooms.content(room, None).await.unwrap();
    assert_eq!(
        text_of(&text),
        text_of(&source.whole_text()),
        "the text of the resident server stays"
    );
    let joiner = joiner.restart(&source).await;
    source.conduct(C, Conduct::default());
    joiner.until_whole(room).await;
    joiner.assert_whole(&source).await;
}

/// The resident server's snapshot lacks most of the text. While the text is worked out, an update on what is lacking
/// arrives: it is part of the new text, and no error of the old one.
#[tokio::test(start_paused = true)]
async fn an_update_on_text_that_the_snapshot_lacks_is_in_the_new_text() {
    let mut source = Source::new();
    source.type_on(50);
    let snapshot = source.whole_text();
    source.type_on(550);
    let (fork, mut last) = (source.last(), source.last());
    for number in 0..400 {
        last = source.message(&[last], &number.to_string());
    }
    let joined = JoinedRoom {
        snapshot: Some(snapshot.into()),
        ..source.join()
    };
    let beside = source.update(std::slice::from_ref(&fork));
    let event = source.events[&beside].clone();
    source.order.retain(|id| *id != beside);
    let source = Arc::new(source);
    let joiner = Joiner::join(&source, joined).await;
    let (room, gate) = (&source.room, &joiner.gate);
    // Held at the last portion of the text, after reads for the decision about the newest event and for the graph.
    gate.hold_next_read(EVENTS.physical(&(room, &last)));
    gate.reached().await;
    while !joiner.store.contains(&EVENT_VECTOR, &(room, &fork)).await.unwrap() {
        gate.hold_next_read(EVENTS.physical(&(room, &last)));
        gate.open();
        gate.reached().await;
    }
    let origin = ServerName::parse(A).unwrap();
    joiner.rooms.receive(&origin, vec![event]).await.unwrap();
    joiner
        .until("the update is here", async || joiner.has(room, &beside).await)
        .await;
    let text = text_of(&joiner.rooms.content(room, None).await.unwrap());
    assert_eq!(text.len(), 50);
    gate.open();
    joiner.until_whole(room).await;
    let now = joiner.rooms.content(room, None).await.unwrap();
    assert!(
        text_of(&now) == text_of(&source.whole_text()),
        "the update is not in the new text"
    );
    joiner.assert_no_rows(room).await;
}

/// A response with events that nobody references does not fill the disk.
#[tokio::test(start_paused = true)]
async fn events_that_nothing_references_are_not_kept() {
    let mut source = Source::new();
    source.type_on(250);
    let last = source.order[50].clone();
    let junk = (0..40).map(|n| {
        source.sign(
            std::slice::from_ref(&last),
            CAROL,
            "m.room.message",
            None,
            json!({ "body": n }),
        )
    });
    let junk: Vec<Verified> = junk.collect();
    let joined = source.join();
    let source = Arc::new(source);
    source.conduct(
        A,
        Conduct {
            adds: junk.clone(),
            ..Conduct::default()
        },
    );
    let joiner = Joiner::join(&source, joined).await;
    joiner.until_whole(&source.room).await;
    joiner.assert_whole(&source).await;
    for event in &junk {
        assert!(!joiner.has(&source.room, event.pdu().event_id()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_above_the_limit_of_bytes_is_not_kept() {
    let mut source = Source::new();
    source.type_on(1_000);
    let joined = source.join();
    let source = Arc::new(source);
    let joiner = Joiner::join_with(&source, joined, 400_000).await;
    let room = source.room.clone();
    joiner.until_whole(&room).await;
    joiner.assert_no_rows(&room).await;
    let text = joiner.rooms.content(&room, None).await.unwrap();
    assert_eq!(
        text_of(&text),
        text_of(&source.whole_text()),
        "the text of the resident server stays"
    );
    assert!(!joiner.has(&room, &source.order[0]).await);
    // It is not requested again with the same limit.
    let requests = source.requests.load(Ordering::Relaxed);
    joiner.rooms.recover().await.unwrap();
    assert_eq!(source.requests.load(Ordering::Relaxed), requests);
}

/// The histories of two rooms exceed the limit of all rooms, and the larger one can't be completed at present. It is
/// dropped, so that the other one is, and is fetched again later.
#[tokio::test(start_paused = true)]
async fn above_the_limit_of_all_rooms_the_largest_history_makes_room() {
    let (mut large, mut small) = (Source::new(), Source::numbered(1));
    large.type_on(600);
    small.type_on(200);
    let (join_large, join_small) = (large.join(), small.join());
    let (large, small) = (Arc::new(large), Arc::new(small));
    let oldest = large.order[10].clone();
    let hides = Conduct {
        hides: BTreeSet::from([oldest.clone()]),
        ..Conduct::default()
    };
    large.conduct(A, hides.clone());
    large.conduct(C, hides);
    let joiner = Joiner::start(&[&large, &small], MemoryEngine::new(), [u64::MAX, u64::MAX]).await;
    joiner.rooms.adopt(join_large).await.unwrap();
    let fetched = async || joiner.store.get(&FETCHED_HISTORY, &(&large.room,)).await.unwrap();
    joiner
        .until("the larger one is fetched up to the gap", async || {
            fetched().await.is_some_and(|row| row.events >= 585)
        })
        .await;
    let bytes = fetched().await.unwrap().bytes;
    let Joiner { rooms, disk, .. } = joiner;
    rooms.stop().await;
    drop(rooms);

    // A limit that leaves space for a part of the other one.
    let joiner = Joiner::start(&[&large, &small], disk.open(), [u64::MAX, bytes + 50_000]).await;
    // The larger one counts from its next run on.
    let requests = large.requests.load(Ordering::Relaxed);
    joiner
        .until("the larger one is tried again", async || {
            large.requests.load(Ordering::Relaxed) > requests
        })
        .await;
    joiner.rooms.adopt(join_small).await.unwrap();
    joiner.until_whole(&small.room).await;
    joiner.assert_whole(&small).await;

    large.conduct(A, Conduct::default());
    tokio::time::sleep(Duration::from_secs(7 * 60 * 60)).await;
    joiner
        .until("the larger one is here", async || {
            joiner.has(&large.room, &oldest).await
        })
        .await;
    joiner.until_whole(&large.room).await;
    joiner.assert_whole(&large).await;
}
