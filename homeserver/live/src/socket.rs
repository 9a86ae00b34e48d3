//! One WebSocket: a reader that detects the framing from the first message, and a writer with a bounded queue.
//!
//! The writer sends keep-alives when idle and closes connections whose peer stops reading.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};
use weft_wire::{
    limits::{LIVE_IDLE_MS, LIVE_KEEP_ALIVE_MS, MIN_LIVE_BYTES_PER_SECOND},
    live::{
        Framing,
        close::{self, Close},
    },
};

use super::{
    LivePorts,
    encoder::keep_alive,
    hocuspocus,
    meter::{self, Meter},
    outgoing::{self, Outgoing, ToWrite},
    plain,
    target::Target,
    websocket::{self, Sink, Unsent, WebSocket},
};

/// Capacity of the queues from the reader to a document and from all documents to the writer. Messages above it wait in the
/// connection (and thereby at the sender), not in memory.
pub(super) const QUEUE: usize = 64;

/// The writer is woken at the latest after this many bytes: a third of the 4 MiB that Linux keeps at most for a connection
/// (`tcp_wmem`).
const WOKEN_AFTER_BYTES: usize = 4 * 1024 * 1024 / 3;

/// Why no further message is read.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client closed the connection, or it broke.
    Gone,
    /// The server closes the connection.
    Close(Close),
}

/// The messages from a client.
pub(super) struct Messages {
    stream: SplitStream<WebSocket>,
    meter: Arc<Meter>,
}

impl Messages {
    /// The next binary message. It may exceed the size limit: the framing that knows its document refuses it.
    pub(super) async fn next(&mut self) -> Result<Message, Ended> {
        loop {
            let message = timeout(Duration::from_millis(LIVE_IDLE_MS), self.stream.next()).await;
            match message {
                Err(_) => return Err(Ended::Close(close::SLOW)),
                Ok(None | Some(Ok(Message::Close(_)))) => return Err(Ended::Gone),
                Ok(Some(Ok(message @ Message::Binary(_)))) => {
                    self.meter.message();
                    return Ok(message);
                }
                Ok(Some(Ok(Message::Text(_)))) => return Err(Ended::Close(close::BAD_FRAME)),
                Ok(Some(Ok(Message::Ping(payload) | Message::Pong(payload)))) => self.meter.control(payload.len()),
                Ok(Some(Ok(Message::Frame(_)))) => {}
                Ok(Some(Err(tungstenite::Error::Capacity(_)))) => return Err(Ended::Close(close::TOO_LARGE)),
                Ok(Some(Err(tungstenite::Error::Io(error)))) => {
                    return Err(meter::close_of(&error).map_or(Ended::Gone, Ended::Close));
                }
                Ok(Some(Err(_))) => return Err(Ended::Gone),
            }
        }
    }
}

/// Serves a socket until it is closed.
pub(super) async fn serve(ports: LivePorts, target: Option<Target>, socket: WebSocket, meter: Arc<Meter>) {
    let (sink, stream) = socket.split();
    let mut messages = Messages {
        stream,
        meter: Arc::clone(&meter),
    };
    let first = match messages.next().await {
        Ok(first) => first,
        Err(Ended::Gone) => return,
        Err(Ended::Close(close)) => return finish(sink, close).await,
    };
    let Ok(framing) = Framing::of_first_frame(&first.clone().into_data()) else {
        return finish(sink, close::BAD_FRAME).await;
    };
    let (out, outgoing) = outgoing::queue(meter);
    // Runs in the serving task and not in one of its own: output is then written by the task that was woken.
    let writer = write(sink, outgoing, framing);
    let serving = async move {
        let close = match framing {
            Framing::Plain => plain::serve(ports, target, first, messages, out.clone()).await,
            Framing::Hocuspocus => hocuspocus::serve(ports, target, first, messages, out.clone()).await,
        };
        // A full queue means that the client has stopped reading.
        close.is_none_or(|close| out.try_close(close))
    };
    tokio::pin!(serving, writer);
    tokio::select! {
        biased;
        takes_more = &mut serving => {
            if takes_more {
                writer.await;
            }
        }
        // The document tasks observe this through the queue, and shut down in order.
        () = &mut writer => {
            serving.await;
        }
    }
}

async fn write(mut sink: Sink, mut outgoing: ToWrite, framing: Framing) {
    loop {
        let next = timeout(Duration::from_millis(LIVE_KEEP_ALIVE_MS), outgoing.next()).await;
        // Held until the message is written.
        let _held;
        let message = match next {
            Ok(None) => return finish(sink, close::RESTART).await,
            Ok(Some(Outgoing::Close(close))) => return finish(sink, close).await,
            Ok(Some(Outgoing::Message(message, held))) => {
                _held = held;
                message
            }
            Err(_) => keep_alive(framing),
        };
        let write_timeout = write_timeout(message.len());
        let sent = timeout(write_timeout, websocket::send(&mut sink, message, stall_timeout())).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(Unsent::Broken)) => return,
            // It has read so little for so long that it most likely won't read the close frame either.
            Ok(Err(Unsent::Stalled)) | Err(_) => return finish(sink, close::SLOW).await,
        }
    }
}

/// Time allowed for writing a message. A large message must not be cut off on a slow line: sent again from its beginning
/// with the next connection, it would never be delivered.
fn write_timeout(bytes: usize) -> Duration {
    let allowed = bytes as u64 * 1_000 / MIN_LIVE_BYTES_PER_SECOND;
    Duration::from_millis(LIVE_IDLE_MS + allowed)
}

/// Time allowed until a client reads more of a message. A waiting writer is woken when a considerable part of the system's
/// send buffer was read, which takes time on a slow line.
fn stall_timeout() -> Duration {
    write_timeout(WOKEN_AFTER_BYTES)
}

async fn finish(mut sink: Sink, close: Close) {
    let frame = CloseFrame {
        code: close.code.into(),
        reason: close.reason.into(),
    };
    // The client may already be disconnected.
    let _ = timeout(Duration::from_secs(5), sink.send(Message::Close(Some(frame)))).await;
}

#[cfg(test)]
mod tests {
    use weft_wire::limits::MAX_DOCUMENT_BYTES;

    use super::*;

    #[test]
    fn the_write_timeout_allows_a_large_message_on_a_slow_line() {
        assert_eq!(write_timeout(0), Duration::from_secs(60));
        // A document of 5 MB on a weak mobile connection.
        assert!(write_timeout(5_000_000) > Duration::from_secs(5_000_000 / 20_000));
        assert!(write_timeout(MAX_DOCUMENT_BYTES) < Duration::from_secs(2 * 60 * 60));
        // Independent of the message size, a client that reads nothing is disconnected within minutes.
        assert!(stall_timeout() < Duration::from_secs(150));
    }
}
