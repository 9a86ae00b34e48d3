//! A malicious server: TLS on loopback, a signing key of its own, and responses that the test defines.
//!
//! By default it publishes its key, signs invitations and accepts transactions as an honest server does; every other
//! path is "not found". It records all requests. Must not use code of the servers that are tested: it signs with ruma.

mod room;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use parking_lot::Mutex;
use reqwest::Method;
use ruma::{
    CanonicalJsonObject, OwnedServerName, RoomVersionId, ServerName,
    api::federation::authentication::{XMatrix, XMatrixSigningInput},
    room_version_rules::RoomVersionRules,
    signatures::{Ed25519KeyPair, hash_and_sign_event, reference_hash, sign_event, sign_json},
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use room::Room;

use crate::{
    authority::Authority,
    client::{Answer, segment},
    server::Server,
};

/// Deadline for a request that a test expects.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Largest recorded body, bytes. Larger requests are recorded without their body.
const MAX_BODY: usize = 16 << 20;

/// Counter for transaction ids that are unique in this process.
static TRANSACTION: AtomicU64 = AtomicU64::new(0);

/// A recorded request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// GET, PUT, POST.
    pub method: Method,
    /// The path as received, percent-encoded.
    pub path: String,
    /// The query as received.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl RecordedRequest {
    /// A segment of the path, counted from the end (0 is the last), percent-decoded.
    #[must_use]
    pub fn segment_from_end(&self, at: usize) -> String {
        decode(self.path.rsplit('/').nth(at).unwrap_or_default())
    }

    /// The value of a query parameter, percent-decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| decode(value))
    }
}

/// A response with status 200.
#[must_use]
pub fn json_reply(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

/// A response with any status.
#[must_use]
pub fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A new key pair with the key id `ed25519:version`.
///
/// # Errors
/// Never in practice: a generated key can be parsed.
pub fn new_key(version: &str) -> Result<Ed25519KeyPair> {
    let document = Ed25519KeyPair::generate();
    Ed25519KeyPair::from_der(&document, version.to_owned()).map_err(|error| anyhow::anyhow!("{error}"))
}

type Answering = Arc<dyn Fn(&RecordedRequest) -> Response + Send + Sync>;

struct Shared {
    name: OwnedServerName,
    key: Ed25519KeyPair,
    /// Path prefixes with their handlers; the last matching entry is used.
    answers: Mutex<Vec<(String, Answering)>>,
    asked: Mutex<Vec<RecordedRequest>>,
    count: watch::Sender<usize>,
}

/// See the module. The server stops when this is dropped.
pub struct MaliciousServer {
    shared: Arc<Shared>,
    http: reqwest::Client,
    handle: Handle<SocketAddr>,
}

impl Drop for MaliciousServer {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl MaliciousServer {
    /// Starts a server with a certificate of this authority.
    ///
    /// # Errors
    /// When no port is free or the certificate can't be written.
    pub async fn start(authority: &Authority, label: &str) -> Result<Self> {
        let http = authority.http()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let name = OwnedServerName::try_from(listener.local_addr()?.to_string())?;
        let shared = Arc::new(Shared {
            name,
            key: new_key("malicious")?,
            answers: Mutex::default(),
            asked: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let handle = Handle::new();
        let answering = Arc::clone(&shared);
        let routes = Router::new().fallback(move |request| respond(Arc::clone(&answering), request));
        let server = axum_server::from_tcp_rustls(listener, tls(authority, label)?)?;
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        handle
            .listening()
            .await
            .context("the malicious server does not listen")?;
        let malicious = Self { shared, http, handle };
        malicious.answer_honestly();
        Ok(malicious)
    }

    /// Its server name, `127.0.0.1:PORT`.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.shared.name
    }

    /// The id of a user of this server.
    #[must_use]
    pub fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.shared.name)
    }

    /// Its key pair.
    #[must_use]
    pub fn key(&self) -> &Ed25519KeyPair {
        &self.shared.key
    }

    // --- Responses --------------------------------------------------------------------------------------------------

    /// Handles requests with this path prefix from now on. The last matching handler is used.
    pub fn answers(&self, path: &str, answer: impl Fn(&RecordedRequest) -> Response + Send + Sync + 'static) {
        let mut answers = self.shared.answers.lock();
        answers.push((path.to_owned(), Arc::new(answer)));
    }

    /// Like [`MaliciousServer::answers`], with a fixed response of status 200.
    pub fn always_answers(&self, path: &str, body: Value) {
        self.answers(path, move |_| json_reply(&body));
    }

    /// Removes the handlers of this path prefix.
    pub fn answers_no_more(&self, path: &str) {
        let mut answers = self.shared.answers.lock();
        answers.retain(|(known, _)| known != path);
    }

    /// What an honest server does that is in no room: publishes its key, signs invitations, accepts transactions.
    fn answer_honestly(&self) {
        let keys = self.published_keys();
        self.always_answers("/_matrix/key/v2/server", keys);
        self.always_answers("/_matrix/federation/v1/send/", json!({ "pdus": {} }));
        let shared = Arc::clone(&self.shared);
        self.answers("/_matrix/federation/v2/invite/", move |asked| {
            let version = asked.body.get("room_version").and_then(Value::as_str);
            let version = version.and_then(|version| RoomVersionId::try_from(version).ok());
            let event = asked.body.get("event").cloned().unwrap_or_default();
            match version.map(|version| sign_with(shared.name.as_str(), &shared.key, &event, &version, false)) {
                Some(Ok(event)) => json_reply(&json!({ "event": event })),
                _ => reply(StatusCode::BAD_REQUEST, &json!({ "errcode": "M_BAD_JSON" })),
            }
        });
    }

    /// The signed response of `/_matrix/key/v2/server`: its key, valid for a day.
    #[must_use]
    pub fn published_keys(&self) -> Value {
        let key = self.key();
        let id = format!("ed25519:{}", key.version());
        let valid_until = now() + 86_400_000;
        let answer = json!({
            "server_name": self.name(), "valid_until_ts": valid_until,
            "verify_keys": { id: { "key": encode_key(&key.public_key()) } }, "old_verify_keys": {},
        });
        self.signed_json(&answer)
    }

    /// All recorded requests with this path prefix, in order.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<RecordedRequest> {
        let asked = self.shared.asked.lock();
        asked
            .iter()
            .filter(|asked| asked.path.starts_with(path))
            .cloned()
            .collect()
    }

    /// Discards the recorded requests.
    pub fn forget(&self) {
        self.shared.asked.lock().clear();
    }

    /// Waits until a request with this path prefix that satisfies `is_it` is recorded.
    ///
    /// # Errors
    /// When the deadline passes.
    pub async fn until_asked(&self, path: &str, is_it: impl Fn(&RecordedRequest) -> bool) -> Result<RecordedRequest> {
        let mut count = self.shared.count.subscribe();
        let wait = async {
            loop {
                count.borrow_and_update();
                if let Some(asked) = self.asked(path).into_iter().find(|asked| is_it(asked)) {
                    return Ok(asked);
                }
                count.changed().await?;
            }
        };
        tokio::time::timeout(TIMEOUT, wait)
            .await
            .with_context(|| format!("no request for {path}"))?
    }

    /// The events that other servers have sent to this one, in order of arrival.
    #[must_use]
    pub fn received_events(&self) -> Vec<Value> {
        let transactions = self.asked("/_matrix/federation/v1/send/");
        let events = transactions
            .iter()
            .filter_map(|asked| asked.body.get("pdus")?.as_array());
        events.flatten().cloned().collect()
    }

    // --- Requests ---------------------------------------------------------------------------------------------------

    /// Sends a correctly signed request; path and query are sent as given.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn ask(&self, server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let header = self.authorization(&server.name, &method, path, body)?;
        self.ask_with(server, method, path, body, &[&header]).await
    }

    /// GET; returns the body of a successful response.
    ///
    /// # Errors
    /// When the status is not a success.
    pub async fn get(&self, server: &Server, path: &str) -> Result<Value> {
        let answer = self.ask(server, Method::GET, path, None).await?;
        answer.ok().with_context(|| format!("GET {path}"))
    }

    /// The `Authorization` header of a correctly signed request to `destination`.
    ///
    /// # Errors
    /// When the path is invalid.
    pub fn authorization(
        &self,
        destination: &str,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = axum::http::Request::builder()
            .method(method.clone())
            .uri(path)
            .body(body.into_bytes())?;
        let destination = OwnedServerName::try_from(destination)?;
        let input = XMatrixSigningInput::new(self.name().to_owned(), destination, self.key());
        let header = XMatrix::sign_http_request(&request, input).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(header.to_string())
    }

    /// Sends a request with these `Authorization` headers, valid or not.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn ask_with(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        body: Option<&Value>,
        authorization: &[&str],
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", server.url));
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let body = answer.json().await.unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }

    /// Sends a transaction with a new id; returns the response with any status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn transaction(&self, server: &Server, pdus: &[Value], edus: &[Value]) -> Result<Answer> {
        let number = TRANSACTION.fetch_add(1, Ordering::Relaxed);
        self.transaction_with_id(server, &format!("malicious{number}"), pdus, edus)
            .await
    }

    /// Sends a transaction; returns the response with any status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn transaction_with_id(
        &self,
        server: &Server,
        id: &str,
        pdus: &[Value],
        edus: &[Value],
    ) -> Result<Answer> {
        let body = json!({ "origin": self.name(), "origin_server_ts": now(), "pdus": pdus, "edus": edus });
        let path = format!("/_matrix/federation/v1/send/{}", segment(id));
        self.ask(server, Method::PUT, &path, Some(&body)).await
    }

    // --- Signing -------------------------------------------------------------------------------------------------

    /// The event with its content hash and this server's signature.
    ///
    /// # Errors
    /// When it is not a canonical JSON object.
    pub fn sign(&self, event: &Value, version: &RoomVersionId) -> Result<Value> {
        sign_with(self.name().as_str(), self.key(), event, version, true)
    }

    /// An object with this server's signature.
    #[must_use]
    pub fn signed_json(&self, object: &Value) -> Value {
        let signed = || -> Result<Value> {
            let mut object: CanonicalJsonObject = serde_json::from_value(object.clone())?;
            sign_json(self.name().as_str(), self.key(), &mut object)?;
            Ok(serde_json::to_value(object)?)
        };
        signed().unwrap_or_else(|_| object.clone())
    }
}

/// The event with a signature of `server` made with `key`. If `anew`, its content hash is computed and existing
/// signatures are removed.
///
/// # Errors
/// When it is not a canonical JSON object.
pub fn sign_with(
    server: &str,
    key: &Ed25519KeyPair,
    event: &Value,
    version: &RoomVersionId,
    anew: bool,
) -> Result<Value> {
    let mut object: CanonicalJsonObject = serde_json::from_value(event.clone())?;
    let rules = rules(version)?;
    if anew {
        object.remove("signatures");
        object.remove("hashes");
        hash_and_sign_event(server, key, &mut object, &rules.redaction)?;
    } else {
        sign_event(server, key, &mut object, &rules.redaction)?;
    }
    Ok(serde_json::to_value(object)?)
}

/// The event id of an event.
///
/// # Errors
/// When it is not a canonical JSON object.
pub fn event_id(event: &Value, version: &RoomVersionId) -> Result<String> {
    let object: CanonicalJsonObject = serde_json::from_value(event.clone())?;
    Ok(format!("${}", reference_hash(&object, &rules(version)?)?))
}

/// The rules of a room version.
///
/// # Errors
/// When ruma doesn't support it.
pub fn rules(version: &RoomVersionId) -> Result<RoomVersionRules> {
    version.rules().with_context(|| format!("room version {version}"))
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    ruma::MilliSecondsSinceUnixEpoch::now().get().into()
}

/// A public key as unpadded base64.
#[must_use]
pub fn encode_key(key: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.encode(key)
}

pub(crate) fn tls(authority: &Authority, label: &str) -> Result<RustlsConfig> {
    let (certificate, key) = authority.issue(label)?;
    let chain = vec![CertificateDer::from_pem_slice(&fs::read(certificate)?)?];
    let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// Records a request and responds to it.
async fn respond(shared: Arc<Shared>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let asked = record(&parts.method, &parts.uri, &parts.headers, &body);
    let found = {
        let answers = shared.answers.lock();
        let fits = answers.iter().rev().find(|(path, _)| asked.path.starts_with(path));
        fits.map(|(_, answer)| Arc::clone(answer))
    };
    let reply = found.map_or_else(
        || {
            reply(
                StatusCode::NOT_FOUND,
                &json!({ "errcode": "M_NOT_FOUND", "error": "no handler for this path" }),
            )
        },
        |answer| answer(&asked),
    );
    shared.asked.lock().push(asked);
    shared.count.send_modify(|count| *count += 1);
    reply
}

fn record(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> RecordedRequest {
    let authorization = headers.get(header::AUTHORIZATION);
    RecordedRequest {
        method: method.clone(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        authorization: authorization.and_then(|value| value.to_str().ok()).map(str::to_owned),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
    }
}

/// Percent-decoding of what [`segment`] encodes.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex: String = rest.by_ref().take(2).map(char::from).collect();
        bytes.extend(u8::from_str_radix(&hex, 16));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
