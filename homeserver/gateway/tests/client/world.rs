//! One server in this process, and users who call its router.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http_body_util::BodyExt;
use ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use weft_accounts::NewAccount;
use weft_dag::VerifyKeys;
use weft_fanout::{Ephemeral, Presence, Unread};
use weft_federation::Initiator;
use weft_gateway::{
    client::{ClientPorts, ClientSettings, Registration, Remote, router, with_fallbacks},
    documents::{
        self, AuditPorts, ContentReads, DocumentPorts, Guests, Invitations, NoAccessLog, NoOtherServers, Writers,
    },
    errors::{ApiError, ApiResult},
    membership_lock::MembershipLocks,
    public_rooms::PublicRoomsQuery,
    ratelimit::UserLimiter,
};
use weft_render::testing::{NoOffice, NoRenderer};
use weft_room::Rooms;
use weft_room_api::{NewEvent, Peers, SystemClock, testing::NoPeers};
use weft_search::Searches;
use weft_store::{Lanes, OpenOptions, memory::MemoryDisk};
use weft_testkit::{NoEdus, ServerSetup, TestServer};

pub(crate) use weft_testkit::Person;

/// Recorded requests to other servers.
#[derive(Default)]
pub(crate) struct Asked(pub(crate) Mutex<Vec<String>>);

impl Asked {
    fn note(&self, what: String) -> ApiResult<()> {
        self.0.lock().unwrap().push(what);
        Err(ApiError::bad_gateway("there is no other server"))
    }
}

#[async_trait]
impl Remote for Asked {
    async fn join(
        &self,
        user: &UserId,
        room: &RoomId,
        via: &[OwnedServerName],
        _: Map<String, Value>,
    ) -> ApiResult<()> {
        let via: Vec<&str> = via.iter().map(|server| server.as_str()).collect();
        self.note(format!("join {user} {room} {}", via.join(",")))
    }

    async fn knock(&self, user: &UserId, room: &RoomId, _: &[OwnedServerName], _: Map<String, Value>) -> ApiResult<()> {
        self.note(format!("knock {user} {room}"))
    }

    async fn leave(&self, user: &UserId, room: &RoomId, _: Map<String, Value>) -> ApiResult<()> {
        self.note(format!("leave {user} {room}"))
    }

    async fn invite(&self, inviter: &UserId, invitee: &UserId, room: &RoomId, _: Map<String, Value>) -> ApiResult<()> {
        self.note(format!("invite {inviter} {invitee} {room}"))
    }

    async fn resolve_alias(
        &self,
        initiator: &Initiator,
        alias: &RoomAliasId,
    ) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
        self.note(format!("alias {alias} for {}", named(initiator)))?;
        Err(ApiError::not_found("no"))
    }

    async fn profile(&self, initiator: &Initiator, user: &UserId) -> ApiResult<Map<String, Value>> {
        self.note(format!("profile {user} for {}", named(initiator)))?;
        Ok(Map::new())
    }

    async fn public_rooms(&self, initiator: &Initiator, server: &ServerName, _: PublicRoomsQuery) -> ApiResult<Value> {
        self.note(format!("rooms {server} for {}", named(initiator)))?;
        Ok(json!({}))
    }
}

/// Invites local users.
struct LocalInvitations(Rooms);

#[async_trait]
impl Invitations for LocalInvitations {
    async fn invite(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        mut content: Map<String, Value>,
    ) -> ApiResult<()> {
        content.insert("membership".to_owned(), json!("invite"));
        let event = NewEvent {
            sender: inviter.to_owned(),
            kind: "m.room.member".to_owned(),
            state_key: Some(invitee.to_string()),
            content,
            redacts: None,
            txn: None,
            timestamp: None,
        };
        self.0.send(room, event).await?;
        Ok(())
    }
}

fn named(initiator: &Initiator) -> String {
    match initiator {
        Initiator::Stranger(address) => format!("anonymous at {address:?}"),
        Initiator::User(user) => user.to_string(),
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) asked: Arc<Asked>,
    router: Router,
}

pub(crate) const SECRET: &str = "operators only";

fn settings(server: &TestServer, registration: Registration) -> ClientSettings {
    ClientSettings {
        server_name: server.name.clone(),
        registration,
        shared_secret: SECRET.to_owned(),
        client_base_url: Some("https://alpha.example".to_owned()),
        federation_address: None,
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Registration::Open, UserLimiter::off()).await
    }

    pub(crate) async fn limited(requests: u32) -> Self {
        Self::with(
            Registration::Open,
            UserLimiter::per_minute(NonZeroU32::new(requests).unwrap()),
        )
        .await
    }

    pub(crate) async fn with(registration: Registration, limiter: UserLimiter) -> Self {
        Self::with_peers(registration, limiter, Arc::new(NoPeers)).await
    }

    pub(crate) async fn with_peer(peers: Arc<dyn Peers>) -> Self {
        Self::with_peers(Registration::Open, UserLimiter::off(), peers).await
    }

    async fn with_peers(registration: Registration, limiter: UserLimiter, peers: Arc<dyn Peers>) -> Self {
        // `WEFT_TEST_LANES=16 cargo nextest run -p weft-gateway` runs all these tests with several lanes.
        let lanes = std::env::var("WEFT_TEST_LANES").map_or(1, |lanes| lanes.parse().unwrap());
        let options = OpenOptions {
            lanes: Lanes::new(lanes),
            ..OpenOptions::default()
        };
        let disk = MemoryDisk::new();
        Self::on(&disk, options, (registration, limiter, peers)).await
    }

    /// A server with several lanes.
    pub(crate) async fn with_lanes(lanes: u16) -> Self {
        let options = OpenOptions {
            lanes: Lanes::new(lanes),
            ..OpenOptions::default()
        };
        Self::on(&MemoryDisk::new(), options, Self::usual()).await
    }

    /// Another process with the data on a disk; one that was open there can't use it any more.
    pub(crate) async fn start(disk: &MemoryDisk, new_era: bool) -> Self {
        let options = OpenOptions { lanes: None, new_era };
        Self::on(disk, options, Self::usual()).await
    }

    fn usual() -> (Registration, UserLimiter, Arc<dyn Peers>) {
        (Registration::Open, UserLimiter::off(), Arc::new(NoPeers))
    }

    async fn on(
        disk: &MemoryDisk,
        options: OpenOptions,
        (registration, limiter, peers): (Registration, UserLimiter, Arc<dyn Peers>),
    ) -> Self {
        let server = TestServer::start(ServerSetup {
            disk: disk.clone(),
            options,
            peers,
            ..ServerSetup::default()
        })
        .await;
        let TestServer {
            rooms,
            accounts,
            fanout,
            store,
            ..
        } = server.clone();
        let view = server.membership_view();
        let clock = Arc::new(SystemClock);
        let ephemeral = Ephemeral::new(
            store.clone(),
            fanout.clone(),
            Arc::clone(&view),
            Arc::new(NoEdus),
            clock.clone(),
        );
        let presence = Presence::new(server.name.clone(), view, Arc::new(NoEdus), clock);
        let asked = Arc::new(Asked::default());
        let settings = settings(&server, registration);
        let membership = MembershipLocks::default();
        let media = weft_media::testing::media(&settings.server_name, store.clone(), Arc::new(SystemClock)).unwrap();
        let webhooks =
            weft_webhooks::testing::webhooks(store.clone(), rooms.reader().clone(), accounts.clone()).unwrap();
        let documents = documents::router(DocumentPorts {
            webhooks,
            media: media.clone(),
            rooms: rooms.clone(),
            renderer: Arc::new(NoRenderer),
            office: Arc::new(NoOffice),
            presence: presence.clone(),
            unread: Unread::default(),
            accounts: accounts.clone(),
            invitations: Arc::new(LocalInvitations(rooms.clone())),
            limiter: limiter.clone(),
            membership: membership.clone(),
            content_reads: ContentReads::default(),
            audit: AuditPorts::new(server.name.clone(), Arc::new(VerifyKeys::new()), Arc::new(SystemClock)),
            writers: Writers::new(rand::random),
            search: Searches::new(None),
            access: Arc::new(NoAccessLog),
            guests: Guests::new((rooms.clone(), accounts.clone(), fanout.clone()), false, || {}),
            requests: Arc::new(NoOtherServers),
        });
        let router = router(ClientPorts {
            accounts: accounts.clone(),
            media,
            rooms: rooms.clone(),
            positions: store.positions().clone(),
            fanout: fanout.clone(),
            ephemeral,
            presence,
            unread: Unread::default(),
            remote: Arc::clone(&asked) as Arc<dyn Remote>,
            limiter,
            clock: Arc::new(SystemClock),
            membership,
            search: Searches::new(None),
            settings,
        });
        let router = with_fallbacks(router.merge(documents));
        Self { server, asked, router }
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        let account = NewAccount {
            username: name.to_owned(),
            password: Some("correct horse".to_owned()),
            admin: false,
            display_name: None,
        };
        Person::register(&self.server.accounts, account).await
    }

    /// Sends a request; returns status and body.
    pub(crate) async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let (status, _, body) = self.raw(method, path, token, body.to_string()).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: String,
    ) -> (u16, axum::http::HeaderMap, bytes::Bytes) {
        let body = if body == "null" {
            Body::empty()
        } else {
            Body::from(body)
        };
        self.send(Self::request(method, path, token).body(body).unwrap()).await
    }

    pub(crate) fn request(method: &str, path: &str, token: Option<&str>) -> axum::http::request::Builder {
        let request = axum::http::Request::builder().method(method).uri(path);
        match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub(crate) async fn send(&self, request: axum::http::Request<Body>) -> (u16, axum::http::HeaderMap, bytes::Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (
            status,
            headers,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }

    /// A request that must succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, who: &Person, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, Some(&who.token), body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// A request that must be refused: returns the status and the error code.
    pub(crate) async fn refused(&self, method: &str, path: &str, who: &Person, body: Value) -> (u16, String) {
        let (status, answer) = self.ask(method, path, Some(&who.token), body).await;
        assert!(status >= 400, "{method} {path} was allowed: {answer}");
        (status, answer["errcode"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn get(&self, path: &str, who: &Person) -> Value {
        self.ok("GET", path, who, Value::Null).await
    }

    pub(crate) async fn room(&self, who: &Person, options: Value) -> String {
        let answer = self.ok("POST", "/_matrix/client/v3/createRoom", who, options).await;
        answer["room_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn invite_and_join(&self, room: &str, host: &Person, guest: &Person) {
        let path = format!("/_matrix/client/v3/rooms/{room}/invite");
        self.ok("POST", &path, host, json!({"user_id": guest.user})).await;
        self.ok(
            "POST",
            &format!("/_matrix/client/v3/rooms/{room}/join"),
            guest,
            json!({}),
        )
        .await;
    }

    pub(crate) async fn send_text(&self, room: &str, who: &Person, text: &str) -> String {
        let txn: u64 = rand::random();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
        let answer = self
            .ok("PUT", &path, who, json!({"msgtype": "m.text", "body": text}))
            .await;
        answer["event_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn set_state(&self, room: &str, who: &Person, kind: &str, key: &str, content: Value) -> String {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}");
        self.ok("PUT", &path, who, content).await["event_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A sync; `query` without the leading `?`.
    pub(crate) async fn sync(&self, who: &Person, since: Option<&str>, query: &str) -> Value {
        let since = since.map(|since| format!("since={since}&")).unwrap_or_default();
        let path = format!("/_matrix/client/v3/sync?{since}{query}");
        tokio::time::timeout(Duration::from_secs(60), self.get(&path, who))
            .await
            .expect("the sync succeeds")
    }
}

/// A filter encoded for a query.
pub(crate) fn encoded(filter: &Value) -> String {
    filter.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Event ids of a list of events.
pub(crate) fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    events
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Types of a list of events.
pub(crate) fn kinds(events: &Value) -> Vec<&str> {
    events
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}
