//! Where the WebSocket library meets HTTP and memory: the handshake, and how a message is written.
//!
//! axum's own wrapper writes a message as one frame, and the library keeps a buffer of the size of the largest frame that it
//! has written for as long as the socket lives: a document of 100 KB stayed in memory once for each of its readers. Here a
//! large message goes out in fragments (RFC 6455, section 5.4), which every client puts together again.

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
use weft_wire::limits::{MAX_LIVE_CONTROL_BYTES, MAX_LIVE_FRAME_BYTES};

use super::meter::{Meter, Metered};
use crate::errors::ApiError;

/// What is read from a socket at once. The library fills this with zeros before each read, and every socket keeps it:
/// with its default of 128 KB that was a seventh of what an edit costs, and most of what a socket takes in memory. An edit
/// has some dozen bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// What is written as one frame at most, and so what a socket keeps for writing.
const FRAGMENT_BYTES: usize = 16 * 1024;

/// The longest header of a frame that a server writes.
const FRAME_HEADER_BYTES: usize = 10;

/// A socket after the handshake.
pub(super) type WebSocket = WebSocketStream<Metered<TokioIo<Upgraded>>>;
/// Its end for writing.
pub(super) type Sink = SplitSink<WebSocket, Message>;

/// A request to open a socket that was well-formed.
pub(super) struct Handshake {
    response: Response,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// Reads the request (RFC 6455, section 4.2.1).
    ///
    /// # Errors
    /// When it asks for no WebSocket, or for another version of it.
    pub(super) fn read(mut request: Request<Body>) -> Result<Self, ApiError> {
        let response = create_response_with_body(&request, Body::empty)
            .map_err(|error| ApiError::invalid_param(format!("This is no request to open a WebSocket: {error}.")))?;
        let upgrade = hyper::upgrade::on(&mut request);
        Ok(Self { response, upgrade })
    }

    /// Answers with the chosen protocol, and serves the socket once the answer has gone out.
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
            // The client may be gone before it heard the answer.
            if let Ok(upgraded) = self.upgrade.await {
                let io = Metered::new(TokioIo::new(upgraded), meter);
                serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await).await;
            }
        });
        self.response
    }
}

pub(super) fn config() -> WebSocketConfig {
    // What is over the limit by less than twice can be read to its end, so that the client hears why it is refused;
    // anything larger is cut off by the library, and the connection with it.
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Frames are written at once, and what can't be is no more than one of them and a few answers to pings.
        .write_buffer_size(0)
        .max_write_buffer_size(FRAGMENT_BYTES + FRAME_HEADER_BYTES + MAX_LIVE_CONTROL_BYTES)
        .max_message_size(Some(2 * MAX_LIVE_FRAME_BYTES))
        .max_frame_size(Some(2 * MAX_LIVE_FRAME_BYTES))
}

/// Why a message was not written to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection has broken.
    Broken,
    /// The client has taken nothing for so long as it may.
    Stalled,
}

/// Writes a binary message to its end, as long as the client takes some of it every `stall_timeout`.
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
    fn a_message_is_one_frame_or_begins_goes_on_and_ends() {
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
