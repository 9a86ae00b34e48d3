//! A raw live socket in either framing: opens a document, sends updates, and reports the received clocks of each client
//! id.
//!
//! Without a CRDT: it reads which clocks an update covers and discards the rest, so that hundreds of sockets fit beside
//! the server on one machine. The same code is used for every measured server. Must not keep document content.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};
use weft_crdt::{ClientId, Update};
use weft_wire::limits::MAX_DOCUMENT_BYTES;
use weft_wire::live::{
    awareness,
    hocuspocus::{Body, Frame as Named},
    plain::Frame as Plain,
    sync::SyncMessage,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Deadline for an expected message.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The empty state vector and the empty update.
const EMPTY_STATE_VECTOR: &[u8] = &[0];
const EMPTY_UPDATE: &[u8] = &[0, 0];

/// The framing of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// y-websocket's: the URL contains the document and the token.
    Plain,
    /// Hocuspocus': each frame names the document; every update is answered by a sync status.
    Named {
        /// The name of the document.
        name: Arc<str>,
        /// The access token.
        token: Arc<str>,
    },
}

/// The address of a document.
#[derive(Clone)]
pub struct Endpoint {
    /// URL, `ws://` or `wss://`.
    pub url: String,
    /// See [`Framing`].
    pub framing: Framing,
    /// TLS configuration, for `wss://`.
    pub trust: Option<Arc<rustls::ClientConfig>>,
}

/// The sending half.
pub struct Sender {
    sink: SplitSink<Socket, Message>,
    framing: Framing,
}

/// The receiving half.
pub struct Receiver {
    stream: SplitStream<Socket>,
    named: bool,
}

/// A received message.
#[derive(Debug)]
pub enum Received {
    /// An update: per client id, the range of clocks (start, end).
    Change(BTreeMap<ClientId, (u32, u32)>),
    /// Sync step 2: its size in bytes.
    Answer(usize),
    /// Sync status: an update is durable (true) or rejected (false).
    Status(bool),
    /// Authenticated.
    In,
    /// Anything else.
    Other,
}

impl Framing {
    fn sync(&self, message: SyncMessage<'_>) -> Message {
        let frame = match self {
            Self::Plain => Plain::Sync(message).encode(),
            Self::Named { name, .. } => Named::Document {
                name,
                body: Body::Sync(message),
            }
            .encode(),
        };
        Message::Binary(frame.into())
    }
}

/// Opens a document and waits for sync step 2; returns its size in bytes as well.
///
/// # Errors
/// When the server returns an error or does not respond.
pub async fn open(endpoint: &Endpoint) -> Result<(Sender, Receiver, usize)> {
    let connector = endpoint
        .trust
        .as_ref()
        .map(|trust| Connector::Rustls(Arc::clone(trust)));
    let request = endpoint.url.as_str().into_client_request()?;
    // Small buffers: there may be thousands of sockets. The library's limit of a message is 64 MiB.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_message_size(Some(2 * MAX_DOCUMENT_BYTES));
    let connecting = tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, connector);
    let (socket, _) = tokio::time::timeout(TIMEOUT, connecting)
        .await
        .context("no connection")??;
    let (sink, stream) = socket.split();
    let named = matches!(endpoint.framing, Framing::Named { .. });
    let (mut sender, mut receiver) = (
        Sender {
            sink,
            framing: endpoint.framing.clone(),
        },
        Receiver { stream, named },
    );
    if let Framing::Named { name, token } = &endpoint.framing {
        let body = Body::Token { token, provider: None };
        let frame = Named::Document { name, body }.encode();
        sender.sink.send(Message::Binary(frame.into())).await?;
        while !matches!(receiver.next_message().await?, Received::In) {}
    }
    let bytes = sender.ask(&mut receiver).await?;
    Ok((sender, receiver, bytes))
}

impl Sender {
    /// Sends an update. The socket is flushed.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn send_update(&mut self, update: &[u8]) -> Result<()> {
        Ok(self.sink.send(self.framing.sync(SyncMessage::Update(update))).await?)
    }

    /// Sends an empty sync step 1 and waits for sync step 2; returns its size in bytes.
    ///
    /// # Errors
    /// When the server does not respond.
    pub async fn ask(&mut self, receiver: &mut Receiver) -> Result<usize> {
        self.sink
            .send(self.framing.sync(SyncMessage::Step1(EMPTY_STATE_VECTOR)))
            .await?;
        loop {
            if let Received::Answer(bytes) = receiver.next_message().await? {
                return Ok(bytes);
            }
        }
    }

    /// Sends an update and repeats sync step 1 until the response is not empty: then the server has the update.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub async fn upload(&mut self, receiver: &mut Receiver, update: &[u8]) -> Result<()> {
        self.send_update(update).await?;
        let wait = async {
            while self.ask(receiver).await? <= EMPTY_UPDATE.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, wait)
            .await
            .context("the update was not accepted")?
    }

    /// Shows a cursor, as every stock editor does: servers seal sooner while a document has cursors of other servers.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn show(&mut self, client: u64) -> Result<()> {
        let entry = awareness::Entry {
            client,
            clock: 1,
            state: r#"{"user":{"name":"somebody"}}"#.to_owned(),
        };
        let body = awareness::encode(&[entry]);
        let frame = match &self.framing {
            Framing::Plain => Plain::Awareness(&body).encode(),
            Framing::Named { name, .. } => {
                let body = Body::Awareness(&body);
                Named::Document { name, body }.encode()
            }
        };
        Ok(self.sink.send(Message::Binary(frame.into())).await?)
    }

    /// Sends a keep-alive.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn ping(&mut self) -> Result<()> {
        Ok(self.sink.send(Message::Ping(Bytes::new())).await?)
    }

    /// Closes the connection gracefully.
    pub async fn close(mut self) {
        // The server may have closed it already.
        let _ = self.sink.close().await;
    }
}

impl Receiver {
    /// Waits for the next message.
    ///
    /// # Errors
    /// When the socket is closed, or the deadline passes.
    pub async fn next_message(&mut self) -> Result<Received> {
        loop {
            let message = tokio::time::timeout(TIMEOUT, self.stream.next())
                .await
                .context("silence")?;
            match message.context("the socket was closed")?? {
                Message::Binary(bytes) => return self.read(&bytes),
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    fn read(&self, message: &Bytes) -> Result<Received> {
        if !self.named {
            return Ok(match Plain::parse(message)? {
                Plain::Sync(sync) => received(message, sync)?,
                Plain::PermissionDenied(why) => bail!("refused: {why}"),
                _ => Received::Other,
            });
        }
        let Named::Document { body, .. } = Named::parse(message)? else {
            return Ok(Received::Other);
        };
        Ok(match body {
            Body::Sync(sync) => received(message, sync)?,
            Body::SyncStatus(taken) => {
                ensure!(taken, "an update was rejected");
                Received::Status(taken)
            }
            Body::Authenticated { .. } => Received::In,
            Body::PermissionDenied(why) => bail!("refused: {why}"),
            Body::Close(why) => bail!("detached: {why:?}"),
            _ => Received::Other,
        })
    }
}

fn received(message: &Bytes, sync: SyncMessage<'_>) -> Result<Received> {
    Ok(match sync {
        SyncMessage::Update(update) => Received::Change(Update::parse(message.slice_ref(update))?.ranges()),
        SyncMessage::Step2(update) => Received::Answer(update.len()),
        SyncMessage::Step1(_) => Received::Other,
    })
}
