//! The sync messages that both framings carry (y-protocols): vectors and updates as bytes.
//!
//! What the bytes mean is `weft_crdt`'s matter, not this file's.

use weft_crdt::lib0::{Reader, Writer};

use super::{FrameError, finished};

/// One sync message. Source: y-protocols 1.0.7, `sync.js`; `spec/docs/live.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMessage<'a> {
    /// "This is what I have": a state vector. Answered with step 2.
    Step1(&'a [u8]),
    /// "This is what you lack": an update.
    Step2(&'a [u8]),
    /// A change as it happens: an update.
    Update(&'a [u8]),
}

impl<'a> SyncMessage<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let number = reader.var_uint()?;
        let body = reader.var_bytes()?;
        finished(reader)?;
        match number {
            0 => Ok(Self::Step1(body)),
            1 => Ok(Self::Step2(body)),
            2 => Ok(Self::Update(body)),
            number => Err(FrameError::UnknownType { what: "sync", number }),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let (number, body) = match self {
            Self::Step1(body) => (0, body),
            Self::Step2(body) => (1, body),
            Self::Update(body) => (2, body),
        };
        writer.var_uint(number);
        writer.var_bytes(body);
    }
}
