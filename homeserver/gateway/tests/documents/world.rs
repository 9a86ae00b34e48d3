//! One server in this process, users with tokens, and requests to its document API.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{Router, body::Body};
use http_body_util::BodyExt;
use ruma::{RoomId, UserId};
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use weft_accounts::{Accounts, NewAccount};
use weft_dag::VerifyKeys;
use weft_fanout::{Presence, Unread};
use weft_gateway::{
    documents::{
        AuditPorts, ContentReads, DocumentPorts, Guests, Invitations, NoAccessLog, NoOtherServers, Writers, router,
    },
    errors::ApiResult,
    membership_lock::MembershipLocks,
    ratelimit::UserLimiter,
};
use weft_render::testing::NoOffice;
use weft_room::Rooms;
use weft_room_api::{NewEvent, SystemClock};
use weft_search::Searches;
use weft_testkit::{NoEdus, ServerSetup, TestServer};
use weft_webhooks::Webhooks;

pub use weft_testkit::Person;

use crate::text_renderer::TextRenderer;

/// Invites local users; this test has no others.
struct LocalInvitations(Rooms);

#[async_trait]
impl Invitations for LocalInvitations {
    async fn invite(
        &self,
        room: &RoomId,
        inviter: &UserId,
        invitee: &UserId,
        content: Map<String, Value>,
    ) -> ApiResult<()> {
        let mut event = membership(inviter, invitee, "invite");
        event.content.extend(content);
        self.0.send(room, event).await?;
        Ok(())
    }
}

fn membership(sender: &UserId, user: &UserId, membership: &str) -> NewEvent {
    NewEvent {
        sender: sender.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(user.to_string()),
        content: Map::from_iter([("membership".to_owned(), json!(membership))]),
        redacts: None,
        txn: None,
        timestamp: None,
    }
}

pub struct Answer {
    pub status: u16,
    /// Its content type.
    pub kind: String,
    pub etag: Option<String>,
    /// `RateLimit`, `RateLimit-Policy` and `Retry-After`.
    pub limits: [Option<String>; 3],
    pub body: Vec<u8>,
}

/// What a request is made of, besides method and path.
#[derive(Default)]
pub struct Sent<'a> {
    pub token: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<Vec<u8>>,
}

pub struct World {
    server: TestServer,
    pub rooms: Rooms,
    /// They deliver when they are run.
    pub webhooks: Webhooks,
    pub ports: DocumentPorts,
    accounts: Accounts,
    api: Router,
}

impl World {
    pub async fn new() -> Self {
        Self::limited(UserLimiter::off()).await
    }

    /// With a limit of requests.
    pub async fn limited(limiter: UserLimiter) -> Self {
        Self::of(TestServer::start(ServerSetup::default()).await, limiter)
    }

    /// The same data with another server, as after a crash: nothing of the first one was ended in order.
    pub async fn restarted(&self) -> Self {
        let setup = ServerSetup {
            disk: self.server.disk.clone(),
            ..ServerSetup::default()
        };
        Self::of(TestServer::start(setup).await, UserLimiter::off())
    }

    fn of(server: TestServer, limiter: UserLimiter) -> Self {
        let TestServer { rooms, accounts, .. } = server.clone();
        let clock = Arc::new(SystemClock);
        let presence = Presence::new(server.name.clone(), server.membership_view(), Arc::new(NoEdus), clock);
        let media = weft_media::testing::media(&server.name, server.store.clone(), Arc::new(SystemClock)).unwrap();
        let webhooks =
            weft_webhooks::testing::webhooks(server.store.clone(), rooms.reader().clone(), accounts.clone()).unwrap();
        let ports = DocumentPorts {
            webhooks: webhooks.clone(),
            media,
            rooms: rooms.clone(),
            accounts: accounts.clone(),
            invitations: Arc::new(LocalInvitations(rooms.clone())),
            limiter,
            membership: MembershipLocks::default(),
            renderer: Arc::new(TextRenderer),
            office: Arc::new(NoOffice),
            presence,
            unread: Unread::default(),
            content_reads: ContentReads::default(),
            audit: AuditPorts::new(server.name.clone(), Arc::new(VerifyKeys::new()), Arc::new(SystemClock)),
            writers: Writers::new(rand::random),
            search: Searches::new(None),
            access: Arc::new(NoAccessLog),
            guests: Guests::new((rooms.clone(), accounts.clone(), server.fanout.clone()), true, || {}),
            requests: Arc::new(NoOtherServers),
        };
        Self {
            server,
            rooms,
            webhooks,
            accounts,
            api: router(ports.clone()),
            ports,
        }
    }

    pub async fn person(&self, name: &str) -> Person {
        let account = NewAccount {
            username: name.to_owned(),
            password: None,
            admin: false,
            display_name: Some(name.to_uppercase()),
        };
        Person::register(&self.accounts, account).await
    }

    /// The status and the JSON answer to a request with a body of bytes.
    pub async fn send_bytes(&self, person: &Person, path: &str, body: &[u8]) -> (u16, Value) {
        let sent = Sent {
            token: Some(&person.token),
            body: Some(body.to_vec()),
            ..Sent::default()
        };
        let answer = self.call("POST", path, sent).await;
        (
            answer.status,
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| json!(answer.body)),
        )
    }

    /// Returns status and body; a body that is not JSON is returned as a list of bytes.
    pub async fn request(&self, person: &Person, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string());
        let Answer { status, body, .. } = self.ask(Some(&person.token), method, path, body).await;
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(body)))
    }

    /// The same with a raw body, also without a token or with a wrong one.
    pub async fn ask(&self, token: Option<&str>, method: &str, path: &str, body: Option<String>) -> Answer {
        let body = body.map(String::into_bytes);
        self.call(
            method,
            path,
            Sent {
                token,
                headers: &[],
                body,
            },
        )
        .await
    }

    /// The same with further headers.
    pub async fn call(&self, method: &str, path: &str, sent: Sent<'_>) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/_weft/client/v1{path}"));
        if let Some(token) = sent.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in sent.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(sent.body.map_or_else(Body::empty, Body::from)).unwrap();
        let answer = self.api.clone().oneshot(request).await.unwrap();
        let header = |name| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        Answer {
            status: answer.status().as_u16(),
            kind: header("content-type").unwrap_or_default(),
            etag: header("etag"),
            limits: ["ratelimit", "ratelimit-policy", "retry-after"].map(header),
            body: answer.into_body().collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub async fn get(&self, person: &Person, path: &str) -> Value {
        let (status, body) = self.request(person, "GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn create(&self, owner: &Person, title: &str) -> String {
        let body = json!({"title": title, "kind": "text"});
        let (status, body) = self.request(owner, "POST", "/documents", Some(body)).await;
        assert_eq!(status, 201, "{body}");
        body["docId"].as_str().unwrap().to_owned()
    }

    pub async fn give(&self, giver: &Person, doc: &str, user: &UserId, role: &str) -> (u16, Value) {
        let path = format!("/documents/{doc}/members/{user}");
        self.request(giver, "PUT", &path, Some(json!({"role": role}))).await
    }

    pub async fn join(&self, doc: &str, person: &Person) {
        let room = RoomId::parse(doc).unwrap();
        let mut join = membership(&person.user, &person.user, "join");
        // With the same content as from the join endpoint.
        let name = person.user.localpart().to_uppercase();
        join.content.insert("displayname".to_owned(), json!(name));
        self.rooms.send(&room, join).await.unwrap();
    }
}
