//! The spans of one edit: from a live socket of one server to the merge on another. Both are in this process, and connected
//! by HTTPS.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::Request;
use futures_util::SinkExt as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};
use weft_accounts::{Accounts, NewAccount, NewDevice, PasswordCost};
use weft_gateway::client_address::TrustedProxies;
use weft_gateway::traffic::{Traffic, TrafficLimits};
use weft_store::{Store, memory::MemoryDisk};
use weft_telemetry::{MeteredEngine, Metrics, TraceIds, context_of};
use weft_wire::trace_context::TraceContext;

use super::super::certificates::Certificates;
use super::super::sockets::{Endpoint, Sockets};
use super::super::{install_crypto, router};
use super::Parts;
use crate::config::{self, Area};

/// Deadline for a span to be recorded.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A recorded span.
#[derive(Debug, Clone)]
struct Span {
    name: &'static str,
    fields: BTreeMap<&'static str, String>,
    ids: TraceContext,
    parent: Option<TraceContext>,
}

impl Span {
    fn has(&self, field: &str, value: &str) -> bool {
        self.fields.get(field).is_some_and(|found| found == value)
    }
}

/// Records all spans.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Span>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let recorded = Span {
            name: attributes.metadata().name(),
            fields,
            ids: context_of(&span).unwrap(),
            parent: span.parent().and_then(|parent| context_of(&parent)),
        };
        self.0.lock().unwrap().push(recorded);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let ids = context_of(&context.span(id).unwrap()).unwrap();
        let mut spans = self.0.lock().unwrap();
        let recorded = spans.iter_mut().rfind(|span| span.ids == ids).unwrap();
        values.record(&mut Fields(&mut recorded.fields));
    }
}

impl Recorder {
    /// Waits for a span.
    async fn until(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let found = async {
            loop {
                if let Some(span) = self.0.lock().unwrap().iter().find(|span| wanted(span)) {
                    return span.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(TIMEOUT, found).await {
            Ok(span) => span,
            Err(_) => panic!("no span of {what} in {:#?}", self.0.lock().unwrap()),
        }
    }

    /// Waits for a child of a span, in this process.
    async fn child(&self, of: &Span, name: &str) -> Span {
        self.until(name, |span| span.name == name && span.parent == Some(of.ids))
            .await
    }

    /// Waits for the span of a room that a call of it caused.
    async fn command_of(&self, call: &Span) -> Span {
        let sent = call.ids.to_string();
        self.until("the room's command", |span| {
            span.name == "room_command" && span.has("traceparent", &sent)
        })
        .await
    }
}

/// A server, its user and the user's token.
struct Server {
    name: String,
    plain: String,
    parts: Parts,
    areas: axum::Router,
    _sockets: Sockets,
    token: String,
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A certificate of the authority for this machine, written into the folder.
fn certify(authority: &CertifiedIssuer<'static, KeyPair>, folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("certificate.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

impl Server {
    async fn start(authority: &CertifiedIssuer<'static, KeyPair>, folder: &Path) -> Self {
        certify(authority, folder);
        let (name, plain) = (free_address(), free_address());
        let text = format!(
            "server_name = \"{name}\"\ndata_dir = {folder:?}\n\
             [limits]\nrate_limit = false\n\
             [documents]\nseal_idle = \"50ms\"\n\
             [federation]\nextra_ca_certificates = [\"authority.pem\"]\nallow_addresses = [\"127.0.0.0/8\"]\n\
             [[listen]]\naddress = \"{name}\"\nserve = [\"federation\"]\n\
             tls = {{ certificate = \"certificate.pem\", private_key = \"key.pem\" }}\n\
             [[listen]]\naddress = \"{plain}\"\nserve = [\"client\", \"documents\"]\n",
            folder = folder.display().to_string()
        );
        let file = folder.join("weft.toml");
        std::fs::write(&file, text).unwrap();
        let config = config::load(Some(&file), &BTreeMap::new()).unwrap();
        let (metrics, proxies) = (Metrics::default(), TrustedProxies::default());
        let engine = MeteredEngine::new(MemoryDisk::new().open(), &metrics);
        let store = Store::open(engine).await.unwrap();
        let traffic = Traffic::new(&TrafficLimits::default(), proxies.clone());
        let parts = Parts::over(&config, &store, &traffic, &metrics).await.unwrap();
        let mut certificates = Certificates::default();
        let endpoints = config.listen.iter().map(|listener| Endpoint {
            address: listener.address,
            tls: listener.tls.as_ref().map(|files| certificates.add(files).unwrap()),
            router: router(&parts, &listener.serve, &traffic).layer(Extension(proxies.clone())),
        });
        let sockets = Sockets::open(endpoints.collect(), traffic.clone()).await.unwrap();
        let clock = Arc::new(weft_accounts::SystemClock);
        let accounts = Accounts::with_cost(store, config.server_name.clone(), clock, PasswordCost::Minimal);
        let account = NewAccount {
            username: "user".to_owned(),
            password: None,
            admin: false,
            display_name: None,
        };
        let user = accounts.register(account).await.unwrap();
        let session = accounts.begin_session(&user, NewDevice::default()).await.unwrap();
        Self {
            name,
            plain,
            areas: parts.area(Area::Client).merge(parts.area(Area::Documents)),
            parts,
            _sockets: sockets,
            token: session.access_token,
        }
    }

    /// A request of the user that must succeed.
    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token));
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.areas.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_slice(&body).unwrap()
    }

    /// Sends one update over a live socket.
    async fn edit(&self, room: &str, update: &[u8]) {
        let url = format!("ws://{}/_weft/client/v1/live/{room}", self.plain);
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token).parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut frame = vec![0, 2, u8::try_from(update.len()).unwrap()];
        frame.extend(update);
        socket.send(Message::Binary(frame.into())).await.unwrap();
        socket.close(None).await.unwrap();
    }
}

/// Client 7 types a letter into the text `body`.
const LETTER: &[u8] = &[1, 1, 7, 0, 4, 1, 4, b'b', b'o', b'd', b'y', 1, b'a', 0];

#[tokio::test]
async fn an_edit_is_traced_from_the_socket_to_the_merge_on_the_other_server() {
    install_crypto();
    let spans = Recorder::default();
    let recorded = Registry::default()
        .with(LevelFilter::from_level(Level::DEBUG))
        .with(TraceIds)
        .with(spans.clone());
    let _recording = tracing::subscriber::set_default(recorded);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let alpha = Server::start(&authority, folders[0].path()).await;
    let beta = Server::start(&authority, folders[1].path()).await;

    let document = json!({"title": "Minutes", "kind": "text"});
    let created = alpha.ok("POST", "/_weft/client/v1/documents", document).await;
    let room = created["docId"].as_str().unwrap();
    let rules = format!("/_matrix/client/v3/rooms/{room}/state/m.room.join_rules");
    alpha.ok("PUT", &rules, json!({"join_rule": "public"})).await;
    let join = format!("/_matrix/client/v3/join/{room}?server_name={}", alpha.name);
    beta.ok("POST", &join, json!({})).await;
    // What was sent until now has spans of its own.
    spans.0.lock().unwrap().clear();
    alpha.edit(room, LETTER).await;

    // The socket, the room and the commit.
    let of_room = |name: &'static str| move |span: &Span| span.name == name && span.has("room", room);
    let edit = spans.until("the socket", of_room("live_edit")).await;
    let call = spans.child(&edit, "room_call").await;
    let command = spans.command_of(&call).await;
    assert!(command.has("command", "edit"), "{command:?}");
    assert_eq!(command.ids.trace, edit.ids.trace);
    spans
        .until("the commit of the edit", |span| {
            of_room("room_commit")(span) && span.has("edits", "1")
        })
        .await;
    spans.until("the group", |span| span.name == "commit_group").await;

    // The event that the edit was sealed into is delivered.
    let to_beta =
        |span: &Span| span.name == "outbox_delivery" && span.has("pdus", "1") && span.has("server", &beta.name);
    let delivery = spans.until("the delivery", to_beta).await;
    let request = spans.child(&delivery, "federation_request").await;
    let sent = request.ids.to_string();
    let is_linked = |span: &Span| span.name == "http_request" && span.has("link", &sent);
    let received = spans.until("the request at the other server", is_linked).await;
    assert_ne!(
        received.ids.trace, request.ids.trace,
        "a server chooses its own trace ids"
    );

    // The other server merges it.
    let merging = spans.child(&received, "room_call").await;
    assert!(merging.has("command", "ingest"), "{merging:?}");
    let ingest = spans.command_of(&merging).await;
    let merge = spans.child(&ingest, "merge_batch").await;
    assert!(merge.has("room", room) && merge.has("events", "1"), "{merge:?}");
    assert_eq!(merge.ids.trace, received.ids.trace);

    alpha.parts.stop().await;
    beta.parts.stop().await;
}
