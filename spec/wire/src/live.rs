//! Frames of the live socket (`spec/docs/live.md`): what stock Yjs providers speak, and nothing of our own inside it.
//!
//! Two framings carry the same messages: [`plain`] (y-websocket and its kin) and [`hocuspocus`]. They are told apart
//! by the first byte of a connection: a plain client opens with `00`, a Hocuspocus frame with the length of a name.
//! Parsers here are total; they look at no update and no JSON, only at the envelope.

pub mod awareness;
pub mod close;
pub mod hocuspocus;
pub mod notice;
pub mod plain;
pub mod sync;

use weft_crdt::lib0::Lib0Error;

/// Why a frame can't be read. The socket is closed with [`close::BAD_FRAME`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Ends early, a number too large, or text that is not UTF-8.
    #[error("malformed frame: {0}")]
    Encoding(#[from] Lib0Error),
    /// Nothing in it.
    #[error("empty frame")]
    Empty,
    /// A type that neither framing has.
    #[error("unknown {what} type {number}")]
    UnknownType {
        /// Which number it was: `message`, `sync`, `auth`.
        what: &'static str,
        /// Its value.
        number: u64,
    },
    /// Bytes after the end of the message.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// A text or a name that is too long.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Which framing a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// y-websocket: one document a socket, named by the URL.
    Plain,
    /// Hocuspocus: each frame names its document.
    Hocuspocus,
}

impl Framing {
    /// Tells the framing from the first frame that a client sends.
    ///
    /// # Errors
    /// When the frame is empty.
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
