//! The sync messages of both framings (y-protocols): state vectors and updates as bytes.
//!
//! Must not parse the bytes: `weft_crdt` does.

use weft_crdt::lib0::{Reader, Writer};

use super::{FrameError, finished};

/// One sync message. Source: y-protocols 1.0.7, `sync.js`; `spec/docs/live.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMessage<'a> {
    /// The sender's state vector. Answered with step 2.
    Step1(&'a [u8]),
    /// An update with what is missing from the receiver's state vector.
    Step2(&'a [u8]),
    /// A new change: an update.
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
