//! Encodes the protocol messages of one document in the framing that the client uses.

use bytes::Bytes;
use weft_fanout::EditFrame;
use weft_wire::live::{
    Framing,
    awareness::{self, Entry},
    hocuspocus::{Body, Frame as HocuspocusFrame},
    notice::Notice,
    plain::Frame as PlainFrame,
    sync::SyncMessage,
};

/// The framing of one document on one socket.
#[derive(Debug, Clone)]
pub(super) enum Encoder {
    /// y-websocket.
    Plain,
    /// Hocuspocus, with the document name as the client wrote it.
    Hocuspocus(String),
}

impl Encoder {
    pub(super) fn sync(&self, message: SyncMessage<'_>) -> Bytes {
        match self {
            Self::Plain => PlainFrame::Sync(message).encode().into(),
            Self::Hocuspocus(name) => in_frame(name, Body::Sync(message)),
        }
    }

    /// An edit of another client. In plain framing all sockets share its bytes.
    pub(super) fn edit(&self, frame: &EditFrame) -> Bytes {
        match self {
            Self::Plain => frame.plain(),
            Self::Hocuspocus(name) => in_frame(name, Body::Sync(SyncMessage::Update(&frame.update))),
        }
    }

    pub(super) fn awareness(&self, entries: &[Entry]) -> Bytes {
        let body = awareness::encode(entries);
        match self {
            Self::Plain => PlainFrame::Awareness(&body).encode().into(),
            Self::Hocuspocus(name) => in_frame(name, Body::Awareness(&body)),
        }
    }

    /// Requests all awareness states that the client has, including its own.
    pub(super) fn query_awareness(&self) -> Bytes {
        match self {
            Self::Plain => PlainFrame::QueryAwareness.encode().into(),
            Self::Hocuspocus(name) => in_frame(name, Body::QueryAwareness),
        }
    }

    /// A notice, which stock clients pass to the application (Hocuspocus) or ignore (plain).
    pub(super) fn notice(&self, notice: &Notice) -> Bytes {
        let json = notice.to_json();
        match self {
            Self::Plain => PlainFrame::Notice(&json).encode().into(),
            Self::Hocuspocus(name) => in_frame(name, Body::Stateless(&json)),
        }
    }

    /// The acknowledgement of an edit: on disk, or refused with a reason. Plain framing has no message for the first.
    pub(super) fn status(&self, outcome: Result<(), &str>) -> Option<Bytes> {
        match (self, outcome) {
            (Self::Plain, Ok(())) => None,
            (Self::Plain, Err(reason)) => Some(PlainFrame::PermissionDenied(reason).encode().into()),
            (Self::Hocuspocus(name), outcome) => Some(in_frame(name, Body::SyncStatus(outcome.is_ok()))),
        }
    }

    /// Confirms authentication, and whether the document is read-only. Plain framing has no message for it.
    pub(super) fn scope(&self, read_only: bool) -> Option<Bytes> {
        match self {
            Self::Plain => None,
            Self::Hocuspocus(name) => Some(in_frame(name, Body::Authenticated { read_only })),
        }
    }

    /// The document is no longer served on this socket. In plain framing the close code has this meaning.
    pub(super) fn detached(&self, reason: &str) -> Option<Bytes> {
        match self {
            Self::Plain => None,
            Self::Hocuspocus(name) => Some(in_frame(name, Body::Close(Some(reason)))),
        }
    }
}

/// Refuses a document in Hocuspocus framing.
pub(super) fn denied(name: &str, reason: &str) -> Bytes {
    in_frame(name, Body::PermissionDenied(reason))
}

/// A keep-alive message for an idle socket, so that stock clients don't time out.
pub(super) fn keep_alive(framing: Framing) -> Bytes {
    match framing {
        Framing::Plain => PlainFrame::Awareness(&awareness::encode(&[])).encode().into(),
        Framing::Hocuspocus => HocuspocusFrame::Ping.encode().into(),
    }
}

fn in_frame(name: &str, body: Body<'_>) -> Bytes {
    HocuspocusFrame::Document { name, body }.encode().into()
}
