//! A socket in Hocuspocus framing: many documents, each authenticated by its own frame.
//!
//! Frames for a document that arrive before its token was checked are kept, within limits. A document that the server closed
//! doesn't affect the others: a stock provider continues to send for it, and those frames are dropped until it authenticates
//! again. When all documents are closed, the socket is closed with the code of the last one.

use std::collections::HashMap;

use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use weft_accounts::Session;
use weft_wire::{
    limits::{MAX_BYTES_BEFORE_AUTH, MAX_DOCUMENTS_PER_SOCKET, MAX_FRAMES_BEFORE_AUTH, MAX_LIVE_FRAME_BYTES},
    live::{
        close::{self, Close},
        hocuspocus::{Body, Frame, split_name},
    },
};

use super::{
    LivePorts,
    document_connection::{DocumentConnection, Incoming},
    encoder::{Encoder, denied},
    inbox::{InboxBytes, ToDocument, inbox},
    outgoing::Out,
    refusals,
    socket::{Ended, Messages},
    target::{self, Target},
};

/// A document, by the name that the client uses. A document without an entry has not been requested.
enum Document {
    /// Its token was not received yet; these frames were.
    Waiting(Vec<Incoming>),
    /// Being served.
    Attached(Attached),
    /// The server refused or closed it.
    Ended,
}

struct Attached {
    to_document: ToDocument,
    /// The session whose token opened it.
    session: Session,
    /// Distinguishes it from an earlier one of the same name.
    number: u64,
}

/// A document connection has ended: its name and number, and the close code if the server closed it.
type Finished = (String, u64, Option<Close>);

struct Connection {
    ports: LivePorts,
    /// Authenticated by the URL or a header; an empty token in a frame then stands for this one.
    upgrade: Option<Target>,
    out: Out,
    documents: HashMap<String, Document>,
    serving: JoinSet<Finished>,
    frames_waiting: usize,
    bytes_waiting: usize,
    inbox_bytes: InboxBytes,
    /// Number of documents attached so far.
    attached: u64,
}

/// Serves the socket; `first` is the message from which the framing was detected.
pub(super) async fn serve(
    ports: LivePorts,
    upgrade: Option<Target>,
    first: Message,
    mut messages: Messages,
    out: Out,
) -> Option<Close> {
    let mut connection = Connection {
        ports,
        upgrade,
        out: out.clone(),
        documents: HashMap::new(),
        serving: JoinSet::new(),
        frames_waiting: 0,
        bytes_waiting: 0,
        inbox_bytes: InboxBytes::default(),
        attached: 0,
    };
    let mut read = Ok(first);
    let end = loop {
        let done = match read {
            Ok(message) => connection.message(&message).await,
            Err(ended) => break ended,
        };
        if let Err(ended) = done {
            break ended;
        }
        read = loop {
            tokio::select! {
                message = messages.next() => break message,
                // Further frames would go to documents that are closed; the client should reconnect.
                () = out.closed() => break Err(Ended::Gone),
                Some(finished) = connection.serving.join_next() => {
                    // A task that panicked returns no name; the client must reconnect.
                    let Ok(finished) = finished else { break Err(Ended::Close(close::UNAVAILABLE)) };
                    if let Some(close) = connection.ended(finished) {
                        break Err(Ended::Close(close));
                    }
                }
            }
        };
    };
    connection.finish().await;
    match end {
        Ended::Gone => None,
        Ended::Close(close) => Some(close),
    }
}

impl Connection {
    async fn message(&mut self, message: &Message) -> Result<(), Ended> {
        let Message::Binary(bytes) = message else { return Ok(()) };
        if bytes.len() > MAX_LIVE_FRAME_BYTES {
            return self.refuse_large(bytes).await;
        }
        match Frame::parse(bytes).map_err(|_| Ended::Close(close::BAD_FRAME))? {
            Frame::Ping => self.send(Frame::Pong.encode().into()).await,
            Frame::Pong => Ok(()),
            Frame::Document { name, body } => self.document(name, body, bytes).await,
        }
    }

    async fn document(&mut self, name: &str, body: Body<'_>, message: &bytes::Bytes) -> Result<(), Ended> {
        let incoming = match body {
            Body::Token { token, .. } => return self.sign_in(name, token).await,
            Body::Close(_) => {
                self.detach(name);
                return Ok(());
            }
            Body::Sync(sync) => Incoming::from_sync(sync, message),
            Body::Awareness(body) => Incoming::Awareness(bytes::Bytes::copy_from_slice(body)),
            Body::QueryAwareness => Incoming::QueryAwareness,
            // Stateless messages belong to applications and are ignored; only servers send the others.
            Body::Stateless(_) | Body::PermissionDenied(_) | Body::Authenticated { .. } | Body::SyncStatus(_) => {
                return Ok(());
            }
        };
        self.deliver(name, incoming).await
    }

    async fn deliver(&mut self, name: &str, incoming: Incoming) -> Result<(), Ended> {
        match self.documents.get_mut(name) {
            Some(Document::Attached(document)) => {
                // Fails if the document connection has ended, which is handled where its task is joined.
                let _ = document.to_document.send(incoming).await;
                Ok(())
            }
            Some(Document::Ended) => Ok(()),
            Some(Document::Waiting(frames)) => {
                self.frames_waiting += 1;
                self.bytes_waiting += incoming.size();
                frames.push(incoming);
                self.within_limits()
            }
            None => {
                self.frames_waiting += 1;
                self.bytes_waiting += incoming.size();
                self.insert(name, Document::Waiting(vec![incoming]));
                self.within_limits()
            }
        }
    }

    /// Sets the state of a document. Entries of closed documents are limited to the number of documents that may be served.
    fn insert(&mut self, name: &str, document: Document) {
        if self.documents.len() >= 2 * MAX_DOCUMENTS_PER_SOCKET && !self.documents.contains_key(name) {
            let ended = self
                .documents
                .iter()
                .find(|(_, document)| matches!(document, Document::Ended));
            if let Some(ended) = ended.map(|(name, _)| name.clone()) {
                self.documents.remove(&ended);
            }
        }
        self.documents.insert(name.to_owned(), document);
    }

    fn open_documents(&self) -> usize {
        let is_open = |document: &&Document| !matches!(document, Document::Ended);
        self.documents.values().filter(is_open).count()
    }

    fn within_limits(&self) -> Result<(), Ended> {
        let within = self.open_documents() <= MAX_DOCUMENTS_PER_SOCKET
            && self.frames_waiting <= MAX_FRAMES_BEFORE_AUTH
            && self.bytes_waiting <= MAX_BYTES_BEFORE_AUTH;
        if within {
            Ok(())
        } else {
            Err(Ended::Close(close::RATE_LIMITED))
        }
    }

    async fn sign_in(&mut self, name: &str, token: &str) -> Result<(), Ended> {
        let token = self
            .upgrade
            .as_ref()
            .filter(|_| token.is_empty())
            .map_or(token, |upgrade| &upgrade.token)
            .to_owned();
        if let Some(Document::Attached(_)) = self.documents.get(name)
            && self.renew(name, &token).await?
        {
            return Ok(());
        }
        let is_new = matches!(self.documents.get(name), None | Some(Document::Ended));
        if is_new && self.open_documents() >= MAX_DOCUMENTS_PER_SOCKET {
            return Err(Ended::Close(close::RATE_LIMITED));
        }
        let (document, _) = split_name(name);
        match target::find(&self.ports, document, &token).await {
            Ok(target) => self.attach(name, target).await,
            Err(close) => {
                self.forget_waiting(name);
                // A stock provider continues to send for it. Those frames must not count as waiting for a token.
                self.insert(name, Document::Ended);
                self.send(denied(name, close.reason)).await
            }
        }
    }

    /// A stock provider sends its token again after each change; the newer token then applies. Returns false if the token is
    /// of another login: the document must then be opened again with it.
    async fn renew(&mut self, name: &str, token: &str) -> Result<bool, Ended> {
        let session = match target::peek(&self.ports, token).await {
            Ok(session) => session,
            Err(close) => {
                self.send(denied(name, close.reason)).await?;
                return Ok(true);
            }
        };
        match self.documents.get_mut(name) {
            Some(Document::Attached(document)) if document.session.is_same_sign_in(&session) => {
                document.session = session.clone();
                let renewed = Incoming::Renewed(Box::new(session));
                // The document connection may be finished, which is handled where its task is joined.
                let _ = document.to_document.send(renewed).await;
                Ok(true)
            }
            _ => {
                self.documents.remove(name);
                Ok(false)
            }
        }
    }

    /// A message that is too large closes its document and not the socket: a stock provider would otherwise reconnect and send it
    /// again.
    async fn refuse_large(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let name = Frame::name(bytes)
            .map_err(|_| Ended::Close(close::BAD_FRAME))?
            .to_owned();
        self.forget_waiting(&name);
        // Earlier messages are committed: the document's task ends when its channel is closed.
        if matches!(
            self.documents.insert(name.clone(), Document::Ended),
            Some(Document::Ended)
        ) {
            return Ok(());
        }
        let encoder = Encoder::Hocuspocus(name);
        let notice = refusals::too_large(bytes.len(), MAX_LIVE_FRAME_BYTES);
        let last = [
            encoder.status(Err(close::TOO_LARGE.reason)),
            Some(encoder.notice(&notice)),
            encoder.detached(close::TOO_LARGE.reason),
        ];
        for message in last.into_iter().flatten() {
            self.send(message).await?;
        }
        Ok(())
    }

    async fn attach(&mut self, name: &str, target: Target) -> Result<(), Ended> {
        self.out.sign_in(&target.session.user_id).map_err(Ended::Close)?;
        let encoder = Encoder::Hocuspocus(name.to_owned());
        if let Some(message) = encoder.scope(target.read_only) {
            self.send(message).await?;
        }
        let waiting = self.forget_waiting(name);
        let (to_document, incoming) = inbox(&self.inbox_bytes);
        let session = target.session.clone();
        let document_connection = DocumentConnection::new(self.ports.clone(), encoder, target, self.out.clone()).await;
        let (key, number) = (name.to_owned(), self.attached);
        self.attached += 1;
        self.serving.spawn(async move {
            let close = document_connection.run(incoming).await;
            (key, number, close)
        });
        let attached = Attached {
            to_document: to_document.clone(),
            session,
            number,
        };
        self.insert(name, Document::Attached(attached));
        for incoming in waiting {
            let _ = to_document.send(incoming).await;
        }
        Ok(())
    }

    fn forget_waiting(&mut self, name: &str) -> Vec<Incoming> {
        let Some(Document::Waiting(frames)) = self.documents.get_mut(name) else {
            return Vec::new();
        };
        let frames = std::mem::take(frames);
        self.documents.remove(name);
        self.frames_waiting = self.frames_waiting.saturating_sub(frames.len());
        self.bytes_waiting = self
            .bytes_waiting
            .saturating_sub(frames.iter().map(Incoming::size).sum());
        frames
    }

    /// The client detached a document: its task ends when its channel is closed.
    fn detach(&mut self, name: &str) {
        self.forget_waiting(name);
        self.documents.remove(name);
    }

    /// A document connection has ended; returns the code to close the socket with if all have ended.
    fn ended(&mut self, (name, number, close): Finished) -> Option<Close> {
        let close = close?;
        match self.documents.get_mut(&name) {
            Some(document @ Document::Attached(_)) if document.is_number(number) => *document = Document::Ended,
            _ => return None,
        }
        (self.open_documents() == 0).then_some(close)
    }

    async fn send(&self, message: bytes::Bytes) -> Result<(), Ended> {
        self.out.send(message).await.map_err(|_| Ended::Gone)
    }

    /// Waits until every document has committed what was received.
    async fn finish(mut self) {
        self.documents.clear();
        while self.serving.join_next().await.is_some() {}
    }
}

impl Document {
    fn is_number(&self, number: u64) -> bool {
        matches!(self, Self::Attached(document) if document.number == number)
    }
}
