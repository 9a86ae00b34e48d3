//! A live editor without a browser: a Yjs document behind a raw socket in Hocuspocus' framing. It reconnects by itself,
//! sends unacknowledged edits again, and logs acknowledged ones.
//!
//! Must not use more than the protocol of `spec/docs/live.md`. Stock editors are in [`crate::editors`].

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::{Mutex, MutexGuard};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use weft_wire::live::{
    awareness,
    hocuspocus::{Body, Frame},
    sync::SyncMessage,
};
use yrs::{
    Doc, GetString as _, OffsetKind, Options, ReadTxn as _, StateVector, Text as _, Transact as _, Update,
    updates::{decoder::Decode as _, encoder::Encode as _},
};

use crate::{authority::Authority, client::Client, client::segment};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Deadline of a condition. A loaded machine is slow, not broken.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Interval between two renewals of a cursor: servers remove a cursor after 30 seconds.
const RENEWAL: Duration = Duration::from_secs(10);
/// Pause between attempts to connect.
const AGAIN: Duration = Duration::from_millis(100);

/// A TLS configuration that trusts a test's authority.
///
/// # Errors
/// When its certificate can't be read.
pub fn trust(authority: &Authority) -> Result<Arc<rustls::ClientConfig>> {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority.certificate())? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// State shared by the editor and its connection.
struct State {
    doc: Doc,
    /// Typed words that are not acknowledged, oldest first.
    unacknowledged: Vec<String>,
    acknowledged: Vec<String>,
    /// The reason why an edit was rejected or the socket was closed permanently.
    broken: Option<String>,
    /// The server's sync step 2 was received on this connection.
    synced: bool,
}

/// A word and the update that inserts it.
struct Typed {
    word: String,
    update: Vec<u8>,
}

/// See the module.
pub struct LiveEditor {
    state: Arc<Mutex<State>>,
    typed: mpsc::UnboundedSender<Typed>,
    reading: watch::Sender<bool>,
    cursor: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock()
}

impl LiveEditor {
    /// Opens a document of kind `text`. `number` is the Yjs client id: it must be unique among all editors of the
    /// document.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub fn open(trust: &Arc<rustls::ClientConfig>, client: &Client, room: &str, number: u64) -> Result<Self> {
        let doc = Doc::with_options(Options {
            client_id: yrs::block::ClientID::new(number),
            offset_kind: OffsetKind::Utf16,
            ..Options::default()
        });
        doc.get_or_insert_text("body");
        let state = Arc::new(Mutex::new(State {
            doc,
            unacknowledged: Vec::new(),
            acknowledged: Vec::new(),
            broken: None,
            synced: false,
        }));
        let url = client.url.replacen("http", "ws", 1);
        let (reading, reading_now) = watch::channel(true);
        let (cursor, cursor_now) = watch::channel(false);
        let connection = Connection {
            url: format!("{url}/_weft/client/v1/live/{}", segment(room)),
            room: room.to_owned(),
            token: client.token.clone(),
            trust: Arc::clone(trust),
            state: Arc::clone(&state),
            reading: reading_now,
            cursor: cursor_now,
            number,
            clock: 0,
        };
        // An invalid URL fails here, not in the background.
        connection.url.as_str().into_client_request()?;
        let (typed, mailbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(connection.run(mailbox));
        Ok(Self {
            state,
            typed,
            reading,
            cursor,
            task,
        })
    }

    /// Types a word at a position in thousandths of the text, never inside another word (words end with `>`).
    pub fn type_word(&self, thousandths: u32, word: &str) {
        let update = {
            let mut state = lock(&self.state);
            let body = state.doc.get_or_insert_text("body");
            let before = state.doc.transact().state_vector();
            let text = body.get_string(&state.doc.transact());
            let at = text.len() * usize::try_from(thousandths).unwrap_or(0) / 1_000;
            let behind = text.get(at..).and_then(|rest| rest.find('>')).filter(|_| at > 0);
            let at = behind.map_or(if at == 0 { 0 } else { text.len() }, |more| at + more + 1);
            body.insert(&mut state.doc.transact_mut(), u32::try_from(at).unwrap_or(0), word);
            let update = state.doc.transact().encode_diff_v1(&before);
            state.unacknowledged.push(word.to_owned());
            update
        };
        let word = word.to_owned();
        // The task runs as long as the editor exists.
        let _ = self.typed.send(Typed { word, update });
    }

    /// Sends an update that was made elsewhere; `name` identifies its acknowledgement.
    ///
    /// # Errors
    /// When the update can't be decoded.
    pub fn send(&self, name: &str, update: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        state.doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
        state.unacknowledged.push(name.to_owned());
        let (word, update) = (name.to_owned(), update.to_vec());
        // The task runs as long as the editor exists.
        let _ = self.typed.send(Typed { word, update });
        Ok(())
    }

    /// Waits until the document contains everything in the state vector.
    ///
    /// # Errors
    /// When the deadline passes, or the server rejected something.
    pub async fn received(&self, vector: &StateVector) -> Result<()> {
        self.until("up to date", |state| {
            let known = state.doc.transact().state_vector();
            vector.iter().all(|(client, clock)| known.get(client) >= *clock)
        })
        .await
    }

    /// Waits until at most this many edits are unacknowledged.
    ///
    /// # Errors
    /// When the deadline passes, or the server rejected something.
    pub async fn waits_for_at_most(&self, edits: usize) -> Result<()> {
        self.until("acknowledged", |state| state.unacknowledged.len() <= edits)
            .await
    }

    /// Sets whether the editor reads from its socket. If not, the socket stays open and the kernel's buffer fills up.
    pub fn set_reading(&self, reading: bool) {
        self.reading.send_replace(reading);
    }

    /// Shows a cursor from now on: servers seal immediately while a user of another server shows one.
    pub fn show_cursor(&self) {
        self.cursor.send_replace(true);
    }

    /// The editor's current text.
    #[must_use]
    pub fn text(&self) -> String {
        let state = lock(&self.state);
        let body = state.doc.get_or_insert_text("body");
        let transaction = state.doc.transact();
        body.get_string(&transaction)
    }

    /// The words that the server acknowledged as durable.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<String> {
        lock(&self.state).acknowledged.clone()
    }

    /// The number of unacknowledged words.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.state).unacknowledged.len()
    }

    /// Waits until the editor is synced.
    ///
    /// # Errors
    /// When the deadline passes, or the server rejected something.
    pub async fn synced(&self) -> Result<()> {
        self.until("synced", |state| state.synced).await
    }

    /// Waits until every word is acknowledged.
    ///
    /// # Errors
    /// When the deadline passes, or the server rejected something.
    pub async fn saved(&self) -> Result<()> {
        self.until("saved", |state| state.unacknowledged.is_empty()).await
    }

    async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            {
                let state = lock(&self.state);
                if let Some(why) = &state.broken {
                    bail!("{why}");
                }
                if condition(&state) {
                    return Ok(());
                }
                ensure!(
                    Instant::now() < deadline,
                    "not {what}; {} unacknowledged words",
                    state.unacknowledged.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for LiveEditor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The socket side of an editor.
struct Connection {
    url: String,
    room: String,
    token: String,
    trust: Arc<rustls::ClientConfig>,
    state: Arc<Mutex<State>>,
    reading: watch::Receiver<bool>,
    cursor: watch::Receiver<bool>,
    number: u64,
    /// Clock of the awareness entry; increases across connections.
    clock: u64,
}

/// One connection's exchange.
#[derive(Default)]
struct Session {
    /// For each unacknowledged frame, in order, its words.
    sent: VecDeque<Vec<String>>,
    /// The server's sync step 1 was answered: updates may follow.
    open: bool,
}

impl Connection {
    async fn run(mut self, mut typed: mpsc::UnboundedReceiver<Typed>) {
        loop {
            if let Ok(socket) = self.connect().await {
                // An error ends only this connection; the next one starts from scratch.
                let _ = self.exchange(socket, &mut typed).await;
            }
            lock(&self.state).synced = false;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn connect(&self) -> Result<Socket> {
        let connector = Connector::Rustls(Arc::clone(&self.trust));
        let request = self.url.as_str().into_client_request()?;
        let connect = tokio_tungstenite::connect_async_tls_with_config(request, None, true, Some(connector));
        let (socket, _) = tokio::time::timeout(Duration::from_secs(10), connect).await??;
        Ok(socket)
    }

    fn frame(&self, body: Body<'_>) -> Message {
        let frame = Frame::Document { name: &self.room, body };
        Message::Binary(frame.encode().into())
    }

    /// An awareness entry without a position.
    fn cursor_frame(&mut self) -> Message {
        self.clock += 1;
        let entry = awareness::Entry {
            client: self.number,
            clock: self.clock,
            state: "{}".to_owned(),
        };
        self.frame(Body::Awareness(&awareness::encode(&[entry])))
    }

    async fn exchange(&mut self, mut socket: Socket, typed: &mut mpsc::UnboundedReceiver<Typed>) -> Result<()> {
        let mut session = Session::default();
        let token = Body::Token {
            token: &self.token,
            provider: None,
        };
        socket.send(self.frame(token)).await?;
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            let reading = *self.reading.borrow_and_update();
            let cursor = *self.cursor.borrow_and_update();
            tokio::select! {
                changed = self.reading.changed() => changed.context("the editor is gone")?,
                changed = self.cursor.changed() => changed.context("the editor is gone")?,
                _ = renewal.tick(), if cursor && session.open => socket.send(self.cursor_frame()).await?,
                message = socket.next(), if reading => {
                    let message = message.context("closed")??;
                    if let Message::Close(Some(close)) = &message && (4400..4500).contains(&u16::from(close.code)) {
                        lock(&self.state).broken = Some(format!("closed permanently: {close}"));
                    }
                    if let Message::Binary(bytes) = message {
                        for answer in self.handle_frame(&bytes, &mut session)? {
                            socket.send(answer).await?;
                        }
                    }
                }
                typed = typed.recv() => {
                    let Typed { word, update } = typed.context("the editor is gone")?;
                    // Until then, the response to the server's sync step 1 will contain it.
                    if session.open {
                        session.sent.push_back(vec![word]);
                        socket.send(self.frame(Body::Sync(SyncMessage::Update(&update)))).await?;
                    }
                }
            }
        }
    }

    /// The responses to a frame.
    fn handle_frame(&self, bytes: &[u8], session: &mut Session) -> Result<Vec<Message>> {
        let body = match Frame::parse(bytes)? {
            Frame::Ping => return Ok(vec![Message::Binary(Frame::Pong.encode().into())]),
            Frame::Pong => return Ok(Vec::new()),
            Frame::Document { body, .. } => body,
        };
        let mut state = lock(&self.state);
        match body {
            Body::Authenticated { .. } => {
                let vector = state.doc.transact().state_vector().encode_v1();
                return Ok(vec![self.frame(Body::Sync(SyncMessage::Step1(&vector)))]);
            }
            Body::Sync(SyncMessage::Step1(vector)) => {
                let vector = StateVector::decode_v1(vector)?;
                let update = state.doc.transact().encode_diff_v1(&vector);
                // It contains everything typed so far; updates that are still queued will be duplicates.
                session.sent.push_back(state.unacknowledged.clone());
                session.open = true;
                return Ok(vec![self.frame(Body::Sync(SyncMessage::Step2(&update)))]);
            }
            Body::Sync(SyncMessage::Step2(update)) => {
                state.doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
                state.synced = true;
            }
            Body::Sync(SyncMessage::Update(update)) => {
                state.doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
            }
            Body::SyncStatus(true) => {
                let words = session.sent.pop_front().context("a status without a change")?;
                let (saved, waiting) = std::mem::take(&mut state.unacknowledged)
                    .into_iter()
                    .partition(|word| words.contains(word));
                state.unacknowledged = waiting;
                // A word that was sent twice, in sync step 2 and as an update, counts once.
                state.acknowledged.extend::<Vec<String>>(saved);
            }
            Body::SyncStatus(false) => state.broken = Some("an edit was rejected".to_owned()),
            Body::PermissionDenied(why) => state.broken = Some(format!("refused: {why}")),
            _ => {}
        }
        Ok(Vec::new())
    }
}
