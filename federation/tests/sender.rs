//! The tasks of the sender: everything in the store is delivered, and at once when the other server becomes
//! reachable.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomId, ServerName, owned_room_id};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use weft_clock::testing::RuntimeClock;
use weft_federation::{
    SystemClock,
    outbox::{Edu, OutboxError, OutboxStore, Retry, Row, Sender, SenderConfig, Transport, queue::SendFailure},
};
use weft_wire::limits::{MAX_QUEUED_EDUS, MAX_TRANSACTION_PDUS};

type Servers<T> = Mutex<BTreeMap<OwnedServerName, T>>;

#[derive(Default)]
struct Store {
    rows: Servers<BTreeMap<u64, Row>>,
    retries: Servers<Option<Retry>>,
    /// Servers that were removed from rooms.
    removed: Mutex<BTreeSet<(OwnedServerName, OwnedRoomId)>>,
    /// The most rows that were loaded at once.
    most_at_once: AtomicUsize,
    changed: watch::Sender<()>,
}

impl Store {
    fn put(&self, server: &ServerName, positions: impl IntoIterator<Item = u64>) {
        let mut rows = self.rows.lock().unwrap();
        let rows = rows.entry(server.to_owned()).or_default();
        for position in positions {
            let event_id = EventId::parse(format!("${position:0>43}")).unwrap();
            rows.insert(
                position,
                Row {
                    position,
                    event_id,
                    pdu: to_raw_value(&position).unwrap(),
                },
            );
        }
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !done(self) {
            tokio::time::timeout(Duration::from_secs(30), changed.changed())
                .await
                .expect("the condition is not met in time")
                .unwrap();
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.lock().unwrap().values().all(BTreeMap::is_empty)
    }
}

#[async_trait]
impl OutboxStore for Store {
    async fn pending(&self, server: &ServerName, after: u64, limit: usize) -> Result<Vec<Row>, OutboxError> {
        let rows = self.rows.lock().unwrap();
        self.most_at_once.fetch_max(limit, Ordering::SeqCst);
        let rows = rows.get(server).into_iter().flat_map(|rows| rows.range(after + 1..));
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    async fn acknowledge(&self, server: &ServerName, delivered: &[u64]) -> Result<(), OutboxError> {
        let mut rows = self.rows.lock().unwrap();
        let rows = rows.get_mut(server).unwrap();
        rows.retain(|number, _| !delivered.contains(number));
        self.changed.send_replace(());
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError> {
        let rows = self.rows.lock().unwrap();
        Ok(rows
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(server, _)| server.clone())
            .collect())
    }

    async fn is_in(&self, server: &ServerName, room: &RoomId) -> bool {
        let removed = self.removed.lock().unwrap();
        !removed.contains(&(server.to_owned(), room.to_owned()))
    }

    async fn load_retry(&self, server: &ServerName) -> Result<Option<Retry>, OutboxError> {
        Ok(self.retries.lock().unwrap().get(server).copied().unwrap_or_default())
    }

    async fn save_retry(&self, server: &ServerName, retry: Option<Retry>) -> Result<(), OutboxError> {
        self.retries.lock().unwrap().insert(server.to_owned(), retry);
        self.changed.send_replace(());
        Ok(())
    }
}

/// Other servers.
#[derive(Default)]
struct Others {
    unreachable: Mutex<BTreeSet<OwnedServerName>>,
    /// How long it takes until a request to an unreachable server fails.
    timeout: Duration,
    received: Servers<Vec<u64>>,
    edus: Servers<Vec<String>>,
    transactions: AtomicUsize,
    in_flight: Servers<bool>,
    overlapped: AtomicBool,
}

impl Others {
    fn received(&self, server: &ServerName) -> Vec<u64> {
        self.received.lock().unwrap().get(server).cloned().unwrap_or_default()
    }
}

#[async_trait]
impl Transport for Others {
    async fn deliver(
        &self,
        server: &ServerName,
        _id: &str,
        pdus: Vec<Box<RawValue>>,
        edus: Vec<Box<RawValue>>,
        _now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(), SendFailure> {
        if self.in_flight.lock().unwrap().insert(server.to_owned(), true) == Some(true) {
            self.overlapped.store(true, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
        self.in_flight.lock().unwrap().insert(server.to_owned(), false);
        self.transactions.fetch_add(1, Ordering::SeqCst);
        let unreachable = self.unreachable.lock().unwrap().contains(server);
        if unreachable {
            sleep(self.timeout).await;
            return Err(SendFailure::Unreachable);
        }
        let positions = pdus.iter().map(|pdu| pdu.get().parse::<u64>().unwrap());
        self.received
            .lock()
            .unwrap()
            .entry(server.to_owned())
            .or_default()
            .extend(positions);
        let edus = edus.iter().map(|edu| edu.get().to_owned());
        self.edus
            .lock()
            .unwrap()
            .entry(server.to_owned())
            .or_default()
            .extend(edus);
        Ok(())
    }
}

fn name(text: &str) -> OwnedServerName {
    OwnedServerName::try_from(text).unwrap()
}

fn start(others: &Arc<Others>, store: &Arc<Store>) -> Sender {
    let config = SenderConfig {
        sweep: Duration::from_secs(3_600),
        ..SenderConfig::default()
    };
    Sender::start(
        config,
        Arc::clone(others) as _,
        Arc::clone(store) as _,
        Arc::new(SystemClock),
    )
}

#[tokio::test]
async fn all_stored_rows_are_sent_in_order_one_transaction_at_a_time() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let servers: Vec<OwnedServerName> = (0..20).map(|number| name(&format!("s{number}.test"))).collect();
    for server in &servers {
        store.put(server, 1..=130);
    }
    // Rows from before the start are found by the sweep, later ones cause a wake-up.
    let sender = start(&others, &store);
    for server in &servers {
        store.put(server, 131..=140);
    }
    sender.wake(&servers);
    store.until(Store::is_empty).await;
    for server in &servers {
        assert_eq!(others.received(server), (1..=140).collect::<Vec<_>>());
    }
    assert!(
        !others.overlapped.load(Ordering::SeqCst),
        "two transactions to one server in flight"
    );
    sender.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_server_that_sends_a_request_gets_its_backlog_at_once() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let server = name("beta.test");
    others.unreachable.lock().unwrap().insert(server.clone());
    store.put(&server, 1..=75);
    let sender = start(&others, &store);
    let failed = |store: &Store| store.retries.lock().unwrap().values().any(Option::is_some);
    store.until(failed).await;
    // Other servers are not delayed by it.
    let other = name("gamma.test");
    store.put(&other, [5]);
    sender.wake([&other]);
    let delivered = |store: &Store| {
        store
            .rows
            .lock()
            .unwrap()
            .get("gamma.test")
            .is_some_and(BTreeMap::is_empty)
    };
    store.until(delivered).await;

    others.unreachable.lock().unwrap().clear();
    sender.mark_reachable(&server);
    store.until(Store::is_empty).await;
    assert_eq!(others.received(&server), (1..=75).collect::<Vec<_>>());
    sender.stop(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_unreachable_for_a_week_costs_few_attempts_and_little_memory_and_gets_everything() {
    const EVENTS: u64 = 50_000;
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let server = name("beta.test");
    others.unreachable.lock().unwrap().insert(server.clone());
    let clock = Arc::new(RuntimeClock::starting_at(1_700_000_000_000));
    let sender = Sender::start(
        SenderConfig::default(),
        Arc::clone(&others) as _,
        Arc::clone(&store) as _,
        clock,
    );
    for position in 1..=EVENTS {
        store.put(&server, [position]);
        sender.wake([&server]);
        let mut queued = typing_in(None, to_raw_value(&position).unwrap());
        queued.key = position.to_string();
        sender.edu([&server], &queued);
        if position % 50 == 0 {
            sleep(WEEK / 1_000).await;
        }
    }
    // A pause is at most five minutes plus a fifth.
    let tried = others.transactions.load(Ordering::SeqCst);
    assert!((1_900..=2_300).contains(&tried), "{tried} tries in a week");
    assert!(others.received(&server).is_empty());
    others.unreachable.lock().unwrap().clear();
    // The server sends no request when it is reachable again.
    sleep(Duration::from_secs(7 * 60)).await;
    assert!(store.is_empty());
    assert_eq!(others.received(&server), (1..=EVENTS).collect::<Vec<_>>());
    assert!(!others.overlapped.load(Ordering::SeqCst));
    assert!(store.most_at_once.load(Ordering::SeqCst) <= MAX_TRANSACTION_PDUS);
    let queued = others.edus.lock().unwrap()[&server].len();
    assert!((1..=MAX_QUEUED_EDUS).contains(&queued), "{queued} EDUs were kept");
    sender.stop(Duration::from_secs(5)).await;
}

/// Ten seconds is the connect timeout.
#[tokio::test(start_paused = true)]
async fn hundreds_of_unreachable_servers_do_not_delay_a_reachable_one() {
    let timeout = Duration::from_secs(10);
    let (others, store) = (
        Others {
            timeout,
            ..Others::default()
        },
        Arc::new(Store::default()),
    );
    let others = Arc::new(others);
    for number in 0..300 {
        let gone = name(&format!("gone{number}.test"));
        store.put(&gone, [1]);
        others.unreachable.lock().unwrap().insert(gone);
    }
    let sender = Sender::start(
        SenderConfig::default(),
        Arc::clone(&others) as _,
        Arc::clone(&store) as _,
        Arc::new(RuntimeClock::starting_at(1_700_000_000_000)),
    );
    // By then each of them has been tried once and is paused.
    sleep(Duration::from_secs(60)).await;
    let there = name("there.test");
    store.put(&there, [1]);
    sender.wake([&there]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(others.received(&there), [1]);
    sender.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn rows_undelivered_at_a_stop_are_delivered_after_the_next_start() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let server = name("beta.test");
    others.unreachable.lock().unwrap().insert(server.clone());
    store.put(&server, 1..=60);
    let sender = start(&others, &store);
    store.until(|store| !store.retries.lock().unwrap().is_empty()).await;
    sender.stop(Duration::from_secs(5)).await;
    let tried = others.transactions.load(Ordering::SeqCst);
    sender.wake([&server]);
    assert_eq!(
        others.transactions.load(Ordering::SeqCst),
        tried,
        "nothing is sent after a stop"
    );

    others.unreachable.lock().unwrap().clear();
    let sender = start(&others, &store);
    sender.wake([&server]);
    sender.mark_reachable(&server);
    store.until(Store::is_empty).await;
    assert_eq!(others.received(&server), (1..=60).collect::<Vec<_>>());
    sender.stop(Duration::from_secs(5)).await;
}

fn typing_in(room: Option<OwnedRoomId>, content: Box<RawValue>) -> Edu {
    Edu {
        key: format!("{room:?}"),
        room,
        kind: "m.typing".to_owned(),
        content,
        expires: None,
    }
}

/// T62: EDUs wait for an unreachable server, and meanwhile it is removed from the room.
#[tokio::test]
async fn queued_edus_are_not_sent_to_a_server_that_was_removed_from_the_room() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let (beta, gamma) = (name("beta.test"), name("gamma.test"));
    let (left, stayed) = (owned_room_id!("!left:alpha.test"), owned_room_id!("!stayed:alpha.test"));
    store.removed.lock().unwrap().insert((beta.clone(), left.clone()));
    let sender = start(&others, &store);
    for room in [&left, &stayed] {
        let content = to_raw_value(room).unwrap();
        sender.edu([&beta, &gamma], &typing_in(Some(room.clone()), content));
    }
    sender.stop(Duration::from_secs(5)).await;
    let edus = others.edus.lock().unwrap();
    let about = |server: &OwnedServerName, room: &RoomId| edus[server].iter().any(|edu| edu.contains(room.as_str()));
    assert!(!about(&beta, &left) && about(&beta, &stayed));
    assert!(about(&gamma, &left) && about(&gamma, &stayed));
}

#[tokio::test]
async fn edus_are_sent_in_their_envelope_and_a_stop_waits_for_possible_deliveries() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let server = name("beta.test");
    let sender = start(&others, &store);
    for typing in [true, false] {
        let content = to_raw_value(&serde_json::json!({ "typing": typing })).unwrap();
        sender.edu([&server], &typing_in(None, content));
    }
    sender.stop(Duration::from_secs(5)).await;
    let edus = others.edus.lock().unwrap();
    assert_eq!(
        edus[&server].last().unwrap(),
        r#"{"edu_type":"m.typing","content":{"typing":false}}"#
    );
}

/// A transaction is signed as canonical JSON: one EDU that is not canonical would block every event.
#[tokio::test]
async fn an_edu_that_is_not_canonical_json_blocks_nothing_else() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let server = name("beta.test");
    store.put(&server, 1..=1);
    let sender = start(&others, &store);
    for (key, content) in [
        ("a", r#"{"x":0.5}"#),
        ("b", r#"{"x":9007199254740992}"#),
        ("c", r#"{"x":1}"#),
    ] {
        let content = RawValue::from_string(content.to_owned()).unwrap();
        let edu = Edu {
            key: key.to_owned(),
            ..typing_in(None, content)
        };
        sender.edu([&server], &edu);
    }
    sender.wake([&server]);
    sender.stop(Duration::from_secs(5)).await;
    assert_eq!(others.received(&server), [1]);
    let edus = others.edus.lock().unwrap();
    assert_eq!(edus[&server], [r#"{"edu_type":"m.typing","content":{"x":1}}"#]);
}

/// F9: a request that depends on queued events waits until they are delivered, and not longer.
#[tokio::test(start_paused = true)]
async fn a_flush_ends_when_everything_is_delivered_or_at_its_timeout() {
    let (others, store) = (Arc::new(Others::default()), Arc::new(Store::default()));
    let (server, gone) = (name("beta.test"), name("gone.test"));
    others.unreachable.lock().unwrap().insert(gone.clone());
    let sender = start(&others, &store);
    let long = Duration::from_secs(60);
    assert!(!sender.flush(&server, long).await, "there were no rows");
    // The sender gets no wake-up for these.
    store.put(&server, 1..=120);
    let began = Instant::now();
    assert!(sender.flush(&server, long).await);
    assert_eq!(others.received(&server).len(), 120);
    assert!(
        began.elapsed() < long,
        "it waits for the delivery and not for the timeout"
    );
    store.put(&gone, [1]);
    assert!(sender.flush(&gone, Duration::from_secs(3)).await);
    assert!(others.received(&gone).is_empty());
}
