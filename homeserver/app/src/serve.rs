//! `weft serve`: starts the parts in the order of their dependencies, opens the addresses when all parts can serve
//! requests, and stops them in the reverse order. Must not handle requests itself.

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
mod trace;
mod wiring;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::{Extension, Router};
use ruma::OwnedServerName;
use sd_notify::NotifyState;
use weft_gateway::client_address::TrustedProxies;
use weft_gateway::health;
use weft_gateway::traffic::{self, Traffic, TrafficLimits};
use weft_telemetry::Metrics;

use crate::cli::ServeArguments;
use crate::config::{self, Area, Config, LoadError};
use certificates::Certificates;
use descriptors::Descriptors;
use operator_socket::OperatorSocket;
use signals::Signals;
use sockets::{Endpoint, Sockets};
use wiring::Parts;

/// Longest wait after a stop for threads that are still busy (password hashes, standard input).
const THREADS_END: Duration = Duration::from_secs(2);

/// The reason why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A certificate or its key is wrong.
    #[error(transparent)]
    Tls(#[from] config::Invalid),
    /// The certificate of an authority is wrong.
    #[error(transparent)]
    Authority(#[from] tls::TlsError),
    /// The store belongs to a server of another name.
    #[error(
        "the store {path} is the store of {found}, and server_name is {configured}: the name of a server can't change; \
         choose another data_dir",
        path = path.display()
    )]
    OtherName {
        path: PathBuf,
        found: String,
        configured: OwnedServerName,
    },
    /// The store has another number of lanes than the configuration.
    #[error(
        "the store {path} has {found} lanes, and storage.lanes is {configured}: the number can't change after the store was \
         created; remove the setting, or choose another data_dir",
        path = path.display()
    )]
    OtherLanes { path: PathBuf, found: u64, configured: u16 },
    /// The server's signing keys are damaged or can't be generated.
    #[error("the signing keys in {path}: {reason}", path = path.display())]
    Keys { path: PathBuf, reason: String },
    /// Uploaded files can't be stored.
    #[error("media: {reason}")]
    Media { reason: String },
    /// The federation client can't be set up.
    #[error("federation: {reason}")]
    Federation { reason: String },
    /// The data directory can't be created.
    #[error("cannot create the directory {path}: {source}", path = path.display())]
    DataFolder { path: PathBuf, source: std::io::Error },
    /// Another process has the store open.
    #[error("the store {path} is in use: another weft runs with this data_dir", path = path.display())]
    StoreInUse { path: PathBuf },
    /// The store was written by a newer version.
    #[error("the store {path}: {reason}", path = path.display())]
    NewerStore { path: PathBuf, reason: String },
    /// The store can't be used.
    #[error("the store {path}: {reason}", path = path.display())]
    Store { path: PathBuf, reason: String },
    /// The recovery of pending work failed.
    #[error("cannot recover the pending work of the last run: {reason}")]
    Recovery { reason: String },
    /// The address is in use.
    #[error("cannot listen on {address}: another program already uses it; choose another port under [[listen]]")]
    AddressInUse { address: SocketAddr },
    /// The address can't be opened for another reason.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// A listener failed.
    #[error("a listener failed: {0}")]
    Listening(std::io::Error),
    /// A fail point of a development build can't be armed.
    #[cfg(debug_assertions)]
    #[error(transparent)]
    FailPoint(#[from] crate::fail_points::FailPointError),
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), ServeError> {
    let config = config::load(arguments.config.path.as_deref(), &config::variables())?;
    weft_telemetry::start_logging(config.log.format, &config.log.filter);
    for warning in &config.warnings {
        tracing::warn!(event = "config.warning", setting = %warning.setting, "{warning}");
    }
    if !weft_gateway::web::has_page() && config.listen.iter().any(|listener| listener.serve.contains(&Area::Web)) {
        tracing::warn!(
            event = "web.no_page",
            "this program was built without the web page: \"web\" serves a notice instead"
        );
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

/// Installs the cryptography provider for all TLS connections. A second call has no effect.
pub(crate) fn install_crypto() {
    // An error means that it is already installed.
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
    // Certificates come first: a mistake in them is found before anything changes on disk.
    let mut certificates = Certificates::default();
    let mut identities = Vec::with_capacity(config.listen.len());
    for listener in &config.listen {
        identities.push(listener.tls.as_ref().map(|files| certificates.add(files)).transpose()?);
    }
    let proxies = TrustedProxies::new(config.trusted_proxies.clone());
    let traffic = Traffic::new(&limited_by(config.limits.traffic, descriptors), proxies.clone());
    tracing::info!(server_name = %config.server_name, data_dir = %config.data_dir.display(), "starting");
    let metrics = Metrics::default();
    let parts = Parts::start(&config, &traffic, &metrics).await?;
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
    let background = [
        tokio::spawn(certificates.keep_current(reload)),
        tokio::spawn(budgets::report(
            parts.budgets(),
            parts.rooms(),
            parts.renderer(),
            report,
        )),
    ];
    parts.readiness().set(true);
    notify_service_manager(NotifyState::Ready);
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
    notify_service_manager(NotifyState::Stopping);
    if let Some(operator) = operator {
        operator.close();
    }
    sockets.refuse_new();
    parts.close_live_sockets();
    // Requests in progress are completed first; acknowledged edits are signed after that.
    sockets.ended().await;
    parts.stop().await;
    background.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("stopped");
    outcome
}

/// The traffic limits, reduced to the available file descriptors.
fn limited_by(wanted: TrafficLimits, descriptors: Descriptors) -> TrafficLimits {
    let connections = descriptors.connections(wanted.connections);
    if connections < wanted.connections {
        tracing::warn!(
            event = "server.too_few_descriptors",
            connections,
            wanted = wanted.connections,
            "fewer connections than limits.connections: too few file descriptors (LimitNOFILE=, ulimit -n)"
        );
    }
    TrafficLimits { connections, ..wanted }
}

/// The router of one address: the configured areas, and standard errors for all other paths.
fn router(parts: &Parts, areas: &BTreeSet<Area>, traffic: &Traffic) -> Router {
    let router = areas
        .iter()
        .map(|area| parts.area(*area))
        .fold(health::router(parts.readiness().clone()), Router::merge);
    // The web router handles unknown paths itself: paths that can be routes of the page get the page.
    let router = if areas.contains(&Area::Web) {
        router
    } else {
        weft_gateway::client::with_fallbacks(router)
    };
    traffic::layer(trace::layer(router), traffic.clone())
}

fn notify_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
