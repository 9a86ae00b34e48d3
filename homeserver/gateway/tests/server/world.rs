//! One server in this process, and others that call its router with signed requests.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{Router, body::Body};
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedTransactionId, OwnedUserId,
    RoomId, ServerName, UserId,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    server_name,
};
use serde_json::{Value, json, value::RawValue};
use tower::ServiceExt;
use weft_accounts::NewAccount;
use weft_budget::DailyBudget;
use weft_dag::{
    Draft, Placement, RoomVersion, Signer, Verified,
    testing::{object, signer},
};
use weft_federation::{
    Client, ClientConfig, KeyCache, KeyCacheError, KeyRing, RemoteEvents, RemoteKeys, StoredKeys, acl,
    handshake::Handshake,
    inbound::{DeliverError, InboundEdu, InboundError, InboundHandler, OutOfBandMembership, Transactions},
    outbox::{OutboxError, OutboxStore, Retry, Row, Sender, SenderConfig},
};
use weft_gateway::server::{ServerPorts, router};
use weft_room::Rooms;
use weft_room_api::{CreateRoom, Identity, NewEvent, RoomChange, testing::ObservedBus};
use weft_testkit::{ServerSetup, TestServer};

pub fn alpha() -> &'static ServerName {
    server_name!("alpha.test")
}

pub fn beta() -> &'static ServerName {
    server_name!("beta.test")
}

pub fn gamma() -> &'static ServerName {
    server_name!("gamma.test")
}

struct Name(Arc<KeyRing>);

impl Identity for Name {
    fn signer(&self) -> Arc<Signer> {
        self.0.signer()
    }

    fn server_name(&self) -> &ServerName {
        self.0.server_name()
    }
}

/// Queues nothing for other servers.
struct Noop;

#[async_trait]
impl OutboxStore for Noop {
    async fn pending(&self, _: &ServerName, _: u64, _: usize) -> Result<Vec<Row>, OutboxError> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _: &ServerName, _: &[u64]) -> Result<(), OutboxError> {
        Ok(())
    }

    async fn backlog(&self) -> Result<Vec<OwnedServerName>, OutboxError> {
        Ok(Vec::new())
    }

    async fn is_in(&self, _: &ServerName, _: &RoomId) -> bool {
        false
    }

    async fn load_retry(&self, _: &ServerName) -> Result<Option<Retry>, OutboxError> {
        Ok(None)
    }

    async fn save_retry(&self, _: &ServerName, _: Option<Retry>) -> Result<(), OutboxError> {
        Ok(())
    }
}

/// The keys of every test server.
struct TestKeys;

#[async_trait]
impl KeyCache for TestKeys {
    async fn load(&self, server: &ServerName) -> Result<Option<StoredKeys>, KeyCacheError> {
        let signer = signer(server);
        let public = ruma::serde::Base64::<ruma::serde::base64::Standard, _>::new(signer.public_key().to_vec());
        let now = MilliSecondsSinceUnixEpoch::now();
        let mut answer = object(json!({
            "server_name": server, "valid_until_ts": u64::from(now.get()) + 86_400_000,
            "verify_keys": { signer.key_id(): { "key": public.encode() } },
        }));
        signer.sign_json(&mut answer).unwrap();
        Ok(Some(StoredKeys::check(server, answer, now).unwrap()))
    }

    async fn save(&self, _: &StoredKeys) -> Result<(), KeyCacheError> {
        Ok(())
    }
}

struct Into(Rooms);

#[async_trait]
impl InboundHandler for Into {
    async fn room_version(&self, room: &RoomId) -> Result<Option<RoomVersion>, InboundError> {
        self.0
            .reader()
            .version(room)
            .await
            .map_err(|error| InboundError(error.to_string()))
    }

    async fn acl_allows(&self, room: &RoomId, server: &ServerName) -> Result<bool, InboundError> {
        let list = self.0.reader().state_event(room, "m.room.server_acl", "").await;
        let list = list.map_err(|error| InboundError(error.to_string()))?;
        Ok(acl::allows(list.as_deref().map(weft_dag::Pdu::content), server))
    }

    async fn out_of_band_membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Option<OutOfBandMembership>, InboundError> {
        let row = self.0.reader().outside(user, room).await;
        let row = row.map_err(|error| InboundError(error.to_string()))?;
        Ok(row.map(|row| OutOfBandMembership {
            event: row.event,
            version: RoomVersion::new(&row.version).unwrap(),
            resident: row.resident,
        }))
    }

    async fn withdrawn(&self, event: Verified) -> Result<(), InboundError> {
        let ended = self.0.withdrawn(event.pdu()).await;
        ended.map_err(|error| InboundError(error.to_string()))
    }

    async fn deliver(&self, origin: &ServerName, events: Vec<Verified>) -> Result<Vec<OwnedEventId>, DeliverError> {
        let received = self.0.receive(origin, events).await;
        received.map_err(|error| InboundError(error.to_string()).into())
    }

    async fn edu(&self, _: &ServerName, _: InboundEdu) {}
}

pub struct World {
    pub rooms: Rooms,
    pub alice: OwnedUserId,
    commits: tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Arc<RoomChange>>>,
    router: Router,
}

impl World {
    pub async fn new() -> Self {
        Self::with(u64::MAX).await
    }

    pub async fn with(event_bytes: u64) -> Self {
        let key_ring = Arc::new(KeyRing::generate(alpha().to_owned()).unwrap());
        let (commit, commits) = tokio::sync::mpsc::unbounded_channel();
        let changes = ObservedBus::new(move |change| {
            let _ = commit.send(Arc::clone(change));
        });
        let TestServer {
            rooms, accounts, store, ..
        } = TestServer::start(ServerSetup {
            identity: Arc::new(Name(Arc::clone(&key_ring))),
            changes,
            ..ServerSetup::default()
        })
        .await;
        let account = NewAccount {
            username: "alice".to_owned(),
            password: None,
            admin: false,
            display_name: Some("Alice".to_owned()),
        };
        let alice = accounts.register(account).await.unwrap();
        let client = Client::new(Arc::clone(&key_ring), ClientConfig::default()).unwrap();
        let clock = Arc::new(weft_federation::SystemClock);
        let keys = RemoteKeys::new(client.clone(), Arc::new(TestKeys), Vec::new(), clock.clone());
        let events = RemoteEvents::new(client.clone(), keys.clone());
        let media = weft_media::testing::media(alpha(), store, Arc::new(weft_federation::SystemClock)).unwrap();
        let router = router(ServerPorts {
            server_name: alpha().to_owned(),
            rooms: rooms.clone(),
            accounts,
            media,
            key_ring,
            keys,
            handshake: Handshake::new(events.clone()),
            events,
            transactions: Arc::new(Transactions::new()),
            intake: Arc::new(Into(rooms.clone())),
            sender: Sender::start(SenderConfig::default(), Arc::new(client), Arc::new(Noop), clock),
            event_bytes: DailyBudget::new("test_event_bytes", event_bytes),
        });
        Self {
            rooms,
            alice,
            commits: tokio::sync::Mutex::new(commits),
            router,
        }
    }

    pub async fn room(&self, request: CreateRoom) -> OwnedRoomId {
        self.rooms.create(&self.alice, request).await.unwrap()
    }

    /// A room with the join rule `public`.
    pub async fn public_room(&self) -> OwnedRoomId {
        let preset = Some(weft_room_api::Preset::PublicChat);
        self.room(CreateRoom {
            preset,
            public: true,
            name: Some("Hall".to_owned()),
            ..CreateRoom::default()
        })
        .await
    }

    pub async fn send(&self, room: &RoomId, kind: &str, state_key: Option<&str>, content: Value) -> OwnedEventId {
        self.send_as(&self.alice, room, kind, state_key, content).await
    }

    pub async fn send_as(
        &self,
        sender: &UserId,
        room: &RoomId,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let event = NewEvent {
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: content.as_object().unwrap().clone(),
            redacts: None,
            txn: None::<(_, OwnedTransactionId)>,
            timestamp: None,
        };
        self.rooms.send(room, event).await.unwrap()
    }

    pub async fn send_text(&self, room: &RoomId, text: &str) -> OwnedEventId {
        self.send(
            room,
            "m.room.message",
            None,
            json!({ "msgtype": "m.text", "body": text }),
        )
        .await
    }

    /// Sends a request signed by `server`; returns status and body.
    pub async fn ask(&self, server: &ServerName, method: &str, path: &str, body: Value) -> (u16, Value) {
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
        let key = signer(server);
        let input = XMatrixSigningInput::new(server.to_owned(), alpha().to_owned(), key.key_pair());
        let header = XMatrix::sign_http_request(&request, input).unwrap().to_string();
        request.headers_mut().insert("authorization", header.parse().unwrap());
        self.raw(request.map(Body::from)).await
    }

    pub async fn get(&self, server: &ServerName, path: &str) -> (u16, Value) {
        self.ask(server, "GET", path, Value::Null).await
    }

    pub async fn raw(&self, request: axum::http::Request<Body>) -> (u16, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A user of another server joins; returns the event and the answer to send_join.
    pub async fn join(&self, user: &str, room: &RoomId) -> (OwnedEventId, Value) {
        let user = UserId::parse(user).unwrap();
        let (event_id, event) = self.membership(&user, room, "join").await;
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            path(room.as_str()),
            path(event_id.as_str())
        );
        let (status, answer) = self.ask(user.server_name(), "PUT", &path, event).await;
        assert_eq!(status, 200, "{answer}");
        (event_id, answer)
    }

    /// A user's own membership event, created from the server's template and signed.
    pub async fn membership(&self, user: &UserId, room: &RoomId, membership: &str) -> (OwnedEventId, Value) {
        let path = format!(
            "/_matrix/federation/v1/make_{membership}/{}/{}?ver=6&ver=7&ver=8&ver=9&ver=10&ver=11&ver=12",
            path(room.as_str()),
            path(user.as_str())
        );
        let (status, template) = self.get(user.server_name(), &path).await;
        assert_eq!(status, 200, "{template}");
        let ids = |field: &str| serde_json::from_value(template["event"][field].clone()).unwrap();
        self.event(
            room,
            user,
            "m.room.member",
            Some(user.as_str()),
            json!({ "membership": membership }),
            (
                ids("prev_events"),
                ids("auth_events"),
                template["event"]["depth"].as_u64().unwrap(),
            ),
        )
        .await
    }

    /// An event signed by its sender's server.
    pub async fn event(
        &self,
        room: &RoomId,
        sender: &UserId,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
        (prev_events, auth_events, depth): (Vec<OwnedEventId>, Vec<OwnedEventId>, u64),
    ) -> (OwnedEventId, Value) {
        let version = self.rooms.reader().version(room).await.unwrap().unwrap();
        let draft = Draft {
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(ToOwned::to_owned),
            content: object(content),
            redacts: None,
            room_id: Some(room.to_owned()),
        };
        let now = MilliSecondsSinceUnixEpoch::now();
        let placement = Placement {
            prev_events,
            auth_events,
            depth,
            origin_server_ts: now,
        };
        let signed = draft.sign(&version, placement, &signer(sender.server_name())).unwrap();
        (
            signed.pdu.event_id().to_owned(),
            serde_json::from_str(signed.pdu.json()).unwrap(),
        )
    }

    /// Waits until an event is persisted, also if it is soft-failed.
    pub async fn until_in_place(&self, room: &RoomId, event: &EventId) {
        while self.rooms.reader().state_ids(room, event).await.unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Waits until an event is committed to its room.
    pub async fn until_committed(&self, event: &EventId) {
        let mut commits = self.commits.lock().await;
        loop {
            let change = commits.recv().await.unwrap();
            if change.events.iter().any(|committed| committed.pdu.event_id() == event) {
                return;
            }
        }
    }
}

/// One segment of a path.
pub fn path(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The event with this id from a raw list of events.
pub fn ids(events: &Value, version: &RoomVersion) -> Vec<OwnedEventId> {
    let events: Vec<Box<RawValue>> = serde_json::from_value(events.clone()).unwrap();
    let parse = |raw: &RawValue| {
        weft_dag::Unchecked::parse(raw.get(), version)
            .unwrap()
            .event_id()
            .to_owned()
    };
    events.iter().map(|raw| parse(raw)).collect()
}
