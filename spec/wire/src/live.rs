//! Frames of the live socket (`spec/docs/live.md`), as stock Yjs providers send and read them.
//!
//! Two framings carry the same messages: [`plain`] (y-websocket and compatible providers) and [`hocuspocus`]. The first byte
//! of a connection distinguishes them: a plain client starts with `00`, a Hocuspocus frame with the length of a name.
//! The parsers are total. They parse the envelope only and must not look at updates or JSON.

pub mod awareness;
pub mod close;
pub mod hocuspocus;
pub mod notice;
pub mod plain;
pub mod sync;

use weft_crdt::lib0::Lib0Error;

/// Why a frame cannot be decoded. The socket is closed with [`close::BAD_FRAME`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end early, a number is too large or not in its shortest form, or text is not UTF-8.
    #[error("malformed frame: {0}")]
    Encoding(#[from] Lib0Error),
    /// The message has no bytes.
    #[error("empty frame")]
    Empty,
    /// A type that the framing does not have.
    #[error("unknown {what} type {number}")]
    UnknownType {
        /// The kind of type: `message`, `sync` or `auth`.
        what: &'static str,
        /// Its value.
        number: u64,
    },
    /// Bytes after the end of the message.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// A text, a name or a list is over its limit.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// Its size; for `awareness` the number of entries.
        bytes: usize,
        /// The largest allowed size.
        limit: usize,
    },
}

/// The framing of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// y-websocket: one document a socket, named by the URL.
    Plain,
    /// Hocuspocus: each frame names its document.
    Hocuspocus,
}

impl Framing {
    /// The framing, by the first frame that the client sends.
    ///
    /// # Errors
    /// If the frame is empty.
    pub fn of_first_frame(frame: &[u8]) -> Result<Self, FrameError> {
        match frame.first() {
            None => Err(FrameError::Empty),
            Some(0) => Ok(Self::Plain),
            Some(_) => Ok(Self::Hocuspocus),
        }
    }
}

fn bounded<'a>(what: &'static str, text: &'a str, limit: usize) -> Result<&'a str, FrameError> {
    if text.len() > limit {
        Err(FrameError::TooLong {
            what,
            bytes: text.len(),
            limit,
        })
    } else {
        Ok(text)
    }
}

fn finished(rest: &weft_crdt::lib0::Reader<'_>) -> Result<(), FrameError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(FrameError::Trailing(rest.remaining()))
    }
}
