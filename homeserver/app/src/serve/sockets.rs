//! Opens the addresses and serves the configured areas on each until the server stops.
//!
//! Sets the time limits of requests. Must count every connection before anything is read from it ([`super::admit`]).

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::Server;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::task::JoinSet;
use weft_gateway::traffic::Traffic;
use weft_wire::limits;

use super::ServeError;
use super::admit::Admitting;

/// Time for requests in progress to complete when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// A connection without a first request is closed after this time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(limits::FIRST_REQUEST_MS);

/// An address to open.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<RustlsConfig>,
    pub(super) router: Router,
}

/// The open addresses.
pub(super) struct Sockets {
    handles: Vec<Handle<SocketAddr>>,
    tasks: JoinSet<std::io::Result<()>>,
    traffic: Traffic,
}

impl Sockets {
    /// Opens all addresses, or none.
    pub(super) async fn open(endpoints: Vec<Endpoint>, traffic: Traffic) -> Result<Self, ServeError> {
        let mut bound = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let listener = bind(endpoint.address)?;
            bound.push((endpoint, listener));
        }
        let mut sockets = Self {
            handles: Vec::new(),
            tasks: JoinSet::new(),
            traffic,
        };
        for (endpoint, listener) in bound {
            let address = endpoint.address;
            sockets
                .serve(endpoint, listener)
                .map_err(|source| ServeError::Bind { address, source })?;
        }
        for handle in &sockets.handles {
            // `None` is an address that could not be served; the error is in its task.
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
        let admitting = Admitting::new(self.traffic.clone());
        let mut server = axum_server::from_tcp(listener)?;
        limit(&mut server);
        let server = server.handle(handle).first_request_timeout(FIRST_REQUEST_TIMEOUT);
        match endpoint.tls {
            Some(tls) => self
                .tasks
                .spawn(server.acceptor(encrypted(tls, admitting)).serve(service)),
            None => self.tasks.spawn(server.acceptor(admitting).serve(service)),
        };
        Ok(())
    }

    /// Waits until a listener ends unexpectedly.
    pub(super) async fn failed(&mut self) -> ServeError {
        match self.tasks.join_next().await {
            Some(Ok(Err(source))) => ServeError::Listening(source),
            Some(Err(failure)) => ServeError::Listening(std::io::Error::other(failure)),
            Some(Ok(Ok(()))) | None => ServeError::Listening(std::io::Error::other("a listener ended")),
        }
    }

    /// Stops accepting connections; requests in progress may complete.
    pub(super) fn refuse_new(&self) {
        for handle in &self.handles {
            handle.graceful_shutdown(Some(GRACE));
        }
    }

    /// Waits until all connections have ended, at most [`GRACE`].
    pub(super) async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Sets the limits and timeouts of a connection.
fn limit(server: &mut Server<SocketAddr>) {
    let idle = Duration::from_millis(limits::CONNECTION_IDLE_MS);
    let ping = Duration::from_millis(limits::HTTP2_PING_MS);
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        // Counted from the end of the previous request, so that it also limits an idle connection.
        .header_read_timeout(idle)
        .max_buf_size(limits::MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::MAX_STREAMS_PER_CONNECTION)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .max_send_buf_size(limits::MAX_UNSENT_BYTES as usize)
        .max_header_list_size(limits::MAX_HEAD_BYTES as u32)
        .keep_alive_interval(ping)
        .keep_alive_timeout(ping);
}

fn encrypted(tls: RustlsConfig, admitting: Admitting) -> RustlsAcceptor<Admitting> {
    RustlsAcceptor::new(tls)
        .handshake_timeout(FIRST_REQUEST_TIMEOUT)
        .acceptor(admitting)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum_server::accept::Accept as _;
    use rustls::ServerConfig;
    use rustls_pki_types::PrivateKeyDer;
    use tokio::net::TcpStream;

    use super::*;

    /// Both ends of a connection to an address opened by the server.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(
            !server.nodelay().unwrap(),
            "TCP_NODELAY is the system's default, so this test would prove nothing"
        );
        (client, server)
    }

    #[tokio::test]
    async fn small_messages_are_sent_at_once() {
        let (_client, server) = connection().await;
        let admitting = Admitting::new(Traffic::unlimited());
        let (stream, _) = admitting.accept(server, ()).await.unwrap();
        assert!(stream.get_ref().nodelay().unwrap());
    }

    #[tokio::test]
    async fn small_messages_are_sent_at_once_over_tls() {
        super::super::install_crypto();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let (client, server) = connection().await;
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add(certificate).unwrap();
        let trusting = rustls::ClientConfig::builder()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let client = std::thread::spawn(move || {
            let mut client = client.into_std().unwrap();
            client.set_nonblocking(false).unwrap();
            let name = "localhost".try_into().unwrap();
            let mut session = rustls::ClientConnection::new(Arc::new(trusting), name).unwrap();
            session.complete_io(&mut client).unwrap();
        });
        let (stream, _) = encrypted(
            RustlsConfig::from_config(Arc::new(config)),
            Admitting::new(Traffic::unlimited()),
        )
        .accept(server, ())
        .await
        .unwrap();
        assert!(stream.get_ref().0.get_ref().nodelay().unwrap());
        client.join().unwrap();
    }
}
