//! The connection of the WebSocket library to HTTP: the handshake, and how a message is written.
//!
//! axum's own wrapper writes a message as one frame, and the library keeps a buffer of the size of the largest frame that it
//! has written until the socket is closed: a document of 100 KB stayed in memory once for each of its readers. Here a
//! large message is sent in fragments (RFC 6455, section 5.4), which every client reassembles.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{SinkExt, stream::SplitSink};
use http::Request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::create_response_with_body,
        protocol::{
            Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};
use weft_http::errors::ApiError;
use weft_wire::limits::{MAX_LIVE_CONTROL_BYTES, MAX_LIVE_FRAME_BYTES};

use super::meter::{Meter, Metered};

/// Size of the read buffer. The library zeroes it before each read and keeps it for every socket: its default of 128 KB took a
/// seventh of the cost of an edit and most of a socket's memory. An edit has some dozen bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Maximum size of a written frame, and therefore of a socket's write buffer.
const FRAGMENT_BYTES: usize = 16 * 1024;

/// The longest frame header that a server writes.
const FRAME_HEADER_BYTES: usize = 10;

/// A socket after the handshake.
pub(super) type WebSocket = WebSocketStream<Metered<TokioIo<Upgraded>>>;
/// Its writing half.
pub(super) type Sink = SplitSink<WebSocket, Message>;

/// A well-formed upgrade request.
pub(super) struct Handshake {
    response: Response,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Reads the request (RFC 6455, section 4.2.1).
    ///
    /// # Errors
    /// If it doesn't request a WebSocket, or requests another version.
    pub(super) fn read(mut request: Request<Body>) -> Result<Self, ApiError> {
        let response = create_response_with_body(&request, Body::empty)
            .map_err(|error| ApiError::invalid_param(format!("The request is not a WebSocket handshake: {error}.")))?;
        let upgrade = hyper::upgrade::on(&mut request);
        Ok(Self { response, upgrade })
    }

    /// Answers with the chosen protocol, and serves the socket after the answer is sent.
    pub(super) fn accept<Serving>(
        mut self,
        protocol: Option<HeaderValue>,
        meter: Arc<Meter>,
        serve: impl FnOnce(WebSocket) -> Serving + Send + 'static,
    ) -> Response
    where
        Serving: Future<Output = ()> + Send,
    {
        if let Some(protocol) = protocol {
            self.response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        tokio::spawn(async move {
            // The client may have disconnected before it received the answer.
            if let Ok(upgraded) = self.upgrade.await {
                let io = Metered::new(TokioIo::new(upgraded), meter);
                serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await).await;
            }
        });
        self.response
    }
}

pub(super) fn config() -> WebSocketConfig {
    // A message above the limit and below twice the limit can be read completely, so that the client receives the reason;
    // the library aborts anything larger together with the connection.
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Frames are written immediately; the buffer holds at most one of them and a few answers to pings.
        .write_buffer_size(0)
        .max_write_buffer_size(FRAGMENT_BYTES + FRAME_HEADER_BYTES + MAX_LIVE_CONTROL_BYTES)
        .max_message_size(Some(2 * MAX_LIVE_FRAME_BYTES))
        .max_frame_size(Some(2 * MAX_LIVE_FRAME_BYTES))
}

/// Why a message was not written completely.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection has broken.
    Broken,
    /// The client has read nothing for longer than the allowed time.
    Stalled,
}

/// Writes a complete binary message, as long as the client reads some of it every `stall_timeout`.
///
/// # Errors
/// See [`Unsent`].
pub(super) async fn send(sink: &mut Sink, message: Bytes, stall_timeout: Duration) -> Result<(), Unsent> {
    for fragment in fragments(message) {
        match timeout(stall_timeout, sink.send(Message::Frame(fragment))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Unsent::Broken),
            Err(_) => return Err(Unsent::Stalled),
        }
    }
    Ok(())
}

/// The frames of a binary message.
fn fragments(mut message: Bytes) -> impl Iterator<Item = Frame> {
    let mut kind = Some(Data::Binary);
    std::iter::from_fn(move || {
        let opcode = OpCode::Data(kind?);
        let part = message.split_to(message.len().min(FRAGMENT_BYTES));
        kind = (!message.is_empty()).then_some(Data::Continue);
        Some(Frame::message(part, opcode, kind.is_none()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(length: usize) -> Vec<(OpCode, bool, usize)> {
        fragments(vec![7; length].into())
            .map(|frame| {
                let header = frame.header();
                (header.opcode, header.is_final, frame.payload().len())
            })
            .collect()
    }

    #[test]
    fn a_message_is_one_frame_or_a_sequence_of_fragments() {
        let (begin, more) = (OpCode::Data(Data::Binary), OpCode::Data(Data::Continue));
        assert_eq!(shape(0), [(begin, true, 0)]);
        assert_eq!(shape(FRAGMENT_BYTES), [(begin, true, FRAGMENT_BYTES)]);
        assert_eq!(
            shape(2 * FRAGMENT_BYTES + 1),
            [
                (begin, false, FRAGMENT_BYTES),
                (more, false, FRAGMENT_BYTES),
                (more, true, 1)
            ]
        );
    }
}
