//! Attacks on one server, over plain HTTP on loopback: what strangers and accounts try to make it keep. Each opens what it
//! can, says how much that was, and holds it until it is told to stop.
//!
//! Drivers only: whether the server withstands is judged by who runs them (`tests/attacks.rs`, and longer runs). An attack
//! must not depend on what else is done to the server, so that several can run at one time.

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

/// Who is attacked, and from where.
#[derive(Debug, Clone)]
pub struct Target {
    /// A listener without TLS that serves everything.
    pub address: SocketAddr,
    /// The attacker's own address: one of loopback, other than that of the innocent.
    pub from: IpAddr,
    /// Somebody who is signed in, for attacks by an account.
    pub account: Option<Account>,
}

/// An account that attacks.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its Matrix user id.
    pub user: String,
    /// Its access token.
    pub token: String,
    /// Its password.
    pub password: String,
    /// A large document that it may read.
    pub document: String,
}

/// An address of loopback that nobody else uses.
#[must_use]
pub fn foreign_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 66, 0, 1))
}

/// How an attack goes on: it is told when to stop, and tells when it holds all that it will hold.
#[derive(Debug, Clone)]
pub struct Course {
    stop: watch::Receiver<bool>,
    held: watch::Sender<bool>,
}

/// The other side of a [`Course`].
#[derive(Debug)]
pub struct Control {
    stop: watch::Sender<bool>,
    held: watch::Receiver<bool>,
}

/// The two sides.
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
    /// Whether it was told to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// Tells that the attack is under way; one that repeats goes on.
    pub fn holds(&self) {
        self.held.send_replace(true);
    }

    /// All that could be opened is open: holds it until the end.
    pub async fn hold(&mut self) {
        self.held.send_replace(true);
        // An error means that nobody is left to stop it.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

impl Control {
    /// Until the attack holds what it can.
    pub async fn held(&mut self) {
        // An error means that the attack has ended.
        let _ = self.held.wait_for(|held| *held).await;
    }

    /// Whether it does.
    #[must_use]
    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Ends the attack.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// What an attack came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections or streams that were tried.
    pub tried: usize,
    /// Bytes that the server's side took.
    pub sent: u64,
    /// Of those that were tried, those that the server had closed in the end.
    pub closed: usize,
}

/// An attack.
pub trait Attack: Send + Sync {
    /// Its name, with its number in `ADVERSARIAL.md`.
    fn name(&self) -> &'static str;

    /// Whether a server that withstands refuses every try, so that [`Figures::closed`] is [`Figures::tried`].
    fn is_always_refused(&self) -> bool {
        false
    }

    /// Attacks until the course ends.
    fn run<'a>(&'a self, target: &'a Target, course: Course) -> BoxFuture<'a, Result<Figures>>;
}

/// A connection from the attacker's address.
///
/// # Errors
/// When it is refused.
pub async fn connect(target: &Target) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The smallest windows, so that what the server writes stays with the server.
    socket.set_recv_buffer_size(4096)?;
    socket.bind(SocketAddr::new(target.from, 0))?;
    Ok(socket.connect(target.address).await?)
}

/// After this long without a byte taken the server takes no more.
const TAKES_NOTHING: Duration = Duration::from_secs(1);

/// Opens so many connections at once, writes to each what `bytes` says, holds them, and counts what was closed.
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
    // In waves, so that the queue of the listener isn't what is attacked.
    for wave in (0..count).collect::<Vec<_>>().chunks(64) {
        connections.extend(join_all(wave.iter().map(|number| open(*number))).await);
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

/// Writes until all is written, or the other side takes nothing more; gives how many bytes it took.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> u64 {
    let mut sent = 0;
    for part in bytes.chunks(64 * 1024) {
        match timeout(TAKES_NOTHING, stream.write_all(part)).await {
            Ok(Ok(())) => sent += part.len() as u64,
            _ => break,
        }
    }
    sent
}

/// Whether the other side has closed; what it wrote before is thrown away.
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
