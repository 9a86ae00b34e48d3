//! Signed requests to other servers: discovery, connection, limits on time and bytes, parsing of the response.
//!
//! Must not follow redirects, use a proxy, or send a request whose path differs from the one that was signed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use ipnet::IpNet;
use parking_lot::Mutex;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponseExt, Metadata, OutgoingRequest, OutgoingRequestExt,
        federation::authentication::{ServerSignatures, XMatrixSigningInput},
        path_builder::SinglePath,
    },
};
use serde::Deserialize;
use weft_budget::Budget;
use weft_wire::{
    limits,
    trace_context::{TRACEPARENT, TraceContext},
};

use crate::{
    DenyList, Destination, DiscoveryError, KeyRing, Names, Outgoing, OutgoingLimits, Resolver, SystemNames, body,
    body::{AnswerBytes, BodyError, Charge, describe},
    tls,
};

/// Timeout of the TCP and TLS handshake. A connection that takes longer rarely succeeds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept: longer than a usual pause between two edits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Settings of the client.
pub struct ClientConfig {
    /// PEM texts of certificates that are trusted in addition to those of the system.
    pub extra_ca_certificates: Vec<Vec<u8>>,
    /// Exceptions from the deny-list of private addresses.
    pub allow_addresses: Vec<IpNet>,
    /// Timeout of a request, including its response.
    pub timeout: Duration,
    /// DNS lookups.
    pub names: Arc<dyn Names>,
    /// The port of `.well-known` requests: 443, except in tests.
    pub well_known_port: u16,
    /// Limits of the requests that strangers and accounts cause.
    pub outgoing: OutgoingLimits,
    /// The context of the current span, which is sent with each request; `None` if spans are not recorded.
    pub trace: fn() -> Option<TraceContext>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            extra_ca_certificates: Vec::new(),
            allow_addresses: Vec::new(),
            timeout: Duration::from_secs(30),
            names: Arc::new(SystemNames::new()),
            well_known_port: 443,
            outgoing: OutgoingLimits::default(),
            trace: || None,
        }
    }
}

/// Why the client can't be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Certificates can't be read.
    #[error("certificates: {0}")]
    Certificates(String),
}

/// The error response of another server (Matrix specification, "Standard error response").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {errcode}: {message}")]
pub struct MatrixError {
    /// The HTTP status.
    pub status: u16,
    /// The error code; `M_UNKNOWN` if there is none.
    pub errcode: String,
    /// The error text, at most 500 characters. Untrusted: never show it without naming the server that sent it.
    pub message: String,
}

/// Why a call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The destination is this server.
    #[error("this server can't send requests to itself")]
    Ourselves,
    /// Discovery failed.
    #[error("{server} can't be found: {error}")]
    Discovery {
        /// The server.
        server: OwnedServerName,
        /// The cause.
        error: DiscoveryError,
    },
    /// The connection failed, broke or timed out.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// The server.
        server: OwnedServerName,
        /// The error of the transport.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{server} refused: {error}")]
    Refused {
        /// The server.
        server: OwnedServerName,
        /// The error response.
        error: MatrixError,
    },
    /// The response is unusable.
    #[error("{server} sent an unusable response: {reason}")]
    BadAnswer {
        /// The server.
        server: OwnedServerName,
        /// What is wrong with the response.
        reason: String,
    },
    /// Too many requests are in flight on behalf of this requester, or the responses in memory have reached their
    /// limit.
    #[error("too many requests to other servers are in flight")]
    Busy,
    /// The request can't be built.
    #[error("the request can't be built: {0}")]
    Request(String),
}

impl CallError {
    /// The server that could not be found or reached, if that is the failure.
    #[must_use]
    pub fn unreachable(&self) -> Option<&ServerName> {
        match self {
            Self::Discovery { server, .. } | Self::Unreachable { server, .. } => Some(server),
            _ => None,
        }
    }

    /// The error response, if the server answered with one.
    #[must_use]
    pub fn refusal(&self) -> Option<&MatrixError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Sends signed requests. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    keys: Arc<KeyRing>,
    resolver: Resolver,
    tls: rustls::ClientConfig,
    timeout: Duration,
    connections: Mutex<HashMap<OwnedServerName, Connection>>,
    outgoing: Arc<Outgoing>,
    answer_bytes: Arc<AnswerBytes>,
    trace: fn() -> Option<TraceContext>,
}

/// A response that is not parsed yet; its bytes are charged to its server until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    _charge: Charge,
}

#[derive(Clone)]
struct Connection {
    destination: Arc<Destination>,
    http: reqwest::Client,
}

/// Limits on the size of a response and on the time it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) time: Option<Duration>,
}

impl Bounds {
    /// Responses of at most this size, within the timeout of an ordinary request.
    pub(crate) const fn bytes(bytes: usize) -> Self {
        Self { bytes, time: None }
    }

    /// A lookup that a client's request waits for.
    pub(crate) const fn lookup(bytes: usize) -> Self {
        Self {
            bytes,
            time: Some(Duration::from_secs(limits::MAX_LOOKUP_SECONDS)),
        }
    }

    /// One event: a template, a signed invite, a missing event.
    pub(crate) const EVENT: Self = Self::bytes(limits::MAX_EVENT_RESPONSE_BYTES);
    /// A page of events.
    pub(crate) const EVENTS: Self = Self::bytes(limits::MAX_EVENTS_RESPONSE_BYTES);
    /// An acknowledgement.
    pub(crate) const SHORT: Self = Self::bytes(limits::MAX_SHORT_RESPONSE_BYTES);
    /// The state of a whole room.
    pub(crate) const STATE: Self = Self::bytes(limits::MAX_FEDERATION_RESPONSE_BYTES);
    /// A resident server resolves and collects the state of a whole room before it answers a join.
    pub(crate) const JOIN: Self = Self {
        time: Some(Duration::from_secs(180)),
        ..Self::STATE
    };
    /// The snapshot of a document, which is built on request.
    pub(crate) const SNAPSHOT: Self = Self {
        bytes: limits::MAX_SNAPSHOT_RESPONSE_BYTES,
        time: Some(Duration::from_secs(180)),
    };
    /// The other server checks 50 events before it answers; a transaction that times out is sent again as a whole.
    pub(crate) const TRANSACTION: Self = Self {
        time: Some(Duration::from_secs(60)),
        ..Self::SHORT
    };
    /// A file, which is passed on while it is received; its size is limited by the receiver.
    pub(crate) const MEDIA: Self = Self {
        time: Some(Duration::from_secs(limits::MEDIA_FETCH_SECONDS)),
        ..Self::SHORT
    };
    /// Keys are small, and an incoming request waits for them.
    pub(crate) const KEYS: Self = Self {
        bytes: limits::MAX_KEY_RESPONSE_BYTES,
        time: Some(Duration::from_secs(10)),
    };
}

impl Client {
    /// A client that signs with the current key of `keys`.
    ///
    /// # Errors
    /// When a certificate can't be read.
    pub fn new(keys: Arc<KeyRing>, config: ClientConfig) -> Result<Self, ClientError> {
        let tls = tls::config_with_roots(&config.extra_ca_certificates)?;
        let deny = DenyList::new(config.allow_addresses);
        let resolver = Resolver::new(config.names, deny, tls.clone(), config.well_known_port);
        let connections = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                keys,
                resolver,
                tls,
                timeout: config.timeout,
                connections,
                outgoing: Arc::new(Outgoing::new(&config.outgoing)),
                trace: config.trace,
                answer_bytes: AnswerBytes::new(
                    "answer_bytes_of_servers",
                    limits::MAX_ANSWER_BYTES_PER_SERVER,
                    limits::MAX_ANSWER_BYTES,
                ),
            }),
        })
    }

    /// The signing keys of this server.
    #[must_use]
    pub fn key_ring(&self) -> &Arc<KeyRing> {
        &self.inner.keys
    }

    /// The requests to other servers that strangers and accounts cause, and their limits.
    #[must_use]
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.inner.outgoing
    }

    /// The bytes of other servers' responses that are in memory, and their limit; exported as metrics.
    #[must_use]
    pub fn answer_bytes(&self) -> &Arc<Budget> {
        self.inner.answer_bytes.total()
    }

    /// Sends one of ruma's requests, signed, and parses the response. Each endpoint states the limits of its
    /// response: the limit for the state of a room would be far too high for a profile.
    pub(crate) async fn call<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<R::IncomingResponse, CallError>
    where
        R: OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let (response, _charge) = self.ask(server, request, bounds).await?;
        R::IncomingResponse::try_from_http_response(response.map_body()).map_err(|error| CallError::BadAnswer {
            server: server.to_owned(),
            reason: shorten(&error.to_string()),
        })
    }

    /// Sends one of ruma's requests, signed, and returns the response unparsed: for lists of events, which ruma would
    /// copy (T136).
    pub(crate) async fn call_unparsed<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<Answer, CallError>
    where
        R: OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let (response, charge) = self.ask(server, request, bounds).await?;
        Ok(Answer {
            body: response.into_body(),
            _charge: charge,
        })
    }

    async fn ask<R>(
        &self,
        server: &ServerName,
        request: R,
        bounds: Bounds,
    ) -> Result<(Response<Bytes>, Charge), CallError>
    where
        R: OutgoingRequest + Metadata<Authentication = ServerSignatures, PathBuilder = SinglePath>,
    {
        let connection = self.connect(server).await?;
        let signer = self.inner.keys.signer();
        let input = XMatrixSigningInput::new(signer.server_name().to_owned(), server.to_owned(), signer.key_pair());
        let request = request
            .try_into_http_request::<Vec<u8>>(&base_url(&connection.destination), input, ())
            .map_err(|error| CallError::Request(error.to_string()))?;
        self.send(server, &connection, request, bounds).await
    }

    /// A signed GET of a path for which ruma has no type. `path_and_query` is already percent-encoded.
    pub(crate) async fn get_signed(
        &self,
        server: &ServerName,
        path_and_query: &str,
        bounds: Bounds,
    ) -> Result<Answer, CallError> {
        let connection = self.connect(server).await?;
        let request = self.signed_get(server, &connection, path_and_query)?;
        let (response, charge) = self.send(server, &connection, request, bounds).await?;
        Ok(Answer {
            body: response.into_body(),
            _charge: charge,
        })
    }

    fn signed_get(
        &self,
        server: &ServerName,
        connection: &Connection,
        path_and_query: &str,
    ) -> Result<Request<Vec<u8>>, CallError> {
        let uri = format!("{}{path_and_query}", base_url(&connection.destination));
        let mut request = Request::get(uri)
            .body(Vec::new())
            .map_err(|error| CallError::Request(error.to_string()))?;
        let signer = self.inner.keys.signer();
        let input = XMatrixSigningInput::new(signer.server_name().to_owned(), server.to_owned(), signer.key_pair());
        <ServerSignatures as ruma::api::auth_scheme::AuthScheme>::add_authentication(&mut request, input)
            .map_err(|error| CallError::Request(error.to_string()))?;
        Ok(request)
    }

    /// As [`Client::get_signed`] for a file: the body is not read. An error answer is.
    pub(crate) async fn open_signed(
        &self,
        server: &ServerName,
        path_and_query: &str,
        bounds: Bounds,
    ) -> Result<reqwest::Response, CallError> {
        let connection = self.connect(server).await?;
        let request = self.signed_get(server, &connection, path_and_query)?;
        let response = self.execute(server, &connection, request, bounds).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        // It has an error status, so this is an error.
        self.take(server, response, Bounds::SHORT).await?;
        Err(CallError::BadAnswer {
            server: server.to_owned(),
            reason: "an error without a status".to_owned(),
        })
    }

    /// Discovery, for URLs that other servers name.
    pub(crate) fn resolver(&self) -> &Resolver {
        &self.inner.resolver
    }

    /// An unsigned request: for keys, which are needed before any signature can be checked.
    pub(crate) async fn plain(
        &self,
        server: &ServerName,
        path: &str,
        json_body: Option<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<Bytes, CallError> {
        let connection = self.connect(server).await?;
        let uri = format!("{}{path}", base_url(&connection.destination));
        let request = match json_body {
            Some(json) => Request::post(uri)
                .header(header::CONTENT_TYPE, "application/json")
                .body(json),
            None => Request::get(uri).body(Vec::new()),
        };
        let request = request.map_err(|error| CallError::Request(error.to_string()))?;
        Ok(self.send(server, &connection, request, bounds).await?.0.into_body())
    }

    async fn connect(&self, server: &ServerName) -> Result<Connection, CallError> {
        if server == self.inner.keys.server_name() {
            return Err(CallError::Ourselves);
        }
        let found = self.inner.resolver.resolve(server).await;
        let destination = found.map_err(|error| CallError::Discovery {
            server: server.to_owned(),
            error,
        })?;
        if let Some(known) = self
            .connections()
            .get(server)
            .filter(|known| known.destination == destination)
        {
            return Ok(known.clone());
        }
        let http = self.build(&destination).map_err(|error| CallError::Unreachable {
            server: server.to_owned(),
            reason: describe(&error),
        })?;
        let connection = Connection { destination, http };
        let mut connections = self.connections();
        if connections.len() >= limits::MAX_REMEMBERED_SERVERS {
            connections.clear();
        }
        connections.insert(server.to_owned(), connection.clone());
        Ok(connection)
    }

    fn connections(&self) -> parking_lot::MutexGuard<'_, HashMap<OwnedServerName, Connection>> {
        self.inner.connections.lock()
    }

    /// Builds the HTTP client of one destination. Its addresses are pinned, so that the connection goes to the
    /// addresses that were checked against the deny-list. With one client for each destination, two names that share a
    /// TLS name don't share connections (T48).
    fn build(&self, destination: &Destination) -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.inner.tls.clone())
            .resolve_to_addrs(&destination.tls_name, &destination.addresses)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // HTTP/2 has no Host header of its own, and delegation needs one that differs from the TLS name.
            .http1_only()
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            .build()
    }

    async fn send(
        &self,
        server: &ServerName,
        connection: &Connection,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<(Response<Bytes>, Charge), CallError> {
        let response = self.execute(server, connection, request, bounds).await?;
        self.take(server, response, bounds).await
    }

    /// Sends a request; the body of the response is not read.
    #[tracing::instrument(name = "federation_request", level = "debug", skip_all, fields(%server, method = %request.method(), traceparent = tracing::field::Empty))]
    async fn execute(
        &self,
        server: &ServerName,
        connection: &Connection,
        mut request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<reqwest::Response, CallError> {
        let host = header::HeaderValue::from_str(&connection.destination.host_header)
            .map_err(|error| CallError::Request(error.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(context) = (self.inner.trace)() {
            let text = context.to_string();
            tracing::Span::current().record("traceparent", &text);
            let value = header::HeaderValue::try_from(text).map_err(|error| CallError::Request(error.to_string()))?;
            request.headers_mut().insert(TRACEPARENT, value);
        }
        let signed = request
            .uri()
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut request = reqwest::Request::try_from(request).map_err(|error| CallError::Request(error.to_string()))?;
        *request.timeout_mut() = Some(bounds.time.unwrap_or(self.inner.timeout));
        let url = request.url();
        let sent = url
            .query()
            .map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        if sent != signed {
            return Err(CallError::Request(
                "the path is changed by URL parsing, so its signature would be wrong".to_owned(),
            ));
        }
        connection.http.execute(request).await.map_err(|error| {
            self.inner.resolver.invalidate(server);
            CallError::Unreachable {
                server: server.to_owned(),
                reason: describe(&error),
            }
        })
    }

    async fn take(
        &self,
        server: &ServerName,
        response: reqwest::Response,
        bounds: Bounds,
    ) -> Result<(Response<Bytes>, Charge), CallError> {
        let status = response.status();
        let mut builder = Response::builder().status(status);
        if let Some(kind) = response.headers().get(header::CONTENT_TYPE) {
            builder = builder.header(header::CONTENT_TYPE, kind);
        }
        let limit = if status.is_success() {
            bounds.bytes
        } else {
            limits::MAX_ERROR_RESPONSE_BYTES.min(bounds.bytes)
        };
        let mut charge = Charge::new(&self.inner.answer_bytes, server.to_owned());
        let bytes = body::read_charged(response, limit, Some(&mut charge)).await;
        if !status.is_success() {
            let error = refusal(status, &bytes.unwrap_or_default());
            return Err(CallError::Refused {
                server: server.to_owned(),
                error,
            });
        }
        let bytes = bytes.map_err(|error| match error {
            BodyError::TooLarge(_) => CallError::BadAnswer {
                server: server.to_owned(),
                reason: error.to_string(),
            },
            BodyError::Exhausted => CallError::Busy,
            BodyError::Broken(reason) => CallError::Unreachable {
                server: server.to_owned(),
                reason,
            },
        })?;
        let response = builder
            .body(bytes)
            .map_err(|error| CallError::Request(error.to_string()))?;
        Ok((response, charge))
    }
}

/// A response whose body is borrowed: ruma parses from a slice.
trait MapBody {
    fn map_body(&self) -> Response<&[u8]>;
}

impl MapBody for Response<Bytes> {
    fn map_body(&self) -> Response<&[u8]> {
        let mut lent = Response::new(self.body().as_ref());
        *lent.status_mut() = self.status();
        *lent.headers_mut() = self.headers().clone();
        lent
    }
}

fn base_url(destination: &Destination) -> String {
    format!("https://{}:{}", destination.tls_name, destination.port)
}

fn refusal(status: StatusCode, body: &[u8]) -> MatrixError {
    #[derive(Deserialize, Default)]
    struct Body {
        #[serde(default)]
        errcode: String,
        #[serde(default)]
        error: String,
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let errcode = if body.errcode.is_empty() {
        "M_UNKNOWN".to_owned()
    } else {
        shorten(&body.errcode)
    };
    MatrixError {
        status: status.as_u16(),
        errcode,
        message: shorten(&body.error),
    }
}

/// Shortens untrusted text for logs and errors: bounded length, on one line.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
