//! A raw live socket in either framing: opens a document, says updates, and tells which clocks of whom it heard.
//!
//! No engine behind it: it reads what an update covers and forgets it, so that hundreds of them fit beside the server on
//! one machine. The same code speaks to every server that is measured.

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
use weft_wire::live::{
    awareness,
    hocuspocus::{Body, Frame as Named},
    plain::Frame as Plain,
    sync::SyncMessage,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a server may say nothing that it should have said.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The empty vector, and the empty update.
const KNOWS_NOTHING: &[u8] = &[0];
const SAYS_NOTHING: &[u8] = &[0, 0];

/// How a server is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// y-websocket's: the URL names the document and carries the token.
    Plain,
    /// Hocuspocus': each frame names the document; every update is answered by a status.
    Named {
        /// The document.
        name: Arc<str>,
        /// What signs in.
        token: Arc<str>,
    },
}

/// Where a document is opened.
#[derive(Clone)]
pub struct Endpoint {
    /// `ws://` or `wss://`.
    pub url: String,
    /// See [`Speech`].
    pub speech: Speech,
    /// Which certificates are trusted.
    pub trust: Option<Arc<rustls::ClientConfig>>,
}

/// The half that speaks.
pub struct Sender {
    sink: SplitSink<Socket, Message>,
    speech: Speech,
}

/// The half that hears.
pub struct Receiver {
    stream: SplitStream<Socket>,
    named: bool,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// Clocks of clients, each from and before; of a change.
    Change(BTreeMap<ClientId, (u32, u32)>),
    /// The answer to what was asked for: so many bytes.
    Answer(usize),
    /// An update is on disk, or was refused.
    Status(bool),
    /// Signed in.
    In,
    /// Anything else.
    Other,
}

impl Speech {
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

/// Opens a document and waits until the server has told all that it has; gives its bytes as well.
///
/// # Errors
/// When the server refuses or says nothing.
pub async fn open(endpoint: &Endpoint) -> Result<(Sender, Receiver, usize)> {
    let connector = endpoint
        .trust
        .as_ref()
        .map(|trust| Connector::Rustls(Arc::clone(trust)));
    let request = endpoint.url.as_str().into_client_request()?;
    // Small buffers: there may be thousands of these.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let connecting = tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, connector);
    let (socket, _) = tokio::time::timeout(TIMEOUT, connecting)
        .await
        .context("no connection")??;
    let (sink, stream) = socket.split();
    let named = matches!(endpoint.speech, Speech::Named { .. });
    let (mut mouth, mut ears) = (
        Sender {
            sink,
            speech: endpoint.speech.clone(),
        },
        Receiver { stream, named },
    );
    if let Speech::Named { name, token } = &endpoint.speech {
        let body = Body::Token { token, provider: None };
        let frame = Named::Document { name, body }.encode();
        mouth.sink.send(Message::Binary(frame.into())).await?;
        while !matches!(ears.hear().await?, Heard::In) {}
    }
    let bytes = mouth.ask(&mut ears).await?;
    Ok((mouth, ears, bytes))
}

impl Sender {
    /// Says an update. Where nothing more is to be said at once, it leaves this machine.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn say(&mut self, update: &[u8]) -> Result<()> {
        Ok(self.sink.send(self.speech.sync(SyncMessage::Update(update))).await?)
    }

    /// Asks for all that the server has and waits for it; gives its bytes.
    ///
    /// # Errors
    /// When the server says nothing.
    pub async fn ask(&mut self, ears: &mut Receiver) -> Result<usize> {
        self.sink
            .send(self.speech.sync(SyncMessage::Step1(KNOWS_NOTHING)))
            .await?;
        loop {
            if let Heard::Answer(bytes) = ears.hear().await? {
                return Ok(bytes);
            }
        }
    }

    /// Says an update and waits until a question after it is answered with something: the server has it.
    ///
    /// # Errors
    /// When the server does not take it.
    pub async fn bring(&mut self, ears: &mut Receiver, update: &[u8]) -> Result<()> {
        self.say(update).await?;
        let wait = async {
            while self.ask(ears).await? <= SAYS_NOTHING.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, wait)
            .await
            .context("the update is not taken")?
    }

    /// Shows a cursor, as every stock editor does: a server that sees others' cursors in a document hurries.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn show(&mut self, client: u64) -> Result<()> {
        let entry = awareness::Entry {
            client,
            clock: 1,
            state: r#"{"user":{"name":"somebody"}}"#.to_owned(),
        };
        let body = awareness::encode(&[entry]);
        let frame = match &self.speech {
            Speech::Plain => Plain::Awareness(&body).encode(),
            Speech::Named { name, .. } => {
                let body = Body::Awareness(&body);
                Named::Document { name, body }.encode()
            }
        };
        Ok(self.sink.send(Message::Binary(frame.into())).await?)
    }

    /// A sign of life without a meaning.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn ping(&mut self) -> Result<()> {
        Ok(self.sink.send(Message::Ping(Bytes::new())).await?)
    }

    /// Ends the connection in good order.
    pub async fn close(mut self) {
        // The server may have ended it.
        let _ = self.sink.close().await;
    }
}

impl Receiver {
    /// What comes next.
    ///
    /// # Errors
    /// When the socket ends, or nothing comes.
    pub async fn hear(&mut self) -> Result<Heard> {
        loop {
            let message = tokio::time::timeout(TIMEOUT, self.stream.next())
                .await
                .context("silence")?;
            match message.context("the socket ended")?? {
                Message::Binary(bytes) => return self.read(&bytes),
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    fn read(&self, message: &Bytes) -> Result<Heard> {
        if !self.named {
            return Ok(match Plain::parse(message)? {
                Plain::Sync(sync) => heard(message, sync)?,
                Plain::PermissionDenied(why) => bail!("refused: {why}"),
                _ => Heard::Other,
            });
        }
        let Named::Document { body, .. } = Named::parse(message)? else {
            return Ok(Heard::Other);
        };
        Ok(match body {
            Body::Sync(sync) => heard(message, sync)?,
            Body::SyncStatus(taken) => {
                ensure!(taken, "an update was refused");
                Heard::Status(taken)
            }
            Body::Authenticated { .. } => Heard::In,
            Body::PermissionDenied(why) => bail!("refused: {why}"),
            Body::Close(why) => bail!("detached: {why:?}"),
            _ => Heard::Other,
        })
    }
}

fn heard(message: &Bytes, sync: SyncMessage<'_>) -> Result<Heard> {
    Ok(match sync {
        SyncMessage::Update(update) => Heard::Change(Update::parse(message.slice_ref(update))?.ranges()),
        SyncMessage::Step2(update) => Heard::Answer(update.len()),
        SyncMessage::Step1(_) => Heard::Other,
    })
}
