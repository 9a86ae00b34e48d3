//! Opens the addresses and serves what each is configured to, until it is told to stop.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use tokio::task::JoinSet;

use super::ServeError;

/// How long requests that were begun may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// A client that opens a connection and says nothing is let go after this time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// One address, ready to be opened.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) router: Router,
}

/// The open addresses.
pub(super) struct Sockets {
    handles: Vec<Handle<SocketAddr>>,
    tasks: JoinSet<std::io::Result<()>>,
}

impl Sockets {
    /// Opens every address, or none.
    pub(super) async fn open(endpoints: Vec<Endpoint>) -> Result<Self, ServeError> {
        let mut bound = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let listener = bind(endpoint.address)?;
            bound.push((endpoint, listener));
        }
        let mut sockets = Self {
            handles: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (endpoint, listener) in bound {
            let address = endpoint.address;
            sockets
                .serve(endpoint, listener)
                .map_err(|source| ServeError::Bind { address, source })?;
        }
        for handle in &sockets.handles {
            // None is an address that could not be served; its task says why.
            if let Some(address) = handle.listening().await {
                tracing::info!(%address, "listening");
            }
        }
        Ok(sockets)
    }

    fn serve(&mut self, endpoint: Endpoint, listener: TcpListener) -> std::io::Result<()> {
        let handle = Handle::new();
        self.handles.push(handle.clone());
        let service = endpoint.router.into_make_service_with_connect_info::<SocketAddr>();
        match endpoint.tls {
            Some(tls) => {
                let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))?;
                let server = server.handle(handle).first_request_timeout(FIRST_REQUEST_TIMEOUT);
                self.tasks.spawn(server.serve(service));
            }
            None => {
                let server = axum_server::from_tcp(listener)?;
                let server = server.handle(handle).first_request_timeout(FIRST_REQUEST_TIMEOUT);
                self.tasks.spawn(server.serve(service));
            }
        }
        Ok(())
    }

    /// Ends when one of the addresses is served no more, though nobody asked for that.
    pub(super) async fn failed(&mut self) -> ServeError {
        match self.tasks.join_next().await {
            Some(Ok(Err(source))) => ServeError::Listening(source),
            Some(Err(failure)) => ServeError::Listening(std::io::Error::other(failure)),
            Some(Ok(Ok(()))) | None => ServeError::Listening(std::io::Error::other("a listener ended")),
        }
    }

    /// Accepts nothing more; what was begun may end.
    pub(super) fn refuse_new(&self) {
        for handle in &self.handles {
            handle.graceful_shutdown(Some(GRACE));
        }
    }

    /// Waits until all connections have ended, or their time is up.
    pub(super) async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => ServeError::AddressInUse { address },
        _ => ServeError::Bind { address, source },
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|source| ServeError::Bind { address, source })?;
    Ok(listener)
}
