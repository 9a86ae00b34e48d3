//! `weft serve`: starts every part in the order in which they need one another, opens the addresses when all of them
//! can answer, and stops them in the reverse order.

mod admit;
mod budgets;
mod certificates;
mod descriptors;
mod housekeeping;
mod operator_socket;
mod signals;
mod sockets;
pub(crate) mod storage;
pub(crate) mod tls;
mod wiring;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Router};
use ruma::OwnedServerName;
use sd_notify::NotifyState;
use weft_gateway::client_address::TrustedProxies;
use weft_gateway::health;
use weft_gateway::traffic::{self, Traffic, TrafficLimits};

use crate::cli::ServeArguments;
use crate::config::{self, Area, Config, LoadError};
use crate::logging;
use certificates::Certificates;
use descriptors::Descriptors;
use operator_socket::OperatorSocket;
use signals::Signals;
use sockets::{Endpoint, Sockets};
use wiring::Parts;

/// After a stop, threads that still wait for something (a password's hash, standard input) are not waited for longer.
const THREADS_END: Duration = Duration::from_secs(2);

/// Why the server does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A certificate or its key is wrong.
    #[error(transparent)]
    Tls(#[from] config::Invalid),
    /// A certificate of an authority is wrong.
    #[error(transparent)]
    Authority(#[from] tls::TlsError),
    /// The store belongs to a server of another name.
    #[error(
        "the store {path} is the store of {found}, and server_name is {configured}: a server's name can't change; \
         choose another data_dir",
        path = path.display()
    )]
    OtherName {
        path: PathBuf,
        found: String,
        configured: OwnedServerName,
    },
    /// The server's signing keys are damaged or cannot be made.
    #[error("the signing keys in {path}: {reason}", path = path.display())]
    Keys { path: PathBuf, reason: String },
    /// Other servers cannot be asked.
    #[error("federation: {reason}")]
    Federation { reason: String },
    /// The folder of the data cannot be made.
    #[error("cannot make the folder {path}: {source}", path = path.display())]
    DataFolder { path: PathBuf, source: std::io::Error },
    /// Another process has the store open.
    #[error("the store {path} is in use: another weft runs with this data_dir", path = path.display())]
    StoreInUse { path: PathBuf },
    /// The store was written by a newer version.
    #[error("the store {path}: {reason}", path = path.display())]
    NewerStore { path: PathBuf, reason: String },
    /// The store cannot be used.
    #[error("the store {path}: {reason}", path = path.display())]
    Store { path: PathBuf, reason: String },
    /// What was left pending could not be taken up.
    #[error("cannot take up where the last run ended: {reason}")]
    Recovery { reason: String },
    /// The address is taken.
    #[error("cannot listen on {address}: another program already uses it; choose another port under [[listen]]")]
    AddressInUse { address: SocketAddr },
    /// The address cannot be opened for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// An open address stopped working.
    #[error("an address is served no more: {0}")]
    Listening(std::io::Error),
    /// A fail point of a development build can't be armed.
    #[cfg(debug_assertions)]
    #[error(transparent)]
    FailPoint(#[from] crate::fail_points::FailPointError),
    /// The machine said no.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), ServeError> {
    let config = config::load(arguments.config.path.as_deref(), &config::variables())?;
    logging::start(&config.log);
    for warning in &config.warnings {
        tracing::warn!(setting = %warning.setting, "{warning}");
    }
    if !weft_gateway::web::has_page() && config.listen.iter().any(|listener| listener.serve.contains(&Area::Web)) {
        tracing::warn!("this program was built without the page: \"web\" serves a note that says so");
    }
    #[cfg(debug_assertions)]
    crate::fail_points::arm()?;
    let descriptors = Descriptors::raise();
    install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ServeError::System {
            what: "cannot start the runtime",
            source,
        })?;
    let result = runtime.block_on(serve(config, descriptors, arguments.stop_with_stdin));
    runtime.shutdown_timeout(THREADS_END);
    result
}

/// One provider of cryptography for everything that speaks TLS. A second call changes nothing.
pub(crate) fn install_crypto() {
    // An error means that it is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn serve(config: Config, descriptors: Descriptors, stop_with_stdin: bool) -> Result<(), ServeError> {
    let no_signals = |source| ServeError::System {
        what: "cannot wait for signals",
        source,
    };
    let mut signals = Signals::new(stop_with_stdin).map_err(no_signals)?;
    let (reload, report) = (
        signals::reload().map_err(no_signals)?,
        signals::report().map_err(no_signals)?,
    );
    // Certificates first: a mistake there is found before anything is changed on disk.
    let mut certificates = Certificates::default();
    let mut identities = Vec::with_capacity(config.listen.len());
    for listener in &config.listen {
        identities.push(listener.tls.as_ref().map(|files| certificates.add(files)).transpose()?);
    }
    let proxies = TrustedProxies::new(config.trusted_proxies.clone());
    let traffic = Traffic::new(&within(config.limits.traffic, descriptors), proxies.clone());
    tracing::info!(server_name = %config.server_name, data_dir = %config.data_dir.display(), "starting");
    let parts = Parts::start(&config, &traffic).await?;
    let endpoints = config.listen.iter().zip(identities).map(|(listener, tls)| Endpoint {
        address: listener.address,
        tls,
        router: router(&parts, &listener.serve, &traffic).layer(Extension(proxies.clone())),
    });
    let mut sockets = match Sockets::open(endpoints.collect(), traffic.clone()).await {
        Ok(sockets) => sockets,
        Err(error) => {
            parts.stop().await;
            return Err(error);
        }
    };
    let operator = OperatorSocket::open(&config.data_dir, parts.operator());
    let keeping = [
        tokio::spawn(certificates.keep_current(reload)),
        tokio::spawn(budgets::report(parts.budgets(), report)),
    ];
    parts.readiness().set(true);
    tell_service_manager(NotifyState::Ready);
    tracing::info!(server_name = %config.server_name, "ready");

    let outcome = tokio::select! {
        reason = signals.stop() => {
            tracing::info!(reason, "stopping");
            Ok(())
        }
        error = sockets.failed() => Err(error),
    };
    signals.exit_on_next();
    parts.readiness().set(false);
    tell_service_manager(NotifyState::Stopping);
    if let Some(operator) = operator {
        operator.close();
    }
    sockets.refuse_new();
    parts.close_live_sockets();
    // Whoever is connected gets an answer to what was begun, and edits that were acknowledged are signed after that.
    sockets.ended().await;
    parts.stop().await;
    keeping.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("stopped");
    outcome
}

/// The limits of traffic, as far as there are file descriptors for them.
fn within(wanted: TrafficLimits, descriptors: Descriptors) -> TrafficLimits {
    let connections = descriptors.connections(wanted.connections);
    if connections < wanted.connections {
        tracing::warn!(
            connections,
            wanted = wanted.connections,
            "fewer connections than limits.connections: the system gives too few file descriptors (LimitNOFILE=, ulimit -n)"
        );
    }
    TrafficLimits { connections, ..wanted }
}

/// What one address serves: the areas that it is configured to, and an honest answer to everything else.
fn router(parts: &Parts, areas: &BTreeSet<Area>, traffic: &Traffic) -> Router {
    let router = areas
        .iter()
        .map(|area| parts.area(*area))
        .fold(health::router(parts.readiness().clone()), Router::merge);
    // The page answers unknown paths itself: those that could be its own get the page.
    let router = if areas.contains(&Area::Web) {
        router
    } else {
        weft_gateway::client::with_fallbacks(router)
    };
    traffic::layer(router.layer(axum::middleware::from_fn(log_request)), traffic.clone())
}

/// A line a request: method, path and status. Never the query, which may hold a token, nor headers.
async fn log_request(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = tokio::time::Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    tracing::debug!(%method, path, status, ?took, "request");
    response
}

fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "no service manager was told");
    }
}
