//! One WebSocket: a reader that tells the framing by the first message, and a writer with a bounded queue.
//!
//! The writer says something when nothing else was said for a while, and gives up a client that takes nothing.

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
    meter::Meter,
    outgoing::{self, Outgoing, ToWrite},
    plain,
    target::Target,
    websocket::{self, Sink, Unsent, WebSocket},
};

/// Messages between the reader and a document, and from all documents to the writer. What doesn't fit waits in the
/// connection (and thereby at the sender), not in memory.
pub(super) const QUEUE: usize = 64;

/// Bytes after which a writer is woken at the latest: a third of the 4 MiB that Linux keeps for a connection at most
/// (`tcp_wmem`).
const WOKEN_AFTER_BYTES: usize = 4 * 1024 * 1024 / 3;

/// Why no further message comes.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client closed, or the connection broke.
    Gone,
    /// The server has a reason to close.
    Close(Close),
}

/// The messages of a client.
pub(super) struct Messages {
    stream: SplitStream<WebSocket>,
    meter: Arc<Meter>,
}

impl Messages {
    /// The next binary message. It may be larger than what is taken: who knows whom it is about refuses it.
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
                Ok(Some(Err(_))) => return Err(Ended::Gone),
            }
        }
    }
}

/// Serves a socket to its end.
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
    // In the task that serves, not in one of its own: what a document shows is then written by whom it woke.
    let writer = write(sink, outgoing, framing);
    let serving = async move {
        let close = match framing {
            Framing::Plain => plain::serve(ports, target, first, messages, out.clone()).await,
            Framing::Hocuspocus => hocuspocus::serve(ports, target, first, messages, out.clone()).await,
        };
        // A full queue means a client that takes nothing.
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
        // Who serves a document hears of it by the queue, and leaves in good order.
        () = &mut writer => {
            serving.await;
        }
    }
}

async fn write(mut sink: Sink, mut outgoing: ToWrite, framing: Framing) {
    loop {
        let next = timeout(Duration::from_millis(LIVE_KEEP_ALIVE_MS), outgoing.next()).await;
        // Until the message has been written.
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
            // It took too little of it for so long that it most likely won't hear this either.
            Ok(Err(Unsent::Stalled)) | Err(_) => return finish(sink, close::SLOW).await,
        }
    }
}

/// How long a client may take for a message. A large one must not be cut off on a slow line: sent again from its beginning
/// with the next connection, it would never arrive.
fn write_timeout(bytes: usize) -> Duration {
    let allowed = bytes as u64 * 1_000 / MIN_LIVE_BYTES_PER_SECOND;
    Duration::from_millis(LIVE_IDLE_MS + allowed)
}

/// How long it may be until a client takes any more of a message. A writer that waits is woken when a good part of what the
/// system keeps for the connection was taken, which a slow line needs its time for.
fn stall_timeout() -> Duration {
    write_timeout(WOKEN_AFTER_BYTES)
}

async fn finish(mut sink: Sink, close: Close) {
    let frame = CloseFrame {
        code: close.code.into(),
        reason: close.reason.into(),
    };
    // The client may be gone already.
    let _ = timeout(Duration::from_secs(5), sink.send(Message::Close(Some(frame)))).await;
}

#[cfg(test)]
mod tests {
    use weft_wire::limits::MAX_DOCUMENT_BYTES;

    use super::*;

    #[test]
    fn a_large_message_is_given_the_time_that_a_slow_line_needs_for_it() {
        assert_eq!(write_timeout(0), Duration::from_secs(60));
        // A document of 5 MB on the line of a telephone at the edge of its net.
        assert!(write_timeout(5_000_000) > Duration::from_secs(5_000_000 / 20_000));
        assert!(write_timeout(MAX_DOCUMENT_BYTES) < Duration::from_secs(2 * 60 * 60));
        // However large the message: who takes nothing of it is given up within minutes.
        assert!(stall_timeout() < Duration::from_secs(150));
    }
}
