//! A server that lies on purpose: TLS on loopback, a signing key of its own, and for an answer whatever the test says.
//!
//! It publishes its key truthfully and signs invitations like anybody, until a test says otherwise; everything else is
//! "not found" until then. It notes down all that it is asked. It knows the protocol and no code of the servers that are
//! tested: what it signs, it signs with ruma.

mod room;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
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

/// How long is waited for a question that a test expects.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a request that are kept. Larger ones are noted without their body.
const MAX_BODY: usize = 16 << 20;

/// Makes transaction ids that no other call of this process uses.
static TRANSACTION: AtomicU64 = AtomicU64::new(0);

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET, PUT, POST.
    pub method: Method,
    /// The path as it came, percent-encoded.
    pub path: String,
    /// The query as it came.
    pub query: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The body; null where it is no JSON.
    pub body: Value,
}

impl Asked {
    /// A part of the path, counted from the end, percent-decoded: 0 is the last.
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

/// An answer with status 200.
#[must_use]
pub fn json_reply(body: &Value) -> Response {
    reply(StatusCode::OK, body)
}

/// An answer with any status.
#[must_use]
pub fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A key pair with this name after `ed25519:`.
///
/// # Errors
/// Never: what was just made can be read.
pub fn new_key(version: &str) -> Result<Ed25519KeyPair> {
    let document = Ed25519KeyPair::generate();
    Ed25519KeyPair::from_der(&document, version.to_owned()).map_err(|error| anyhow::anyhow!("{error}"))
}

type Answering = Arc<dyn Fn(&Asked) -> Response + Send + Sync>;

struct Shared {
    name: OwnedServerName,
    key: Ed25519KeyPair,
    /// Beginnings of paths, and who answers; the last that fits counts.
    answers: Mutex<Vec<(String, Answering)>>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
}

/// See the module. It stops when it is dropped.
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
    /// Starts one with a certificate of this authority.
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
            key: new_key("liar")?,
            answers: Mutex::default(),
            asked: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let handle = Handle::new();
        let answering = Arc::clone(&shared);
        let routes = Router::new().fallback(move |request| answer(Arc::clone(&answering), request));
        let server = axum_server::from_tcp_rustls(listener, tls(authority, label)?)?;
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        handle.listening().await.context("the liar does not listen")?;
        let malicious = Self { shared, http, handle };
        malicious.tell_the_truth();
        Ok(malicious)
    }

    /// Its server name, `127.0.0.1:PORT`.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        &self.shared.name
    }

    /// A user of its own.
    #[must_use]
    pub fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.shared.name)
    }

    /// Its key pair.
    #[must_use]
    pub fn key(&self) -> &Ed25519KeyPair {
        &self.shared.key
    }

    // --- Answering -----------------------------------------------------------------------------------------------

    /// From now on, requests whose path begins so are answered so. The last that was said counts.
    pub fn answers(&self, path: &str, answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) {
        let mut answers = self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((path.to_owned(), Arc::new(answer)));
    }

    /// The same with one answer, status 200.
    pub fn always_answers(&self, path: &str, body: Value) {
        self.answers(path, move |_| json_reply(&body));
    }

    /// Forgets what was said about paths that begin so.
    pub fn answers_no_more(&self, path: &str) {
        let mut answers = self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|(known, _)| known != path);
    }

    /// What an honest server does without being in any room: its key, invitations signed, transactions taken.
    fn tell_the_truth(&self) {
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

    /// The answer to "who are you": its key, valid for a day, signed.
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

    /// All that it was asked whose path begins so, in order.
    #[must_use]
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .iter()
            .filter(|asked| asked.path.starts_with(path))
            .cloned()
            .collect()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until it was asked such a thing.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn until_asked(&self, path: &str, is_it: impl Fn(&Asked) -> bool) -> Result<Asked> {
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
            .with_context(|| format!("nobody asked for {path}"))?
    }

    /// The events that other servers have sent to it, in order of arrival.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        let transactions = self.asked("/_matrix/federation/v1/send/");
        let events = transactions
            .iter()
            .filter_map(|asked| asked.body.get("pdus")?.as_array());
        events.flatten().cloned().collect()
    }

    // --- Asking --------------------------------------------------------------------------------------------------

    /// A rightly signed request; path and query as they are to be sent.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn ask(&self, server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let header = self.authorization(&server.name, &method, path, body)?;
        self.ask_with(server, method, path, body, &[&header]).await
    }

    /// GET; the body of a success.
    ///
    /// # Errors
    /// When it is none.
    pub async fn get(&self, server: &Server, path: &str) -> Result<Value> {
        let answer = self.ask(server, Method::GET, path, None).await?;
        answer.ok().with_context(|| format!("GET {path}"))
    }

    /// The header with which a request to `destination` would be rightly signed.
    ///
    /// # Errors
    /// When the path is none.
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

    /// A request with these headers `Authorization`, whatever they say.
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

    /// Sends a transaction with an id of its own; the answer, whatever its status.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn transaction(&self, server: &Server, pdus: &[Value], edus: &[Value]) -> Result<Answer> {
        let number = TRANSACTION.fetch_add(1, Ordering::Relaxed);
        self.transaction_with_id(server, &format!("liar{number}"), pdus, edus)
            .await
    }

    /// Sends a transaction; the answer, whatever its status.
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

    /// The event with its hash and this server's signature.
    ///
    /// # Errors
    /// When it is no event at all.
    pub fn sign(&self, event: &Value, version: &RoomVersionId) -> Result<Value> {
        sign_with(self.name().as_str(), self.key(), event, version, true)
    }

    /// Any object with this server's signature.
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

/// The event with a signature in the name of `server` by `key`; `anew` says whether its hash is computed, and what
/// signatures it has are thrown away.
///
/// # Errors
/// When it is no event at all.
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

/// The id of an event.
///
/// # Errors
/// When it is no event at all.
pub fn event_id(event: &Value, version: &RoomVersionId) -> Result<String> {
    let object: CanonicalJsonObject = serde_json::from_value(event.clone())?;
    Ok(format!("${}", reference_hash(&object, &rules(version)?)?))
}

/// The rules of a room version.
///
/// # Errors
/// When ruma doesn't know it.
pub fn rules(version: &RoomVersionId) -> Result<RoomVersionRules> {
    version.rules().with_context(|| format!("room version {version}"))
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    ruma::MilliSecondsSinceUnixEpoch::now().get().into()
}

/// A public key as it is published.
#[must_use]
pub fn encode_key(key: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.encode(key)
}

fn tls(authority: &Authority, label: &str) -> Result<RustlsConfig> {
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

/// Notes a request down and answers it.
async fn answer(shared: Arc<Shared>, request: axum::http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let asked = note(&parts.method, &parts.uri, &parts.headers, &body);
    let found = {
        let answers = shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = answers.iter().rev().find(|(path, _)| asked.path.starts_with(path));
        fits.map(|(_, answer)| Arc::clone(answer))
    };
    let reply = found.map_or_else(
        || {
            reply(
                StatusCode::NOT_FOUND,
                &json!({ "errcode": "M_NOT_FOUND", "error": "not told" }),
            )
        },
        |answer| answer(&asked),
    );
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    shared.count.send_modify(|count| *count += 1);
    reply
}

fn note(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Asked {
    let authorization = headers.get(header::AUTHORIZATION);
    Asked {
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
