//! A live editor without a browser: a Yjs document behind a raw socket in Hocuspocus' framing, as quick as a test needs.
//! It connects again by itself, sends again what was not acknowledged, and keeps a log of what was.
//!
//! Knows the protocol of `spec/docs/live.md` alone. Stock editors are in [`crate::editors`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
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

/// How long a condition is waited for. A loaded machine is slow, not broken.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Between two signs of life of a cursor: a server forgets it after 30 seconds.
const RENEWAL: Duration = Duration::from_secs(10);
/// Between attempts to connect.
const AGAIN: Duration = Duration::from_millis(100);

/// Trusts a test's authority.
///
/// # Errors
/// When its certificate can't be read.
pub fn trust(authority: &Authority) -> Result<Arc<rustls::ClientConfig>> {
    // A second installation is an error that means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority.certificate())? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// What an editor knows, and what it was told.
struct State {
    doc: Doc,
    /// Words that were typed and not acknowledged, oldest first.
    unacknowledged: Vec<String>,
    acknowledged: Vec<String>,
    /// Why an edit was refused, or the socket closed for good.
    broken: Option<String>,
    /// The server has said all that it has.
    synced: bool,
}

/// A word, and the update that it was typed by.
struct Typed {
    word: String,
    update: Vec<u8>,
}

/// See the module.
pub struct LiveEditor {
    state: Arc<Mutex<State>>,
    typed: mpsc::UnboundedSender<Typed>,
    listening: watch::Sender<bool>,
    looking: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveEditor {
    /// Opens a document of kind `text`. `number` is its Yjs client id: no two editors may have the same.
    ///
    /// # Errors
    /// When the URL can't be one.
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
        let (listening, heeded) = watch::channel(true);
        let (looking, shown) = watch::channel(false);
        let connection = Connection {
            url: format!("{url}/_weft/client/v1/live/{}", segment(room)),
            room: room.to_owned(),
            token: client.token.clone(),
            trust: Arc::clone(trust),
            state: Arc::clone(&state),
            listening: heeded,
            looking: shown,
            number,
            clock: 0,
        };
        // An URL that can't be one fails now, not in the background.
        connection.url.as_str().into_client_request()?;
        let (typed, mailbox) = mpsc::unbounded_channel();
        let task = tokio::spawn(connection.run(mailbox));
        Ok(Self {
            state,
            typed,
            listening,
            looking,
            task,
        })
    }

    /// Types a word at so many thousandths of the text, never inside of another word (words end with `>`).
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
        // The task ends only with the editor.
        let _ = self.typed.send(Typed { word, update });
    }

    /// Sends an update that was made elsewhere, under a name by which its acknowledgement is known.
    ///
    /// # Errors
    /// When it is none.
    pub fn send(&self, name: &str, update: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        state.doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
        state.unacknowledged.push(name.to_owned());
        let (word, update) = (name.to_owned(), update.to_vec());
        // The task ends only with the editor.
        let _ = self.typed.send(Typed { word, update });
        Ok(())
    }

    /// Until it has heard all that is in a vector.
    ///
    /// # Errors
    /// When that takes too long, or the server refused something.
    pub async fn heard(&self, vector: &StateVector) -> Result<()> {
        self.until("heard", |state| {
            let known = state.doc.transact().state_vector();
            vector.iter().all(|(client, clock)| known.get(client) >= *clock)
        })
        .await
    }

    /// Until at most so many of its edits wait to be acknowledged.
    ///
    /// # Errors
    /// When that takes too long, or the server refused something.
    pub async fn waits_for_at_most(&self, edits: usize) -> Result<()> {
        self.until("so far", |state| state.unacknowledged.len() <= edits).await
    }

    /// Whether it reads what the server says. One that doesn't leaves its socket open: its kernel takes what it can hold.
    pub fn listen(&self, listening: bool) {
        self.listening.send_replace(listening);
    }

    /// Shows a cursor from now on: servers seal at once while somebody of another one looks on.
    pub fn show_cursor(&self) {
        self.looking.send_replace(true);
    }

    /// The text as this editor shows it.
    #[must_use]
    pub fn text(&self) -> String {
        let state = lock(&self.state);
        let body = state.doc.get_or_insert_text("body");
        let transaction = state.doc.transact();
        body.get_string(&transaction)
    }

    /// The words that the server has said to be on disk.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<String> {
        lock(&self.state).acknowledged.clone()
    }

    /// How many words wait for that.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.state).unacknowledged.len()
    }

    /// Until the server has told all it has.
    ///
    /// # Errors
    /// When that takes too long, or the server refused something.
    pub async fn synced(&self) -> Result<()> {
        self.until("synced", |state| state.synced).await
    }

    /// Until every word is acknowledged.
    ///
    /// # Errors
    /// When that takes too long, or the server refused something.
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
                    "not {what}; {} words wait",
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
    listening: watch::Receiver<bool>,
    looking: watch::Receiver<bool>,
    number: u64,
    /// Of the cursor; grows over all connections.
    clock: u64,
}

/// One connection's exchange.
#[derive(Default)]
struct Session {
    /// The words of each frame that was sent and not answered, in order.
    sent: VecDeque<Vec<String>>,
    /// The server's step 1 was answered: changes may follow.
    open: bool,
}

impl Connection {
    async fn run(mut self, mut typed: mpsc::UnboundedReceiver<Typed>) {
        loop {
            if let Ok(socket) = self.connect().await {
                // However it ends, the next connection begins afresh.
                let _ = self.talk(socket, &mut typed).await;
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

    /// A cursor that is nowhere in particular.
    fn cursor(&mut self) -> Message {
        self.clock += 1;
        let entry = awareness::Entry {
            client: self.number,
            clock: self.clock,
            state: "{}".to_owned(),
        };
        self.frame(Body::Awareness(&awareness::encode(&[entry])))
    }

    async fn talk(&mut self, mut socket: Socket, typed: &mut mpsc::UnboundedReceiver<Typed>) -> Result<()> {
        let mut session = Session::default();
        let token = Body::Token {
            token: &self.token,
            provider: None,
        };
        socket.send(self.frame(token)).await?;
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            let listening = *self.listening.borrow_and_update();
            let looking = *self.looking.borrow_and_update();
            tokio::select! {
                changed = self.listening.changed() => changed.context("the editor is gone")?,
                changed = self.looking.changed() => changed.context("the editor is gone")?,
                _ = renewal.tick(), if looking && session.open => socket.send(self.cursor()).await?,
                message = socket.next(), if listening => {
                    let message = message.context("closed")??;
                    if let Message::Close(Some(close)) = &message && (4400..4500).contains(&u16::from(close.code)) {
                        lock(&self.state).broken = Some(format!("closed for good: {close}"));
                    }
                    if let Message::Binary(bytes) = message {
                        for answer in self.hear(&bytes, &mut session)? {
                            socket.send(answer).await?;
                        }
                    }
                }
                typed = typed.recv() => {
                    let Typed { word, update } = typed.context("the editor is gone")?;
                    // Before that, the answer to the server's step 1 will have it.
                    if session.open {
                        session.sent.push_back(vec![word]);
                        socket.send(self.frame(Body::Sync(SyncMessage::Update(&update)))).await?;
                    }
                }
            }
        }
    }

    /// What is to be answered to a frame.
    fn hear(&self, bytes: &[u8], session: &mut Session) -> Result<Vec<Message>> {
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
                // All that was typed so far is in it; what is still queued will be known already.
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
                // What came twice, in an answer and as a change, counts once.
                state.acknowledged.extend::<Vec<String>>(saved);
            }
            Body::SyncStatus(false) => state.broken = Some("an edit was refused".to_owned()),
            Body::PermissionDenied(why) => state.broken = Some(format!("refused: {why}")),
            _ => {}
        }
        Ok(Vec::new())
    }
}
