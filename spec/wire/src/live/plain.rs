//! y-websocket's framing: a type, then the body; the URL names the document (`spec/docs/live.md`).
//!
//! One frame is one WebSocket message: y-websocket 3 reads only the first frame of a message. Must not parse updates or
//! awareness bodies.

use weft_crdt::lib0::{Reader, Writer};

use super::{FrameError, bounded, finished, sync::SyncMessage};
use crate::limits::MAX_FRAME_TEXT_BYTES;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
/// Not part of y-protocols: stock clients ignore it.
const NOTICE: u64 = 119;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// State vectors and updates.
    Sync(SyncMessage<'a>),
    /// A body for [`super::awareness::parse`].
    Awareness(&'a [u8]),
    /// Server to client: the reason of a refusal. The stock client logs it.
    PermissionDenied(&'a str),
    /// A request for all awareness states. Both directions.
    QueryAwareness,
    /// Server to client: the JSON of a [`super::notice::Notice`].
    Notice(&'a str),
}

impl<'a> Frame<'a> {
    /// Reads one WebSocket message.
    ///
    /// # Errors
    /// If it is malformed or of an unknown type.
    pub fn parse(message: &'a [u8]) -> Result<Self, FrameError> {
        if message.is_empty() {
            return Err(FrameError::Empty);
        }
        let mut reader = Reader::new(message);
        match reader.var_uint()? {
            SYNC => Ok(Self::Sync(SyncMessage::read(&mut reader)?)),
            AWARENESS => {
                let body = reader.var_bytes()?;
                finished(&reader).map(|()| Self::Awareness(body))
            }
            AUTH => {
                let number = reader.var_uint()?;
                if number != 0 {
                    return Err(FrameError::UnknownType { what: "auth", number });
                }
                let reason = bounded("reason", reader.var_str()?, MAX_FRAME_TEXT_BYTES)?;
                finished(&reader).map(|()| Self::PermissionDenied(reason))
            }
            QUERY_AWARENESS => finished(&reader).map(|()| Self::QueryAwareness),
            NOTICE => {
                let json = bounded("notice", reader.var_str()?, MAX_FRAME_TEXT_BYTES)?;
                finished(&reader).map(|()| Self::Notice(json))
            }
            number => Err(FrameError::UnknownType {
                what: "message",
                number,
            }),
        }
    }

    /// Writes one WebSocket message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Sync(message) => {
                writer.var_uint(SYNC);
                message.write(&mut writer);
            }
            Self::Awareness(body) => {
                writer.var_uint(AWARENESS);
                writer.var_bytes(body);
            }
            Self::PermissionDenied(reason) => {
                writer.var_uint(AUTH);
                writer.var_uint(0);
                writer.var_str(reason);
            }
            Self::QueryAwareness => writer.var_uint(QUERY_AWARENESS),
            Self::Notice(json) => {
                writer.var_uint(NOTICE);
                writer.var_str(json);
            }
        }
        writer.into_vec()
    }
}
