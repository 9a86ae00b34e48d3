//! The byte stream of a connection, below TLS and HTTP: an idle connection, or one whose peer reads nothing, is closed.
//!
//! Must not time single requests: [`super::request_body`] and the HTTP library do.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use weft_wire::limits::{CONNECTION_IDLE_MS, MIN_LIVE_BYTES_PER_SECOND, WRITE_STALL_MS};

use super::Connection;

const STALL: Duration = Duration::from_millis(WRITE_STALL_MS);

/// See the module.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    connection: Arc<Connection>,
    idle: Pin<Box<Sleep>>,
    /// The deadline of a blocked write. Each written byte extends it.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// Guards the stream of a connection.
    pub fn new(stream: S, connection: Arc<Connection>) -> Self {
        let first_look = Instant::now() + Duration::from_millis(CONNECTION_IDLE_MS);
        Self {
            stream,
            connection,
            idle: Box::pin(sleep_until(first_look)),
            stalled: None,
        }
    }

    /// The inner stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Ready when the connection is to be closed.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.idle.as_mut().poll(context));
            match self.connection.look_again(Instant::now()) {
                Some(later) => self.idle.as_mut().reset(later),
                None => return Poll::Ready(()),
            }
        }
    }

    fn written(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                let latest = Instant::now() + STALL;
                if let Some(stalled) = &mut self.stalled {
                    let later = stalled.deadline() + time_for(count);
                    if later >= latest {
                        self.stalled = None;
                    } else {
                        stalled.as_mut().reset(later);
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + STALL)));
                ready!(stalled.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

/// Time that the slowest supported client may take for this number of bytes.
fn time_for(count: usize) -> Duration {
    Duration::from_millis(count as u64 * 1_000 / MIN_LIVE_BYTES_PER_SECOND)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            return Poll::Ready(read);
        }
        // An empty read: for the reader the peer has closed the connection.
        self.poll_end(context).map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use weft_accounts::Network;

    use super::*;
    use crate::traffic::{Requester, Traffic};

    fn connection() -> Arc<Connection> {
        Connection::uncounted(Network::of("192.0.2.1".parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_closed() {
        let (client, server) = duplex(1024);
        let mut server = Guarded::new(server, connection());
        let (mut receiving, mut sending) = tokio::io::split(client);
        let pings = tokio::spawn(async move {
            while sending.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let mut buffer = [0; 64];
        while server.read(&mut buffer).await.unwrap() > 0 {}
        assert_eq!(began.elapsed().as_secs(), CONNECTION_IDLE_MS / 1000);
        drop(server);
        assert_eq!(receiving.read(&mut buffer).await.unwrap(), 0);
        pings.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_stays_open() {
        let (_client, server) = duplex(1024);
        let connection = connection();
        let mut server = Guarded::new(server, Arc::clone(&connection));
        let requester = Requester::new(&Traffic::unlimited(), &connection, 1).unwrap();
        let mut buffer = [0; 64];
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, server.read(&mut buffer)).await.is_err());
        drop(requester);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_client_is_disconnected_and_a_slow_one_is_served() {
        let (client, server) = duplex(1024);
        let mut server = Guarded::new(server, connection());
        let (mut receiving, _sending) = tokio::io::split(client);
        let slow = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            for _ in 0..300 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                receiving.read_exact(&mut buffer).await.unwrap();
            }
            receiving
        });
        server.write_all(&vec![7; 300 * 1024]).await.unwrap();
        let _receiving = slow.await.unwrap();
        server.write_all(&[7; 1024]).await.unwrap();
        let error = server.write_all(&[7; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_single_bytes_is_disconnected() {
        let (client, server) = duplex(64);
        let mut server = Guarded::new(server, connection());
        let (mut receiving, _sending) = tokio::io::split(client);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                receiving.read_u8().await.unwrap();
            }
        });
        let error = server.write_all(&[7; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
