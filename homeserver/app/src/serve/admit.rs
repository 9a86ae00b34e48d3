//! Admission of connections: counts a connection before anything is read from it, and closes it at once if there are too
//! many. Sets its socket options. Must not read from the connection.

use std::future::{Ready, ready};
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use socket2::SockRef;
use tokio::net::TcpStream;
use tower::Layer as _;
use weft_gateway::traffic::{Connection, Guarded, Traffic};
use weft_wire::limits::MAX_UNSENT_BYTES;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Admitting {
    traffic: Traffic,
}

impl Admitting {
    pub(super) fn new(traffic: Traffic) -> Self {
        Self { traffic }
    }

    fn admit<S>(&self, stream: TcpStream, service: S) -> std::io::Result<(Guarded<TcpStream>, Serving<S>)> {
        let peer = stream.peer_addr()?;
        let connection = self.traffic.connect(peer.ip()).map_err(std::io::Error::other)?;
        // TCP_NODELAY: otherwise a second small message waits for the acknowledgement of the first, which clients delay by
        // 40 ms. On a live socket every other keystroke would be late by that.
        stream.set_nodelay(true)?;
        // If the system does not support the option, its buffers take more memory; the connection works.
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
            tracing::debug!(%error, "cannot limit the unsent bytes of a connection");
        }
        let service = Extension(Arc::clone(&connection)).layer(service);
        Ok((Guarded::new(stream, connection), service))
    }
}

type Serving<S> = AddExtension<S, Arc<Connection>>;

impl<S> Accept<TcpStream, S> for Admitting {
    type Stream = Guarded<TcpStream>;
    type Service = Serving<S>;
    type Future = Ready<std::io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.admit(stream, service))
    }
}
