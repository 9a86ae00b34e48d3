//! Incoming transactions: limits, checks, delivery and responses (T11, T14, T34, T50 to T58).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of cases stays in one function"
)]

#[path = "servers/room.rs"]
#[allow(dead_code, reason = "shared with the tests of two servers, which use all of it")]
mod room;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId, server_name};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use weft_dag::{RoomVersion, Verified, testing::object};
use weft_federation::{
    Client, ClientConfig, KeyCache, KeyCacheError, KeyRing, RemoteKeys, StoredKeys, SystemClock,
    inbound::{
        DeliverError, InboundEdu, InboundError, InboundHandler, OutOfBandMembership, Transaction, TransactionError,
        Transactions,
    },
};

use room::{Room, sign, signer_of};

/// A key cache with the test key of every server, so that no key is fetched.
struct TestKeys;

#[async_trait]
impl KeyCache for TestKeys {
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        let signer = signer_of(server);
        let public = ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec());
        let now = ruma::MilliSecondsSinceUnixEpoch::now();
        let mut answer = object(json!({
            "server_name": server, "valid_until_ts": u64::from(now.get()) + 86_400_000,
            "verify_keys": { signer.key_id(): { "key": public.encode() } },
        }));
        signer.sign_json(&mut answer).unwrap();
        Ok(Some(StoredKeys::check(server, answer, now).unwrap()))
    }

    async fn save(&self, _keys: &StoredKeys) -> Result<(), KeyCacheError> {
        Ok(())
    }
}

fn client() -> Client {
    let ring = Arc::new(KeyRing::generate(server_name!("alpha.test").to_owned()).unwrap());
    Client::new(ring, ClientConfig::default()).unwrap()
}

fn keys() -> RemoteKeys {
    RemoteKeys::new(client(), Arc::new(TestKeys), Vec::new(), Arc::new(SystemClock))
}

/// A handler for one room that records what is delivered to it.
struct Rooms {
    room: Room,
    denied: Mutex<BTreeSet<String>>,
    broken: AtomicBool,
    /// Events that are not stored, because too many wait.
    full: Mutex<BTreeSet<OwnedEventId>>,
    delivered: Mutex<Vec<Vec<OwnedEventId>>>,
    edus: Mutex<Vec<InboundEdu>>,
    /// Pending invites and knocks of our users.
    open: Mutex<Vec<(OwnedRoomId, OwnedUserId, OutOfBandMembership)>>,
    withdrawn: Mutex<Vec<OwnedEventId>>,
}

impl Rooms {
    fn new() -> Self {
        Self {
            room: Room::document(&RoomVersionId::V11, beta()),
            denied: Mutex::default(),
            broken: AtomicBool::new(false),
            full: Mutex::default(),
            delivered: Mutex::default(),
            edus: Mutex::default(),
            open: Mutex::default(),
            withdrawn: Mutex::default(),
        }
    }

    fn deliveries(&self) -> Vec<Vec<OwnedEventId>> {
        self.delivered.lock().unwrap().clone()
    }

    /// A message with a valid signature.
    fn message(&self, number: usize, bytes: usize) -> Value {
        let mut event = room::member(&self.room, &self.room.creator(), "x", "x");
        event.remove("state_key");
        event.insert("type".to_owned(), "m.room.message".into());
        event.insert(
            "content".to_owned(),
            object(json!({ "body": format!("{number}{}", "x".repeat(bytes)) })).into(),
        );
        sign(event, &self.room.version(), &signer_of(beta()))
    }

    fn id(&self, event: &Value) -> OwnedEventId {
        self.room.event_id(event)
    }
}

#[async_trait]
impl InboundHandler for Rooms {
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, InboundError> {
        Ok((room == self.room.room_id()).then(|| self.room.version()))
    }

    async fn acl_allows(&self, _room: &RoomId, server: &ServerName) -> Result<bool, InboundError> {
        Ok(!self.denied.lock().unwrap().contains(server.as_str()))
    }

    async fn out_of_band_membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Option<OutOfBandMembership>, InboundError> {
        let open = self.open.lock().unwrap();
        let found = open.iter().find(|(of, whose, _)| of == room && whose == user);
        Ok(found.map(|(_, _, outside)| outside.clone()))
    }

    async fn withdrawn(&self, event: Verified) -> Result<(), InboundError> {
        self.withdrawn.lock().unwrap().push(event.pdu().event_id().to_owned());
        Ok(())
    }

    async fn deliver(&self, _origin: &ServerName, events: Vec<Verified>) -> Result<Vec<OwnedEventId>, DeliverError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(InboundError("the disk is full".to_owned()).into());
        }
        let ids: Vec<OwnedEventId> = events.iter().map(|event| event.pdu().event_id().to_owned()).collect();
        let (full, ids) = ids.into_iter().partition(|id| self.full.lock().unwrap().contains(id));
        self.delivered.lock().unwrap().push(ids);
        Ok(full)
    }

    async fn edu(&self, _origin: &ServerName, edu: InboundEdu) {
        self.edus.lock().unwrap().push(edu);
    }
}

fn beta() -> &'static ServerName {
    server_name!("beta.test")
}

fn raw(values: &[Value]) -> Vec<Box<RawValue>> {
    values.iter().map(|value| to_raw_value(value).unwrap()).collect()
}

fn pdus(values: &[Value]) -> Transaction {
    Transaction {
        pdus: raw(values),
        edus: Vec::new(),
    }
}

#[tokio::test]
async fn a_transaction_over_the_limit_is_refused() {
    let (rooms, keys, transactions) = (Rooms::new(), keys(), Transactions::new());
    let messages: Vec<Value> = (0..51).map(|number| rooms.message(number, 0)).collect();
    let edus = vec![json!({ "edu_type": "x", "content": {} }); 101];
    for too_many in [
        pdus(&messages),
        Transaction {
            pdus: Vec::new(),
            edus: raw(&edus),
        },
    ] {
        let error = transactions
            .take(beta(), "1", too_many, &keys, &rooms)
            .await
            .unwrap_err();
        assert!(matches!(error, TransactionError::TooMany { .. }));
    }
    assert!(rooms.deliveries().is_empty());
    // 50 events of nearly the maximum size each, 3 MB, are accepted.
    let large: Vec<Value> = (0..50).map(|number| rooms.message(number, 64_000)).collect();
    let results = transactions
        .take(beta(), "2", pdus(&large), &keys, &rooms)
        .await
        .unwrap();
    assert_eq!(results.values().filter(|result| result.is_ok()).count(), 50);
    assert_eq!(rooms.deliveries()[0].len(), 50);
}

#[tokio::test]
async fn a_repeated_transaction_is_processed_once_and_answered_twice() {
    let (rooms, keys, transactions) = (Rooms::new(), keys(), Transactions::new());
    let (one, two) = (rooms.message(1, 0), rooms.message(2, 0));
    let first = transactions
        .take(beta(), "1", pdus(std::slice::from_ref(&one)), &keys, &rooms)
        .await
        .unwrap();
    let again = transactions
        .take(beta(), "1", pdus(std::slice::from_ref(&one)), &keys, &rooms)
        .await
        .unwrap();
    assert_eq!((first, rooms.deliveries().len()), (again, 1));
    // The same id with other content, or from another server, is another transaction.
    let other = transactions
        .take(beta(), "1", pdus(std::slice::from_ref(&two)), &keys, &rooms)
        .await
        .unwrap();
    assert!(other.contains_key(&rooms.id(&two)));
    transactions
        .take(server_name!("gamma.test"), "1", pdus(&[one]), &keys, &rooms)
        .await
        .unwrap();
    assert_eq!(rooms.deliveries().len(), 3);
}

#[tokio::test]
async fn a_transaction_that_cannot_be_stored_fails_and_succeeds_when_it_is_sent_again() {
    let (rooms, keys, transactions) = (Rooms::new(), keys(), Transactions::new());
    let message = rooms.message(1, 0);
    rooms.broken.store(true, Ordering::SeqCst);
    let error = transactions
        .take(beta(), "1", pdus(std::slice::from_ref(&message)), &keys, &rooms)
        .await
        .unwrap_err();
    assert!(matches!(error, TransactionError::InboundHandler(_)));
    rooms.broken.store(false, Ordering::SeqCst);
    let results = transactions
        .take(beta(), "1", pdus(std::slice::from_ref(&message)), &keys, &rooms)
        .await
        .unwrap();
    assert_eq!(results[&rooms.id(&message)], Ok(()));
    assert_eq!(rooms.deliveries(), [vec![rooms.id(&message)]]);
}

/// T14 with the malformed events of T01 to T10, one at a time among 49 valid ones.
#[tokio::test]
async fn one_bad_event_does_not_affect_the_others() {
    let (rooms, keys) = (Rooms::new(), keys());
    let good: Vec<Value> = (0..49).map(|number| rooms.message(number, 0)).collect();
    let version = rooms.room.version();
    let signer = signer_of(beta());
    // Correctly signed, as far as such an event can be signed at all.
    let resign = |change: &dyn Fn(&mut Value)| {
        let mut event = rooms.message(99, 0);
        change(&mut event);
        let mut signed = event.clone();
        signed.as_object_mut().unwrap().remove("signatures");
        signed.as_object_mut().unwrap().remove("hashes");
        let mut signed = object(signed);
        let rules = &version.rules().redaction;
        let done = ruma::signatures::hash_and_sign_event("beta.test", signer.key_pair(), &mut signed, rules);
        done.map_or(event, |()| serde_json::to_value(signed).unwrap())
    };
    let mut bad: Vec<(String, String)> = vec![
        ("null".to_owned(), "null".to_owned()),
        ("a list".to_owned(), "[]".to_owned()),
        ("a number".to_owned(), "5".to_owned()),
        ("no room".to_owned(), r#"{"type":"x"}"#.to_owned()),
        (
            "a float".to_owned(),
            rooms
                .message(99, 0)
                .to_string()
                .replacen("\"depth\":9", "\"depth\":9.5", 1),
        ),
        (
            "an exponent".to_owned(),
            rooms
                .message(99, 0)
                .to_string()
                .replacen("\"depth\":9", "\"depth\":9e0", 1),
        ),
        (
            "a huge integer".to_owned(),
            rooms
                .message(99, 0)
                .to_string()
                .replacen("\"depth\":9", "\"depth\":9007199254740992", 1),
        ),
        (
            "a repeated key".to_owned(),
            rooms
                .message(99, 0)
                .to_string()
                .replacen("\"depth\":9", "\"depth\":9,\"depth\":9", 1),
        ),
        (
            "deep nesting".to_owned(),
            rooms.message(99, 0).to_string().replacen(
                "\"depth\":9",
                &format!("\"depth\":9,\"x\":{}{}", "[".repeat(200), "]".repeat(200)),
                1,
            ),
        ),
        (
            "too large".to_owned(),
            rooms.message(99, 0).to_string().replacen(
                "\"body\":\"99",
                &format!("\"body\":\"99{}", "x".repeat(66_000)),
                1,
            ),
        ),
    ];
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("negative depth", |event| event["depth"] = json!(-1)),
        ("no type", |event| _ = event.as_object_mut().unwrap().remove("type")),
        ("a long type", |event| event["type"] = json!("x".repeat(256))),
        ("an invalid sender", |event| event["sender"] = json!("bob")),
        ("21 previous events", |event| {
            event["prev_events"] = vec![format!("${}", "a".repeat(43)); 21].into()
        }),
        ("11 auth events", |event| {
            event["auth_events"] = vec![format!("${}", "a".repeat(43)); 11].into()
        }),
        ("content that is not an object", |event| event["content"] = json!("x")),
        ("a sender of another server", |event| {
            event["sender"] = json!("@victim:gamma.test")
        }),
        ("another room", |event| {
            event["room_id"] = json!("!elsewhere:gamma.test")
        }),
    ];
    for (name, change) in changes {
        bad.push((name.to_owned(), resign(&change).to_string()));
    }
    for (number, event) in rooms.room.forge(&rooms.message(99, 0)).into_iter().enumerate() {
        bad.push((format!("forged {number}"), event.to_string()));
    }
    for (at, (name, text)) in bad.into_iter().enumerate() {
        let mut transaction = pdus(&good);
        transaction.pdus.insert(at % 50, RawValue::from_string(text).unwrap());
        let before = rooms.deliveries().len();
        let results = Transactions::new()
            .take(beta(), "1", transaction, &keys, &rooms)
            .await
            .unwrap();
        assert_eq!(results.values().filter(|result| result.is_ok()).count(), 49, "{name}");
        assert!(results.len() <= 50, "{name}");
        assert_eq!(
            rooms.deliveries()[before..].iter().map(Vec::len).sum::<usize>(),
            49,
            "{name}"
        );
    }
}

#[tokio::test]
async fn events_and_edus_of_servers_denied_by_the_acl_are_refused() {
    let (rooms, keys) = (Rooms::new(), keys());
    rooms.denied.lock().unwrap().insert("beta.test".to_owned());
    let message = rooms.message(1, 0);
    let typing = json!({ "room_id": rooms.room.room_id(), "user_id": "@bob:beta.test", "typing": true });
    let edus = raw(&[json!({ "edu_type": "m.typing", "content": typing })]);
    let transaction = Transaction {
        pdus: raw(std::slice::from_ref(&message)),
        edus,
    };
    let results = Transactions::new()
        .take(beta(), "1", transaction.clone(), &keys, &rooms)
        .await
        .unwrap();
    assert!(results[&rooms.id(&message)].is_err());
    assert!(rooms.deliveries().is_empty() && rooms.edus.lock().unwrap().is_empty());
    rooms.denied.lock().unwrap().clear();
    Transactions::new()
        .take(beta(), "1", transaction, &keys, &rooms)
        .await
        .unwrap();
    assert_eq!((rooms.deliveries().len(), rooms.edus.lock().unwrap().len()), (1, 1));
}

/// Events of a third server's users are accepted from any server: the signature of their own server decides.
#[tokio::test]
async fn events_signed_by_a_third_server_are_accepted() {
    let (rooms, keys) = (Rooms::new(), keys());
    let message = rooms.message(1, 0);
    let transaction = pdus(std::slice::from_ref(&message));
    let results = Transactions::new()
        .take(server_name!("gamma.test"), "1", transaction, &keys, &rooms)
        .await
        .unwrap();
    assert_eq!(results[&rooms.id(&message)], Ok(()));
}

/// W4: an invite ends by an event of the server that sent it, which cites the invite, and by nothing else: power
/// levels can't be checked without being in the room.
#[tokio::test]
async fn an_invite_is_withdrawn_only_by_the_server_that_sent_it() {
    type Change = fn(&mut Value);
    const INVITE: &str = "$iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii";
    let cases: [(&str, bool, Change); 10] = [
        ("its inviter", true, |_| {}),
        ("a ban", true, |event| event["content"]["membership"] = json!("ban")),
        ("another user of that server", true, |event| {
            event["sender"] = json!("@eve:delta.test")
        }),
        ("a user of another server", false, |event| {
            event["sender"] = json!("@eve:gamma.test")
        }),
        ("without citing the invite", false, |event| {
            event["auth_events"] = json!([])
        }),
        ("of another invite", false, |event| {
            event["auth_events"] = json!([format!("${}", "j".repeat(43))])
        }),
        ("another invite", false, |event| {
            event["content"]["membership"] = json!("invite")
        }),
        ("a join", false, |event| event["content"]["membership"] = json!("join")),
        ("of another user", false, |event| {
            event["state_key"] = json!("@carl:alpha.test")
        }),
        ("no membership", false, |event| event["type"] = json!("m.room.topic")),
    ];
    // Another server than the one of the room that this server is in.
    let host = server_name!("delta.test");
    for version in [RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12] {
        for (name, counts, change) in &cases {
            let (rooms, keys) = (Rooms::new(), keys());
            let elsewhere = Room::document(&version, host);
            let alice = OwnedUserId::try_from("@alice:alpha.test").unwrap();
            let outside = OutOfBandMembership {
                event: INVITE.try_into().unwrap(),
                version: elsewhere.version(),
                resident: host.to_owned(),
            };
            rooms
                .open
                .lock()
                .unwrap()
                .push((elsewhere.room_id(), alice.clone(), outside));
            let leave = room::member(&elsewhere, &elsewhere.creator(), alice.as_str(), "leave");
            let mut leave = serde_json::to_value(leave).unwrap();
            leave["auth_events"] = json!([INVITE]);
            change(&mut leave);
            let server = if leave["sender"].as_str().unwrap().ends_with("gamma.test") {
                server_name!("gamma.test")
            } else {
                host
            };
            let signed = sign(object(leave), &elsewhere.version(), &signer_of(server));
            let id = elsewhere.event_id(&signed);
            let mut sent = vec![signed.clone()];
            // The same with an invalid signature.
            if server == host {
                sent.extend(elsewhere.forge(&signed).into_iter().take(1));
            }
            let results = Transactions::new()
                .take(host, "1", pdus(&sent), &keys, &rooms)
                .await
                .unwrap();
            assert_eq!(results[&id].is_ok(), *counts, "{version} {name}: {results:?}");
            let ended = rooms.withdrawn.lock().unwrap().clone();
            assert_eq!(ended == [id], *counts, "{version} {name}");
            assert!(rooms.deliveries().is_empty(), "{name}");
        }
    }
}

/// T128: the thread of a receipt is a valid event id or `main`, and the number of receipts in an EDU is limited.
#[tokio::test]
async fn receipts_have_valid_threads_and_are_limited_in_number() {
    let (rooms, keys) = (Rooms::new(), keys());
    let root = format!("${}", "r".repeat(43));
    let receipt = |user: usize, thread: Value| {
        let read = json!({ "event_ids": [root], "data": { "ts": 5, "thread_id": thread } });
        (format!("@u{user}:beta.test"), read)
    };
    let edu = |receipts: Vec<(String, Value)>| {
        let users: serde_json::Map<String, Value> = receipts.into_iter().collect();
        json!({ "edu_type": "m.receipt", "content": { rooms.room.room_id().as_str(): { "m.read": users } } })
    };
    let threads = [
        (json!("main"), true),
        (json!(root), true),
        (Value::Null, true),
        (json!("x".repeat(10)), false),
        (json!(""), false),
        (json!(format!("${}", "x".repeat(300))), false),
        (json!("!room:x"), false),
    ];
    let named = threads
        .iter()
        .enumerate()
        .map(|(user, (thread, _))| receipt(user, thread.clone()));
    let many = (0..400).map(|user| receipt(user, json!("main")));
    for (edu, expected) in [
        (edu(named.collect()), 3),
        (edu(many.collect()), weft_wire::limits::MAX_RECEIPTS_PER_EDU),
    ] {
        rooms.edus.lock().unwrap().clear();
        let transaction = Transaction {
            pdus: Vec::new(),
            edus: raw(&[edu]),
        };
        Transactions::new()
            .take(beta(), "1", transaction, &keys, &rooms)
            .await
            .unwrap();
        assert_eq!(rooms.edus.lock().unwrap().len(), expected);
    }
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// T136: many bad events cause one log line, with their number.
#[tokio::test]
async fn bad_events_are_counted_in_one_log_line() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false);
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let (rooms, keys) = (Rooms::new(), keys());
    let forged: Vec<Value> = (0..10)
        .flat_map(|number| rooms.room.forge(&rooms.message(number, 0)).into_iter().take(5))
        .collect();
    let typing = json!({ "room_id": rooms.room.room_id(), "user_id": "@victim:gamma.test", "typing": true });
    let transaction = Transaction {
        pdus: raw(&forged),
        edus: raw(&vec![json!({ "edu_type": "m.typing", "content": typing }); 100]),
    };
    Transactions::new()
        .take(beta(), "1", transaction, &keys, &rooms)
        .await
        .unwrap();
    let events = weft_federation::RemoteEvents::new(client(), keys);
    let none = events.check_all(&rooms.room.version(), beta(), raw(&forged)).await;
    assert!(none.is_empty());
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("weft_")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines.iter().all(|line| line.contains("count=50")), "{log}");
}
