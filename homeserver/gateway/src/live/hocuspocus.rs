//! A socket in Hocuspocus framing: many documents, each signed in by a frame of its own.
//!
//! Frames for a document that come before its token has been checked are kept, within limits. A document that ends
//! leaves the others alone; when it was the only one, the socket is closed with its code.

use std::collections::HashMap;

use tokio::{sync::mpsc, task::JoinSet};
use tokio_tungstenite::tungstenite::Message;
use weft_wire::{
    limits::{MAX_BYTES_BEFORE_AUTH, MAX_DOCUMENTS_PER_SOCKET, MAX_FRAMES_BEFORE_AUTH},
    live::{
        close::{self, Close},
        hocuspocus::{Body, Frame, split_name},
    },
};

use super::{
    LivePorts,
    attachment::{Attachment, Incoming},
    outgoing::Out,
    socket::{Ended, Messages, QUEUE},
    target::{self, Target},
    voice::{Voice, denied},
};

/// A document by the name that the client uses.
enum Document {
    /// Its token has not come yet; these frames have.
    Waiting(Vec<Incoming>),
    /// Being served.
    Attached(mpsc::Sender<Incoming>),
}

/// A served document has ended: its name, and the close code where it was the server's doing.
type Ending = (String, Option<Close>);

struct Connection {
    ports: LivePorts,
    /// Signed in by the URL or a header already; an empty token in a frame then means this one.
    upgrade: Option<Target>,
    out: Out,
    documents: HashMap<String, Document>,
    serving: JoinSet<Ending>,
    frames_waiting: usize,
    bytes_waiting: usize,
}

/// Serves the socket; `first` is the message by which its framing was told.
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
                // What would still be read goes to documents that have left; the client is to come back.
                () = out.closed() => break Err(Ended::Gone),
                Some(ending) = connection.serving.join_next() => {
                    // A task that panicked has no name to tell; the socket starts anew.
                    let Ok((name, close)) = ending else { break Err(Ended::Close(close::UNAVAILABLE)) };
                    if let Some(close) = connection.ended(&name, close) {
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
        match Frame::parse(bytes).map_err(|_| Ended::Close(close::BAD_FRAME))? {
            Frame::Ping => self.say(Frame::Pong.encode().into()).await,
            Frame::Pong => Ok(()),
            Frame::Document { name, body } => self.document(name, body).await,
        }
    }

    async fn document(&mut self, name: &str, body: Body<'_>) -> Result<(), Ended> {
        let incoming = match body {
            Body::Token { token, .. } => return self.sign_in(name, token).await,
            Body::Close(_) => {
                self.detach(name);
                return Ok(());
            }
            Body::Sync(message) => Incoming::from_sync(message),
            Body::Awareness(body) => Incoming::Awareness(bytes::Bytes::copy_from_slice(body)),
            Body::QueryAwareness => Incoming::QueryAwareness,
            // Texts of applications are nobody's here; the rest only servers say.
            Body::Stateless(_) | Body::PermissionDenied(_) | Body::Authenticated { .. } | Body::SyncStatus(_) => {
                return Ok(());
            }
        };
        self.deliver(name, incoming).await
    }

    async fn deliver(&mut self, name: &str, incoming: Incoming) -> Result<(), Ended> {
        match self.documents.get_mut(name) {
            Some(Document::Attached(document)) => {
                // It has ended when nobody receives: the ending is handled by whoever waits for it.
                let _ = document.send(incoming).await;
                Ok(())
            }
            Some(Document::Waiting(frames)) => {
                self.frames_waiting += 1;
                self.bytes_waiting += size(&incoming);
                frames.push(incoming);
                self.within_limits()
            }
            None => {
                self.frames_waiting += 1;
                self.bytes_waiting += size(&incoming);
                self.documents
                    .insert(name.to_owned(), Document::Waiting(vec![incoming]));
                self.within_limits()
            }
        }
    }

    fn within_limits(&self) -> Result<(), Ended> {
        let within = self.documents.len() <= MAX_DOCUMENTS_PER_SOCKET
            && self.frames_waiting <= MAX_FRAMES_BEFORE_AUTH
            && self.bytes_waiting <= MAX_BYTES_BEFORE_AUTH;
        if within {
            Ok(())
        } else {
            Err(Ended::Close(close::RATE_LIMITED))
        }
    }

    async fn sign_in(&mut self, name: &str, token: &str) -> Result<(), Ended> {
        if matches!(self.documents.get(name), Some(Document::Attached(_))) {
            return self.renew(name, token).await;
        }
        if self.documents.len() >= MAX_DOCUMENTS_PER_SOCKET && !self.documents.contains_key(name) {
            return Err(Ended::Close(close::RATE_LIMITED));
        }
        let (document, _) = split_name(name);
        let token = self
            .upgrade
            .as_ref()
            .filter(|_| token.is_empty())
            .map_or(token, |upgrade| &upgrade.token);
        match target::find(&self.ports, document, token).await {
            Ok(target) => self.attach(name, target).await,
            Err(close) => {
                self.forget_waiting(name);
                self.say(denied(name, close.reason)).await
            }
        }
    }

    /// A stock provider sends its token anew after each change of it; the document is served by the first.
    async fn renew(&self, name: &str, token: &str) -> Result<(), Ended> {
        match target::authenticate(&self.ports, token).await {
            Ok(_) => Ok(()),
            Err(close) => self.say(denied(name, close.reason)).await,
        }
    }

    async fn attach(&mut self, name: &str, target: Target) -> Result<(), Ended> {
        self.out.sign_in(&target.session.user_id).map_err(Ended::Close)?;
        let voice = Voice::Hocuspocus(name.to_owned());
        if let Some(message) = voice.scope(target.read_only) {
            self.say(message).await?;
        }
        let waiting = self.forget_waiting(name);
        let (to_document, incoming) = mpsc::channel(QUEUE);
        let attachment = Attachment::new(self.ports.clone(), voice, target, self.out.clone()).await;
        let key = name.to_owned();
        self.serving.spawn(async move {
            let close = attachment.run(incoming).await;
            (key, close)
        });
        self.documents
            .insert(name.to_owned(), Document::Attached(to_document.clone()));
        for incoming in waiting {
            let _ = to_document.send(incoming).await;
        }
        Ok(())
    }

    fn forget_waiting(&mut self, name: &str) -> Vec<Incoming> {
        let Some(Document::Waiting(frames)) = self.documents.remove(name) else {
            return Vec::new();
        };
        self.frames_waiting = self.frames_waiting.saturating_sub(frames.len());
        self.bytes_waiting = self.bytes_waiting.saturating_sub(frames.iter().map(size).sum());
        frames
    }

    /// The client wants no more of a document: its task ends when its channel does.
    fn detach(&mut self, name: &str) {
        self.forget_waiting(name);
        self.documents.remove(name);
    }

    /// A document has ended; gives the code to close the socket with where nothing is left on it.
    fn ended(&mut self, name: &str, close: Option<Close>) -> Option<Close> {
        let close = close?;
        self.documents.remove(name);
        self.documents.is_empty().then_some(close)
    }

    async fn say(&self, message: bytes::Bytes) -> Result<(), Ended> {
        self.out.say(message).await.map_err(|_| Ended::Gone)
    }

    /// Lets every document commit what it has taken in.
    async fn finish(mut self) {
        self.documents.clear();
        while self.serving.join_next().await.is_some() {}
    }
}

fn size(incoming: &Incoming) -> usize {
    match incoming {
        Incoming::Step1(bytes) | Incoming::Update(bytes) | Incoming::Awareness(bytes) => bytes.len(),
        Incoming::QueryAwareness => 0,
    }
}
