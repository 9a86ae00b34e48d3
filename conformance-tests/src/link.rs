//! The network in front of one server: a TCP relay on loopback whose port is the server's public one. It can be cut,
//! restored, and slowed down to one byte a second.
//!
//! It carries connections *to* that server. To partition two servers, both get a link and both links are cut. Must not
//! inspect the traffic: it is TLS.

use std::{io, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
struct State {
    /// The server's port; `None` until it is known.
    target: Option<u16>,
    cut: bool,
    bytes_per_second: Option<u32>,
    /// Number of cuts; a connection that was opened before the last cut is closed.
    cuts: u64,
}

/// See the module.
pub struct Link {
    port: u16,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A link without a target.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State {
            target: None,
            cut: false,
            bytes_per_second: None,
            cuts: 0,
        }));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { port, state, accepting })
    }

    /// The public port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the target: a port of this machine.
    pub fn lead_to(&self, port: u16) {
        self.state.send_modify(|state| state.target = Some(port));
    }

    /// Closes open connections and refuses new ones.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.cut = true;
            state.cuts += 1;
        });
    }

    /// Accepts connections again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Limits each direction of each connection, open ones included, to this rate; `None`: unlimited.
    pub fn pace(&self, bytes_per_second: Option<u32>) {
        self.state
            .send_modify(|state| state.bytes_per_second = bytes_per_second);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    while let Ok((incoming, _)) = listener.accept().await {
        let now = *state.borrow();
        if let Some(target) = now.target.filter(|_| !now.cut) {
            tokio::spawn(carry(incoming, target, state.subscribe(), now.cuts));
        }
    }
}

/// Relays one connection until a side closes it or the link is cut.
async fn carry(incoming: TcpStream, target: u16, state: watch::Receiver<State>, cuts: u64) {
    let Ok(outgoing) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let (from, to) = (incoming.into_split(), outgoing.into_split());
    let mut cut = state.clone();
    tokio::select! {
        _ = cut.wait_for(|state| state.cuts > cuts) => {}
        ((), ()) = async { tokio::join!(copy(from.0, to.1, state.clone()), copy(to.0, from.1, state.clone())) } => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut state: watch::Receiver<State>) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let Some(part) = chunk.get(..read) else { return };
        if forward(part, &mut to, &mut state).await.is_err() {
            return;
        }
    }
    // The other direction stays open.
    let _ = to.shutdown().await;
}

/// Sends in portions, each at the rate that applies when it is sent; a change of the rate ends a wait.
async fn forward(
    mut rest: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    state: &mut watch::Receiver<State>,
) -> io::Result<()> {
    while !rest.is_empty() {
        let pace = state.borrow().bytes_per_second;
        let Some(pace) = pace else {
            return to.write_all(rest).await;
        };
        // The bytes of a tenth of a second.
        let portion = usize::try_from(pace / 10).unwrap_or(CHUNK).clamp(1, rest.len());
        let (portion, later) = rest.split_at(portion);
        to.write_all(portion).await?;
        rest = later;
        let bytes = u32::try_from(portion.len()).unwrap_or(u32::MAX);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1) * bytes / pace.max(1)) => {}
            _ = state.wait_for(|state| state.bytes_per_second != Some(pace)) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    /// A server that echoes each byte.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        port
    }

    async fn echoes(socket: &mut TcpStream, what: &[u8]) -> bool {
        let mut answer = vec![0; what.len()];
        socket.write_all(what).await.is_ok() && socket.read_exact(&mut answer).await.is_ok() && answer == what
    }

    #[tokio::test]
    async fn a_cut_closes_open_connections_and_refuses_new_ones_until_healed() {
        let link = Link::new().await.unwrap();
        link.lead_to(echo().await);
        let connect = || TcpStream::connect(("127.0.0.1", link.port()));
        let mut socket = connect().await.unwrap();
        assert!(echoes(&mut socket, b"before").await);
        link.cut();
        assert!(!echoes(&mut socket, b"during").await);
        let mut refused = connect().await.unwrap();
        assert!(!echoes(&mut refused, b"during").await);
        link.heal();
        let mut again = connect().await.unwrap();
        assert!(echoes(&mut again, b"after").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_delays_bytes() {
        let link = Link::new().await.unwrap();
        link.lead_to(echo().await);
        link.pace(Some(1));
        let mut socket = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        let began = tokio::time::Instant::now();
        assert!(echoes(&mut socket, b"abc").await);
        // Virtual time: the last byte waits for those before it.
        assert!(began.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_applies_to_a_pending_read_and_a_pending_portion() {
        let link = Link::new().await.unwrap();
        link.lead_to(echo().await);
        let mut socket = TcpStream::connect(("127.0.0.1", link.port())).await.unwrap();
        assert!(echoes(&mut socket, b"at once").await);
        link.pace(Some(1));
        let began = tokio::time::Instant::now();
        assert!(echoes(&mut socket, b"abc").await);
        assert!(began.elapsed() >= Duration::from_secs(2));
        let (many, began) = ([7; 10_000], tokio::time::Instant::now());
        socket.write_all(&many).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), 7);
        link.pace(None);
        let mut rest = [0; 9_999];
        socket.read_exact(&mut rest).await.unwrap();
        // At the old rate it would take hours.
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
