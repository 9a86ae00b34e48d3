//! The bytes of a live socket between HTTP and the WebSocket library. Incomplete messages are charged to the account that opened
//! the socket, and so is everything received before authentication.
//!
//! Nothing is read while writing is blocked: answers to pings would accumulate for a client that doesn't read them. Must not
//! interpret the bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use ruma::UserId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use weft_budget::Exhausted;
use weft_http::traffic::{Held, Requester};
use weft_wire::{
    limits::LIVE_SIGN_IN_MS,
    live::close::{self, Close},
};

/// Header and mask of a control frame from a client.
const CONTROL_HEADER_BYTES: u64 = 6;

/// Why nothing more is read, inside of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("no valid token in time")]
    NotSignedIn,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// The close code of an error of [`Metered`]; `None` for an error of the connection itself.
pub(super) fn close_of(error: &io::Error) -> Option<Close> {
    let stopped = error.get_ref()?.downcast_ref::<Stopped>()?;
    Some(match stopped {
        Stopped::NotSignedIn => close::UNAUTHORIZED,
        Stopped::Exhausted(_) => close::RATE_LIMITED,
    })
}

/// The memory that a socket holds.
#[derive(Debug)]
pub(super) struct Meter {
    requester: Arc<Requester>,
    signed_in: AtomicBool,
    unread: Mutex<Unread>,
}

/// Received bytes that are not decoded yet.
#[derive(Debug, Default)]
struct Unread {
    bytes: u64,
    /// A charge for at least these bytes.
    held: Option<Held>,
    counted: u64,
}

impl Meter {
    /// For a socket that is not authenticated yet.
    pub(super) fn new(requester: Arc<Requester>) -> Arc<Self> {
        Arc::new(Self {
            requester,
            signed_in: AtomicBool::new(false),
            unread: Mutex::default(),
        })
    }

    /// Authenticated: from now on the account is charged.
    pub(super) fn sign_in(&self, user: &UserId) -> Result<(), Exhausted> {
        self.requester.is_account(user)?;
        if !self.signed_in.swap(true, Ordering::AcqRel) {
            self.message();
        }
        Ok(())
    }

    /// A message is complete. Before authentication it still waits, and stays charged.
    pub(super) fn message(&self) {
        if self.signed_in.load(Ordering::Acquire) {
            *self.unread() = Unread::default();
        }
    }

    /// A control frame was received, possibly between the fragments of a message.
    pub(super) fn control(&self, payload: usize) {
        let mut unread = self.unread();
        unread.bytes = unread.bytes.saturating_sub(payload as u64 + CONTROL_HEADER_BYTES);
    }

    /// Charges bytes that wait to be written.
    pub(super) fn hold(&self, bytes: usize) -> Result<Held, Exhausted> {
        self.requester.hold(bytes as u64)
    }

    fn read(&self, bytes: usize) -> Result<(), Exhausted> {
        let mut unread = self.unread();
        unread.bytes += bytes as u64;
        let more = unread.bytes.saturating_sub(unread.counted);
        if more > 0 {
            match &mut unread.held {
                Some(held) => held.grow(more)?,
                None => unread.held = Some(self.requester.hold(more)?),
            }
            unread.counted += more;
        }
        Ok(())
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
    /// The deadline for authentication.
    sign_in: Pin<Box<Sleep>>,
    /// The last write was blocked.
    blocked: bool,
    /// Woken when a write succeeds.
    reader: Option<Waker>,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, meter: Arc<Meter>) -> Self {
        let end = Instant::now() + Duration::from_millis(LIVE_SIGN_IN_MS);
        Self {
            stream,
            meter,
            sign_in: Box::pin(sleep_until(end)),
            blocked: false,
            reader: None,
        }
    }

    fn wrote<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked = written.is_pending();
        if !self.blocked
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.meter.signed_in.load(Ordering::Acquire) && this.sign_in.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::other(Stopped::NotSignedIn)));
        }
        if this.blocked {
            this.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            let count = buffer.filled().len().saturating_sub(before);
            if let Err(exhausted) = this.meter.read(count) {
                tracing::debug!(budget = exhausted.name, "live socket closed: budget exhausted");
                return Poll::Ready(Err(io::Error::other(Stopped::from(exhausted))));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, SinkExt, StreamExt};
    use ruma::user_id;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };
    use weft_wire::limits::MAX_LIVE_CONTROL_BYTES;

    use super::*;
    use crate::websocket::config;
    use weft_http::{
        client_address::TrustedProxies,
        traffic::{Traffic, TrafficLimits},
    };

    fn meter(traffic: &Traffic) -> Arc<Meter> {
        let connection = traffic.connect("192.0.2.1".parse().unwrap()).unwrap();
        Meter::new(Requester::new(traffic, &connection, 0).unwrap())
    }

    fn small() -> Traffic {
        let limits = TrafficLimits {
            stranger_bytes_per_network: 1_000,
            account_bytes_per_user: 1_000,
            ..TrafficLimits::default()
        };
        Traffic::new(&limits, TrustedProxies::default())
    }

    async fn read(metered: &mut Metered<DuplexStream>, client: &mut DuplexStream, bytes: usize) -> io::Result<()> {
        client.write_all(&vec![0; bytes]).await.unwrap();
        let mut buffer = vec![0; bytes];
        metered.read_exact(&mut buffer).await.map(drop)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unauthenticated_socket_is_closed() {
        let (mut client, server) = duplex(64);
        let mut server = Metered::new(server, meter(&Traffic::unlimited()));
        let pings = tokio::spawn(async move {
            while client.write_all(b"ping").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let mut buffer = [0; 64];
        while server.read(&mut buffer).await.is_ok() {}
        assert_eq!(began.elapsed().as_millis(), u128::from(LIVE_SIGN_IN_MS));
        drop(server);
        pings.await.unwrap();
    }

    #[tokio::test]
    async fn all_bytes_are_charged_before_authentication_and_incomplete_messages_after_it() {
        let traffic = small();
        let meter = meter(&traffic);
        let (mut client, server) = duplex(4096);
        let mut server = Metered::new(server, Arc::clone(&meter));
        read(&mut server, &mut client, 600).await.unwrap();
        meter.message();
        assert!(read(&mut server, &mut client, 600).await.is_err());
        meter.sign_in(user_id!("@a:x")).unwrap();
        for _ in 0..3 {
            read(&mut server, &mut client, 600).await.unwrap();
            meter.message();
        }
        read(&mut server, &mut client, 600).await.unwrap();
        // A ping between two fragments releases only its own bytes.
        read(&mut server, &mut client, 106).await.unwrap();
        meter.control(100);
        read(&mut server, &mut client, 106).await.unwrap();
        meter.control(100);
        assert!(read(&mut server, &mut client, 600).await.is_err());
    }

    /// T121: answers to pings that the client doesn't read.
    #[tokio::test]
    async fn unread_answers_stop_the_reading() {
        let (client, server) = duplex(4 * 1024);
        let metered = Metered::new(server, meter(&Traffic::unlimited()));
        let mut server = WebSocketStream::from_raw_socket(metered, Role::Server, Some(config())).await;
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let mut taken = 0;
        // Until neither side can proceed.
        loop {
            let sent = client.send(Message::Ping(vec![7; 100].into())).now_or_never();
            let mut read = 0;
            while let Some(message) = server.next().now_or_never() {
                message.unwrap().unwrap();
                read += 1;
            }
            taken += read;
            if sent.is_none() && read == 0 {
                break;
            }
        }
        assert!(taken * 100 < 16 * 1024, "{taken} pings were read");
        assert!(taken * 100 < 4 * 1024 + MAX_LIVE_CONTROL_BYTES + 16 * 1024);
    }
}
