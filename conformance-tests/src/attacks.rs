//! Attacks on one server, over plain HTTP on loopback, by unauthenticated clients and by accounts. Each attack makes
//! the server hold as many resources as possible, reports the numbers, and holds the resources until it is stopped.
//!
//! Drivers only: the caller decides whether the server passes (`tests/attacks.rs`, and longer runs). An attack must not
//! depend on other load on the server, so that several can run at one time.

pub mod accounts;
pub mod answers;
pub mod connections;
pub mod federation;
pub mod live_sockets;
pub mod requests;
pub mod sessions;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use futures_util::future::{BoxFuture, join_all};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};

/// The server under attack, and the attacker's address and account.
#[derive(Debug, Clone)]
pub struct Target {
    /// A listener without TLS that serves all APIs.
    pub address: SocketAddr,
    /// The attacker's address: a loopback address that the regular users do not have.
    pub from: IpAddr,
    /// A user with an access token, for attacks by an account.
    pub account: Option<Account>,
}

/// The account of an attacker.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its Matrix user id.
    pub user: String,
    /// Its access token.
    pub token: String,
    /// Its password.
    pub password: String,
    /// A large document that the account may read.
    pub document: String,
}

/// A loopback address that no other client uses.
#[must_use]
pub fn foreign_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 66, 0, 1))
}

/// The attack's side of the control channel: receives the stop signal, and reports that all resources are held.
#[derive(Debug, Clone)]
pub struct Course {
    stop: watch::Receiver<bool>,
    held: watch::Sender<bool>,
}

/// The caller's side of a [`Course`].
#[derive(Debug)]
pub struct Control {
    stop: watch::Sender<bool>,
    held: watch::Receiver<bool>,
}

/// A connected pair.
#[must_use]
pub fn course() -> (Course, Control) {
    let (stop, stopped) = watch::channel(false);
    let (holds, held) = watch::channel(false);
    let course = Course {
        stop: stopped,
        held: holds,
    };
    (course, Control { stop, held })
}

impl Course {
    /// Whether the stop signal was sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// Reports that the attack is in progress, and does not wait.
    pub fn holds(&self) {
        self.held.send_replace(true);
    }

    /// Reports that everything is open, and waits for the stop signal.
    pub async fn hold(&mut self) {
        self.held.send_replace(true);
        // An error means that the `Control` was dropped.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

impl Control {
    /// Waits until the attack reports that its resources are held.
    pub async fn held(&mut self) {
        // An error means that the attack has ended.
        let _ = self.held.wait_for(|held| *held).await;
    }

    /// Whether the attack has reported that.
    #[must_use]
    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Sends the stop signal.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// The result of an attack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Attempted connections, streams or requests.
    pub tried: usize,
    /// Bytes that the server accepted.
    pub sent: u64,
    /// Attempts that the server refused, or whose connection it had closed at the end.
    pub closed: usize,
}

/// An attack.
pub trait Attack: Send + Sync {
    /// The name, with the number in `ADVERSARIAL.md`.
    fn name(&self) -> &'static str;

    /// Whether a correct server refuses every attempt, so that [`Figures::closed`] equals [`Figures::tried`].
    fn is_always_refused(&self) -> bool {
        false
    }

    /// Attacks until the stop signal.
    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>>;
}

/// Opens a connection from the attacker's address.
///
/// # Errors
/// When it is refused.
pub async fn connect(target: &Target) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The smallest window, so that the bytes that the server writes stay in the server's memory.
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::new(target.from, 0))?;
    Ok(socket.connect(target.address).await?)
}

/// After this time without an accepted byte, the server is considered to have stopped reading.
const WRITE_STALL: Duration = Duration::from_secs(1);

/// Opens `count` connections at once, writes the parts that `bytes` returns to each, holds them, and counts those that
/// the server closed.
async fn hold_connections<'a>(
    target: &'a Target,
    mut course: Course,
    count: usize,
    bytes: impl Fn(usize) -> Vec<Vec<u8>> + Sync + 'a,
) -> Result<Figures> {
    let open = |number: usize| {
        let parts = bytes(number);
        async move {
            let mut stream = connect(target).await.ok()?;
            let mut sent = 0;
            for part in parts {
                sent += write(&mut stream, &part).await;
            }
            Some((stream, sent))
        }
    };
    let mut connections = Vec::new();
    // In batches, so that the listener's backlog is not what is tested.
    for batch in (0..count).collect::<Vec<_>>().chunks(64) {
        connections.extend(join_all(batch.iter().map(|number| open(*number))).await);
    }
    course.hold().await;
    let mut figures = Figures {
        tried: count,
        ..Figures::default()
    };
    let ended = connections.into_iter().map(|connection| async {
        match connection {
            None => (0, true),
            Some((mut stream, sent)) => (sent, is_closed(&mut stream).await),
        }
    });
    for (sent, closed) in join_all(ended).await {
        figures.sent += sent;
        figures.closed += usize::from(closed);
    }
    Ok(figures)
}

/// Writes until everything is written or the peer stops reading; returns the number of bytes that the peer accepted.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> u64 {
    let mut sent = 0;
    for part in bytes.chunks(64 * 1024) {
        match timeout(WRITE_STALL, stream.write_all(part)).await {
            Ok(Ok(())) => sent += part.len() as u64,
            _ => break,
        }
    }
    sent
}

/// Whether the peer has closed the connection; bytes that it sent before are discarded.
pub async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}
