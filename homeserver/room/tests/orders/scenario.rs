//! A room of signed events, forged ones among them, and honest servers that receive them in different orders.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ruma::{EventId, OwnedEventId, RoomVersionId, ServerName, server_name};
use serde_json::{Value, json};
use tokio::sync::Notify;
use weft_dag::{StateMap, Verified, testing};
use weft_room::{RoomConfig, Rooms};
use weft_room_api::{
    JoinedRoom, Peers,
    testing::{NoPeers, ObservedBus},
};
use weft_store::{Store, memory::MemoryDisk};
use weft_testkit::{Editor, RoomsSetup, WorldPeers, content_of, joined_world, new_event, update_content_from, user};
use yrs::Text as _;

pub(crate) const ALICE: &str = "@alice:a.example";
pub(crate) const BOB: &str = "@bob:b.example";
pub(crate) const CAROL: &str = "@carol:c.example";
pub(crate) const DAVE: &str = "@dave:d.example";
const XAVIER: &str = "@xavier:x.example";
const YOLANDA: &str = "@yolanda:y.example";

/// The blocks `[from, to)` of a client id whose text consists of this letter only.
pub(crate) fn update(client: u64, letter: char, from: u32, to: u32) -> Value {
    let text: String = std::iter::repeat_n(letter, usize::try_from(to).unwrap()).collect();
    update_content_from(client, &text, from)
}

/// An update that deletes the blocks `[from, to)` of a client and inserts nothing.
pub(crate) fn deletion(client: u64, from: u32, to: u32) -> Value {
    let mut editor = Editor::new(client);
    editor.append(&"x".repeat(usize::try_from(to).unwrap()));
    let bytes = editor.change(|body, transaction| body.remove_range(transaction, from, to - from));
    content_of(&bytes, [])
}

/// Longer than the pause after which the text of rival claims is worked out again, and shorter than the delay before
/// this server reconciles extremities.
const SETTLED_AFTER: Duration = Duration::from_secs(12);

/// The room: the events that all servers have, and those sent afterwards.
pub(crate) struct Scenario {
    pub(crate) world: testing::World,
    /// The number of initial events, the last of them Xavier's join.
    base: usize,
}

impl Scenario {
    /// A document of Alice in which Bob, Carol and Dave edit.
    pub(crate) fn new(version: &RoomVersionId) -> Self {
        let create = json!({ "type": "dev.weft.document" });
        let mut world = testing::World::with_create(version, ALICE, create);
        let mut users = json!({ BOB: 50, CAROL: 25, DAVE: 25, XAVIER: 25 });
        if !world.version.creators_are_above_all() {
            users[ALICE] = json!(100);
        }
        let levels = json!({ "users": users, "events": { "dev.weft.update": 25, "m.room.pinned_events": 25 } });
        world.state(ALICE, "m.room.power_levels", "", levels);
        world.state(ALICE, "m.room.join_rules", "", json!({ "join_rule": "public" }));
        for user in [BOB, CAROL, DAVE, XAVIER] {
            world.member(user, user, "join");
        }
        let base = world.order.len();
        Self { world, base }
    }

    pub(crate) fn start(&self) -> OwnedEventId {
        self.world.order[self.base - 1].clone()
    }

    pub(crate) fn send(
        &mut self,
        after: &[&OwnedEventId],
        who: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let after: Vec<OwnedEventId> = after.iter().map(|id| (*id).clone()).collect();
        self.world
            .send_after(&after, who, kind, key, content)
            .event_id()
            .to_owned()
    }

    pub(crate) fn edit(&mut self, after: &[&OwnedEventId], who: &str, content: Value) -> OwnedEventId {
        self.send(after, who, "dev.weft.update", None, content)
    }

    pub(crate) fn message(&mut self, after: &[&OwnedEventId], who: &str) -> OwnedEventId {
        self.send(
            after,
            who,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": "and so on" }),
        )
    }

    pub(crate) fn ban(&mut self, after: &[&OwnedEventId], whom: &str) -> OwnedEventId {
        self.send(
            after,
            ALICE,
            "m.room.member",
            Some(whom),
            json!({ "membership": "ban" }),
        )
    }

    /// The events after the initial ones.
    pub(crate) fn sent(&self) -> Vec<OwnedEventId> {
        self.world.order[self.base..].to_vec()
    }

    /// The extremities of all events, accepted or not.
    pub(crate) fn extremities(&self) -> Vec<OwnedEventId> {
        let referenced: BTreeSet<OwnedEventId> = self
            .world
            .order
            .iter()
            .flat_map(|id| self.world.pdu(id).prev_events().to_vec())
            .collect();
        self.world
            .order
            .iter()
            .filter(|id| !referenced.contains(*id))
            .cloned()
            .collect()
    }

    /// Alice's last event, a descendant of all others.
    pub(crate) fn close(&mut self) -> OwnedEventId {
        let extremities = self.extremities();
        self.message(&extremities.iter().collect::<Vec<_>>(), ALICE)
    }

    /// A server that has all events and returns them to every requester.
    fn source(&self) -> Arc<dyn Peers> {
        Arc::new(WorldPeers::new(self.world.clone()))
    }

    fn joined(&self, join: &EventId) -> JoinedRoom {
        joined_world(&self.world, join, server_name!("a.example"))
    }

    /// Xavier's server with all initial events and no later ones.
    pub(crate) async fn receiver(&self) -> Receiver {
        let disk = MemoryDisk::new();
        let server = self.server("x.example", &disk, self.source()).await;
        server.rooms.adopt(self.joined(&self.start())).await.unwrap();
        let first = self.world.order[0].clone();
        server.until_persisted(&first).await;
        server.until_complete().await;
        server.rooms.stop().await;
        Receiver { disk }
    }

    /// The data of that server after it received these events in this order.
    pub(crate) async fn receives(&self, receiver: &Receiver, order: &[OwnedEventId], with_texts: bool) -> Outcome {
        let server = self.server("x.example", &receiver.disk.copy(), Arc::new(NoPeers)).await;
        let mut persisted: BTreeSet<OwnedEventId> = self.world.order[..self.base].iter().cloned().collect();
        let mut received: Vec<OwnedEventId> = Vec::new();
        for id in order {
            let event = self.world.verified(id);
            let origin = event.pdu().sender().server_name().to_owned();
            server.rooms.receive(&origin, vec![event]).await.unwrap();
            received.push(id.clone());
            // Everything that can be decided about is persisted before the next event.
            while let Some(at) = received.iter().position(|id| self.references_only(id, &persisted)) {
                let id = received.remove(at);
                server.until_persisted(&id).await;
                persisted.insert(id);
            }
        }
        assert!(received.is_empty(), "events that can't be persisted");
        // If clocks are claimed twice, the text is worked out again after a pause.
        tokio::time::sleep(SETTLED_AFTER).await;
        let mut outcome = server.outcome(self, order).await;
        if with_texts {
            outcome.texts = server.texts_at(order).await;
        }
        server.rooms.stop().await;
        outcome
    }

    /// The number of extremities after all these events, and after each of this number of messages that the server
    /// sends then.
    pub(crate) async fn extremities_after(
        &self,
        receiver: &Receiver,
        events: Vec<Verified>,
        messages: usize,
    ) -> Vec<usize> {
        let server = self.server("x.example", &receiver.disk.copy(), Arc::new(NoPeers)).await;
        for some in events.chunks(50) {
            let origin = some[0].pdu().sender().server_name().to_owned();
            server.rooms.receive(&origin, some.to_vec()).await.unwrap();
        }
        for event in &events {
            server.until_persisted(event.pdu().event_id()).await;
        }
        let mut extremities = vec![server.extremities().await];
        for number in 0..messages {
            let content = json!({ "msgtype": "m.text", "body": number });
            let event = new_event(&user(XAVIER), "m.room.message", None, content);
            server.rooms.send(&server.room, event).await.unwrap();
            extremities.push(server.extremities().await);
        }
        server.rooms.stop().await;
        extremities
    }

    fn references_only(&self, id: &EventId, persisted: &BTreeSet<OwnedEventId>) -> bool {
        self.world.pdu(id).prev_events().iter().all(|id| persisted.contains(id))
    }

    /// The data of a server that joins after all events and works the text out from the events alone.
    pub(crate) async fn late_joiner(&mut self, order: &[OwnedEventId]) -> Outcome {
        let extremities = self.extremities();
        let content = json!({ "membership": "join" });
        let join = self.send(
            &extremities.iter().collect::<Vec<_>>(),
            YOLANDA,
            "m.room.member",
            Some(YOLANDA),
            content,
        );
        assert!(self.world.accepted(&self.world.pdu(&join)));
        let server = self.server("y.example", &MemoryDisk::new(), self.source()).await;
        server.rooms.adopt(self.joined(&join)).await.unwrap();
        let first = self.world.order[0].clone();
        server.until_persisted(&first).await;
        server.until_complete().await;
        let mut outcome = server.outcome(self, order).await;
        outcome.texts = server.texts_at(order).await;
        // Her own join is the only difference to the other servers.
        outcome.state.remove(&("m.room.member".to_owned(), YOLANDA.to_owned()));
        server.rooms.stop().await;
        outcome
    }

    async fn server(&self, name: &str, disk: &MemoryDisk, peers: Arc<dyn Peers>) -> Server {
        let store = Store::open(disk.open()).await.unwrap();
        let happened = Arc::new(Notify::new());
        let committed = Arc::clone(&happened);
        // Snapshots are written after each update, so that texts at old events come from checkpoints.
        let config = RoomConfig {
            snapshot_after: 0,
            checkpoint_after: 0,
            ..RoomConfig::default()
        };
        let setup = RoomsSetup {
            config,
            changes: ObservedBus::new(move |_| committed.notify_waiters()),
            peers,
            ..RoomsSetup::of(&ServerName::parse(name).unwrap())
        };
        let rooms = setup.start(&store);
        Server {
            rooms,
            room: self.world.room_id.clone(),
            happened,
        }
    }
}

/// The disk of a server that has the initial events.
pub(crate) struct Receiver {
    disk: MemoryDisk,
}

/// The data of a server after all events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    /// Client ids and their clocks.
    pub(crate) vector: BTreeMap<u64, u32>,
    pub(crate) rejected: BTreeSet<OwnedEventId>,
    state: StateMap,
    /// The text at each visible event, if requested.
    texts: TextsAt,
}

/// Texts at events. Servers differ in which events are visible (some soft-fail what others accept), so only events that
/// are visible on both are compared.
#[derive(Clone, Debug, Default)]
struct TextsAt(BTreeMap<OwnedEventId, String>);

impl PartialEq for TextsAt {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .all(|(id, text)| other.0.get(id).is_none_or(|there| there == text))
    }
}

struct Server {
    rooms: Rooms,
    room: ruma::OwnedRoomId,
    happened: Arc<Notify>,
}

impl Server {
    /// The text at each of these events that is visible.
    async fn texts_at(&self, sent: &[OwnedEventId]) -> TextsAt {
        let mut texts = BTreeMap::new();
        for id in sent {
            let stored = self.rooms.reader().stored_event(&self.room, id).await.unwrap();
            if stored.is_some_and(|stored| stored.is_visible()) {
                let content = self
                    .rooms
                    .content(&self.room, Some(std::slice::from_ref(id)))
                    .await
                    .unwrap();
                texts.insert(id.clone(), read(&content).0);
            }
        }
        TextsAt(texts)
    }

    async fn extremities(&self) -> usize {
        self.rooms.reader().extremities(&self.room).await.unwrap().len()
    }

    async fn until_persisted(&self, id: &EventId) {
        let wait = async {
            loop {
                let happened = self.happened.notified();
                tokio::pin!(happened);
                happened.as_mut().enable();
                let stored = self.rooms.reader().stored_event(&self.room, id).await.unwrap();
                if stored.is_some_and(|stored| stored.flags & weft_dag::event_flags::OUTLIER == 0) {
                    return;
                }
                // Backfilled events cause no notification.
                let _ = tokio::time::timeout(Duration::from_millis(5), happened).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
            "{id} is not persisted"
        );
    }

    /// Waits for the end of the backfill.
    async fn until_complete(&self) {
        if let Some(history) = self.rooms.coming_history(&self.room) {
            history.over().await;
        }
    }

    async fn outcome(&self, scenario: &Scenario, sent: &[OwnedEventId]) -> Outcome {
        let whole = self.rooms.content(&self.room, None).await.unwrap();
        let (text, vector) = read(&whole);
        let extremities = self.rooms.reader().extremities(&self.room).await.unwrap();
        let replayed = self.rooms.content(&self.room, Some(&extremities)).await.unwrap();
        assert_eq!(
            (&text, &vector),
            (&read(&replayed).0, &read(&replayed).1),
            "the text at the extremities differs from the current text"
        );
        let mut rejected = BTreeSet::new();
        for id in sent {
            let stored = self.rooms.reader().stored_event(&self.room, id).await.unwrap();
            if stored.is_none_or(|stored| stored.pdu.rejected()) {
                rejected.insert(id.clone());
            }
        }
        let state = self.rooms.reader().state(&self.room).await.unwrap().unwrap().map();
        let named = |id: &OwnedEventId| scenario.world.order.iter().position(|known| known == id);
        assert!(state.0.values().all(|id| named(id).is_some()));
        Outcome {
            text,
            vector,
            rejected,
            state,
            texts: TextsAt::default(),
        }
    }
}

/// The text of an update, and its client ids with their clocks.
fn read(update: &[u8]) -> (String, BTreeMap<u64, u32>) {
    let editor = Editor::open(999_999, update);
    let vector = weft_crdt::StateVector::parse(&editor.vector()).unwrap();
    let vector = vector.iter().map(|(client, end)| (client.get(), end)).collect();
    (editor.text(), vector)
}

/// All permutations.
pub(crate) fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for item in items {
        all = all
            .iter()
            .flat_map(|done: &Vec<T>| {
                (0..=done.len()).map(|at| {
                    let mut next = done.clone();
                    next.insert(at, item.clone());
                    next
                })
            })
            .collect();
    }
    all
}

/// Every order of all but the last event, which comes last, has one outcome, and so do a restart and a late join.
pub(crate) async fn converges(what: &str, scenario: Scenario) -> Outcome {
    converges_in_portion(what, scenario, (0, 1)).await
}

/// The same for each `of`-th order, from order `portion`, and for the first, with which all portions compare theirs.
pub(crate) async fn converges_in_portion(what: &str, mut scenario: Scenario, (portion, of): (usize, usize)) -> Outcome {
    let last = scenario.close();
    assert!(scenario.world.accepted(&scenario.world.pdu(&last)));
    let sent = scenario.sent();
    let receiver = scenario.receiver().await;
    let mut expected: Option<(Vec<OwnedEventId>, Outcome)> = None;
    let orders = permutations(&sent[..sent.len() - 1]).into_iter().enumerate();
    for (number, mut order) in orders.filter(|(number, _)| *number == 0 || number % of == portion) {
        order.push(last.clone());
        // Texts at events are expensive: they are computed for each tenth order.
        let outcome = scenario.receives(&receiver, &order, number % 10 == 0).await;
        match &expected {
            None => expected = Some((order, outcome)),
            Some((first, expected)) => assert_eq!(
                expected,
                &outcome,
                "{what}: {:?} gives what {:?} does not",
                numbers(&sent, &order),
                numbers(&sent, first)
            ),
        }
    }
    let (_, outcome) = expected.unwrap();
    let late = scenario.late_joiner(&sent).await;
    assert_eq!(
        late, outcome,
        "{what}: a server that joins later has a different outcome"
    );
    outcome
}

fn numbers(sent: &[OwnedEventId], order: &[OwnedEventId]) -> Vec<usize> {
    order
        .iter()
        .map(|id| sent.iter().position(|known| known == id).unwrap())
        .collect()
}
