//! One server in this process over a memory engine behind a delay, a user, and another server that signs requests.

use axum::{Router, body::Body};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tower::ServiceExt as _;
use weft_accounts::{Accounts, NewAccount, NewDevice, PasswordCost};
use weft_dag::{
    Draft, Placement,
    testing::{object, signer},
};
use weft_fanout::{Awareness, EduSink, Fanout};
use weft_federation::{KeyCache as _, StoredKeys};
use weft_gateway::traffic::{Traffic, TrafficLimits};
use weft_room::Rooms;
use weft_room_api::NewEvent;
use weft_room_read::Reader;
use weft_store::{
    Lane, Store,
    latency::{LatencyEngine, Meter},
    memory::MemoryDisk,
};
use weft_store_rocksdb::{RocksEngine, RocksOptions};

use super::super::{Area, Parts};
use crate::{
    adapters::{RoomMembershipView, StoredKeyCache},
    config,
};

/// The other server. Requests to it fail at once: addresses of this machine are not allowed.
pub(super) const BETA: &str = "127.0.0.1:1";
const ALPHA: &str = "alpha.example";

const CONFIG: &str = "server_name = \"alpha.example\"\n\
    [limits]\nrate_limit = false\n\
    [[listen]]\naddress = \"127.0.0.1:8008\"\nserve = [\"client\", \"documents\", \"federation\"]\n";

/// Sends nothing to other servers.
struct NoEdus;

impl EduSink for NoEdus {
    fn send(&self, _: &RoomId, _: &[OwnedServerName], _: &'static str, _: Value, _: Option<String>) {}
}

/// Where the data of a world is.
enum Medium {
    Memory(MemoryDisk),
    /// In the folder.
    RocksDb,
}

struct Running {
    parts: Parts,
    store: Store,
    router: Router,
}

pub(super) struct World {
    folder: tempfile::TempDir,
    medium: Medium,
    pub(super) meter: Meter,
    running: Running,
    pub(super) alice: OwnedUserId,
    token: String,
    /// The last event of the other server's user, and its depth.
    last: Option<(OwnedEventId, u64)>,
}

async fn start(folder: &std::path::Path, medium: &Medium) -> (Running, Meter) {
    let file = folder.join("weft.toml");
    let text = format!("data_dir = {:?}\n{CONFIG}", folder.display().to_string());
    std::fs::write(&file, text).unwrap();
    let config = config::load(Some(&file), &std::collections::BTreeMap::new()).unwrap();
    let (store, meter) = match medium {
        Medium::Memory(disk) => {
            let (engine, meter) = LatencyEngine::new(disk.open());
            (Store::open(engine).await.unwrap(), meter)
        }
        Medium::RocksDb => {
            let (engine, _) = RocksEngine::open(folder.join("store"), &RocksOptions::default()).unwrap();
            let (engine, meter) = LatencyEngine::new(engine);
            (Store::open(engine).await.unwrap(), meter)
        }
    };
    let traffic = Traffic::new(
        &TrafficLimits::default(),
        weft_gateway::client_address::TrustedProxies::default(),
    );
    let parts = Parts::over(&config, &store, &traffic, &weft_telemetry::Metrics::default())
        .await
        .unwrap();
    let areas = [Area::Client, Area::Documents, Area::Federation];
    let router = areas
        .map(|area| parts.area(area))
        .into_iter()
        .fold(Router::new(), Router::merge);
    (Running { parts, store, router }, meter)
}

fn accounts(store: &Store) -> Accounts {
    let clock = Arc::new(weft_accounts::SystemClock);
    Accounts::with_cost(store.clone(), ALPHA.try_into().unwrap(), clock, PasswordCost::Minimal)
}

async fn register(accounts: &Accounts, name: &str) -> OwnedUserId {
    let account = NewAccount {
        username: name.to_owned(),
        password: None,
        admin: false,
        display_name: None,
    };
    accounts.register(account).await.unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        Self::on(Medium::Memory(MemoryDisk::new())).await
    }

    pub(super) async fn on_rocksdb() -> Self {
        Self::on(Medium::RocksDb).await
    }

    async fn on(medium: Medium) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (running, meter) = start(folder.path(), &medium).await;
        let accounts = accounts(&running.store);
        let alice = register(&accounts, "alice").await;
        let session = accounts.begin_session(&alice, NewDevice::default()).await.unwrap();
        Self {
            folder,
            medium,
            meter,
            running,
            alice,
            token: session.access_token,
            last: None,
        }
    }

    /// Stops the server and starts it again: nothing of a room is in memory.
    pub(super) async fn restart(&mut self) {
        let (running, meter) = {
            self.running.parts.rooms.stop().await;
            self.running.store.close().await;
            start(self.folder.path(), &self.medium).await
        };
        let before = std::mem::replace(&mut self.running, running);
        self.meter = meter;
        before.parts.stop().await;
    }

    pub(super) fn rooms(&self) -> &Rooms {
        &self.running.parts.rooms
    }

    pub(super) async fn request(&self, request: axum::http::Request<Body>) -> (u16, Value) {
        let response = self.running.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// A request of Alice.
    pub(super) async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token));
        self.request(request.body(body).unwrap()).await
    }

    /// A request of Alice that must succeed.
    pub(super) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(super) async fn document(&self, title: &str) -> OwnedRoomId {
        let answer = self
            .ok(
                "POST",
                "/_weft/client/v1/documents",
                json!({"title": title, "kind": "rich_text"}),
            )
            .await;
        RoomId::parse(answer["docId"].as_str().unwrap()).unwrap()
    }

    /// A public chat room.
    pub(super) async fn chat(&self, name: &str) -> OwnedRoomId {
        let options = json!({"name": name, "preset": "public_chat"});
        let answer = self.ok("POST", "/_matrix/client/v3/createRoom", options).await;
        RoomId::parse(answer["room_id"].as_str().unwrap()).unwrap()
    }

    pub(super) async fn send_text(&self, room: &RoomId, text: &str) -> String {
        let txn: u64 = rand::random();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
        let answer = self.ok("PUT", &path, json!({"msgtype": "m.text", "body": text})).await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    /// Lets users of this server join.
    pub(super) async fn add_members(&self, room: &RoomId, count: usize) {
        let name: &ServerName = ALPHA.try_into().unwrap();
        let joins = (0..count).map(|number| {
            let user = UserId::parse_with_server_name(format!("user{number}"), name).unwrap();
            let event = NewEvent {
                sender: user.clone(),
                kind: "m.room.member".to_owned(),
                state_key: Some(user.to_string()),
                content: Map::from_iter([("membership".to_owned(), json!("join"))]),
                redacts: None,
                txn: None,
                timestamp: None,
            };
            self.rooms().send(room, event)
        });
        for join in futures_util::future::join_all(joins).await {
            join.unwrap();
        }
    }

    /// Awareness with this server's view of memberships.
    pub(super) fn awareness(&self) -> Awareness {
        let view = RoomMembershipView::new(Reader::new(self.running.store.clone()), ALPHA.try_into().unwrap());
        let clock = Arc::new(weft_room_api::SystemClock);
        Awareness::new(Fanout::new(), Arc::new(view), Arc::new(NoEdus), clock)
    }

    pub(super) fn visible(&self) -> u64 {
        self.running.store.positions().in_lane(Lane::FIRST).visible()
    }

    /// Waits until this position is visible. Must not read from the store meanwhile.
    pub(super) async fn until_visible(&self, position: u64) {
        let mut visible = self.running.store.positions().in_lane(Lane::FIRST).watch();
        let reached = visible.wait_for(|visible| *visible >= position);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .expect("the position is reached")
            .unwrap();
    }

    // --- The other server ----------------------------------------------------------------------------------------

    /// A request that the other server signs.
    async fn signed(&self, method: &str, path: &str, body: Value) -> Value {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .body(text.into_bytes())
            .unwrap();
        let (alpha, beta) = (
            OwnedServerName::try_from(ALPHA).unwrap(),
            OwnedServerName::try_from(BETA).unwrap(),
        );
        let key = signer(&beta);
        let input = XMatrixSigningInput::new(beta, alpha, key.key_pair());
        let header = XMatrix::sign_http_request(&request, input).unwrap().to_string();
        request.headers_mut().insert("authorization", header.parse().unwrap());
        let (status, answer) = self.request(request.map(Body::from)).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    async fn save_keys_of_beta(&self) {
        let beta: &ServerName = BETA.try_into().unwrap();
        let signer = signer(beta);
        let public = ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec());
        let now = MilliSecondsSinceUnixEpoch::now();
        let mut answer = object(json!({
            "server_name": beta, "valid_until_ts": u64::from(now.get()) + 86_400_000,
            "verify_keys": { signer.key_id(): { "key": public.encode() } },
        }));
        signer.sign_json(&mut answer).unwrap();
        let keys = StoredKeys::check(beta, answer, now).unwrap();
        StoredKeyCache(self.running.store.clone()).save(&keys).await.unwrap();
    }

    async fn event_of_beta(
        &self,
        room: &RoomId,
        (kind, key): (&str, Option<&str>),
        content: Value,
        (prev_events, auth_events, depth): (Vec<OwnedEventId>, Vec<OwnedEventId>, u64),
    ) -> (OwnedEventId, Value) {
        let version = self.rooms().reader().version(room).await.unwrap().unwrap();
        let sender = UserId::parse(format!("@bob:{BETA}")).unwrap();
        let draft = Draft {
            sender: sender.clone(),
            kind: kind.to_owned(),
            state_key: key.map(ToOwned::to_owned),
            content: object(content),
            redacts: None,
            room_id: Some(room.to_owned()),
        };
        let placement = Placement {
            prev_events,
            auth_events,
            depth,
            origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
        };
        let signed = draft.sign(&version, placement, &signer(sender.server_name())).unwrap();
        (
            signed.pdu.event_id().to_owned(),
            serde_json::from_str(signed.pdu.json()).unwrap(),
        )
    }

    /// A user of the other server joins.
    pub(super) async fn join_from_beta(&mut self, room: &RoomId) {
        self.save_keys_of_beta().await;
        let user = format!("@bob:{BETA}");
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?ver=12",
            escaped(room.as_str()),
            escaped(&user)
        );
        let template = self.signed("GET", &path, Value::Null).await;
        let ids = |field: &str| serde_json::from_value(template["event"][field].clone()).unwrap();
        let depth = template["event"]["depth"].as_u64().unwrap();
        let at = (ids("prev_events"), ids("auth_events"), depth);
        let content = json!({"membership": "join"});
        let (id, event) = self
            .event_of_beta(room, ("m.room.member", Some(&user)), content, at)
            .await;
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            escaped(room.as_str()),
            escaped(id.as_str())
        );
        self.signed("PUT", &path, event).await;
        self.last = Some((id, depth));
    }

    /// New messages of the other server's user, each after the one before it.
    pub(super) async fn messages_of_beta(&mut self, room: &RoomId, count: usize) -> Vec<Value> {
        let state = self.rooms().reader().state(room).await.unwrap().unwrap();
        let user = format!("@bob:{BETA}");
        let mut auth = vec![];
        for (kind, key) in [("m.room.power_levels", ""), ("m.room.member", user.as_str())] {
            auth.push(state.get(kind, key).unwrap().event_id().to_owned());
        }
        let mut pdus = Vec::new();
        for number in 0..count {
            let (before, depth) = self.last.clone().unwrap();
            let content = json!({"msgtype": "m.text", "body": format!("message {number}")});
            let at = (vec![before], auth.clone(), depth + 1);
            let (id, pdu) = self.event_of_beta(room, ("m.room.message", None), content, at).await;
            self.last = Some((id, depth + 1));
            pdus.push(pdu);
        }
        pdus
    }

    /// Sends a transaction and returns when it is acknowledged.
    pub(super) async fn deliver(&self, txn: &str, pdus: &[Value], edus: &[Value]) {
        let now = MilliSecondsSinceUnixEpoch::now();
        let body = json!({"origin": BETA, "origin_server_ts": now, "pdus": pdus, "edus": edus});
        let answer = self
            .signed("PUT", &format!("/_matrix/federation/v1/send/{txn}"), body)
            .await;
        let failed = answer["pdus"]
            .as_object()
            .unwrap()
            .values()
            .find(|pdu| pdu.get("error").is_some());
        assert!(failed.is_none(), "{answer}");
    }

    /// The number of events that the other server gets by a backfill.
    pub(super) async fn backfill(&self, room: &RoomId, from: &str, limit: usize) -> usize {
        let (room, from) = (escaped(room.as_str()), escaped(from));
        let path = format!("/_matrix/federation/v1/backfill/{room}?v={from}&limit={limit}");
        let answer = self.signed("GET", &path, Value::Null).await;
        answer["pdus"].as_array().unwrap().len()
    }

    /// Sends new messages and waits until they are merged and other tasks are done.
    pub(super) async fn transaction(&mut self, room: &RoomId, txn: &str, count: usize) {
        let pdus = self.messages_of_beta(room, count).await;
        let visible = self.visible();
        self.deliver(txn, &pdus, &[]).await;
        self.until_visible(visible + u64::try_from(count).unwrap()).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
}

/// One segment of a path.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
