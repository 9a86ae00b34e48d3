//! Hocuspocus' framing: the document's name, a type, then the body (`spec/docs/live.md`).
//!
//! Types 4 and 6 are between Hocuspocus servers and are refused; ping and pong are a single byte without a name. Must not
//! parse updates, awareness bodies or tokens.

use weft_crdt::lib0::{Reader, Writer};

use super::{FrameError, bounded, finished, sync::SyncMessage};
use crate::limits::{MAX_DOCUMENT_NAME_BYTES, MAX_FRAME_TEXT_BYTES};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const STATELESS: u64 = 5;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One message on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message about one document.
    Document {
        /// The name exactly as the client sent it, session suffix included: answers must carry the same bytes.
        name: &'a str,
        /// Its type and content.
        body: Body<'a>,
    },
    /// Keep-alive; answered with [`Frame::Pong`].
    Ping,
    /// Answer to a ping.
    Pong,
}

/// A message about one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// State vectors and updates.
    Sync(SyncMessage<'a>),
    /// A body for [`super::awareness::parse`].
    Awareness(&'a [u8]),
    /// Client to server: the token.
    Token {
        /// The access token.
        token: &'a str,
        /// Version of the provider; sent since 3.x.
        provider: Option<&'a str>,
    },
    /// Server to client: the token is refused, with the reason.
    PermissionDenied(&'a str),
    /// Server to client: signed in; `true` is read-only.
    Authenticated {
        /// Whether edits are refused.
        read_only: bool,
    },
    /// A request for all awareness states. Both directions.
    QueryAwareness,
    /// An application-defined text; from the server the JSON of a [`super::notice::Notice`].
    Stateless(&'a str),
    /// Client to server: detach this document. Server to client: with a reason.
    Close(Option<&'a str>),
    /// Server to client, after each step 2 and update: `true` once it is on disk, `false` if it is refused.
    SyncStatus(bool),
}

impl<'a> Frame<'a> {
    /// Reads one WebSocket message from a client.
    ///
    /// # Errors
    /// If it is malformed or of an unknown type.
    pub fn parse(message: &'a [u8]) -> Result<Self, FrameError> {
        match message {
            [] => return Err(FrameError::Empty),
            [PING] => return Ok(Self::Ping),
            [PONG] => return Ok(Self::Pong),
            _ => {}
        }
        let mut reader = Reader::new(message);
        let name = bounded("document name", reader.var_str()?, MAX_DOCUMENT_NAME_BYTES)?;
        let number = reader.var_uint()?;
        let body = Body::read(number, &mut reader)?;
        Ok(Self::Document { name, body })
    }

    /// The name in a message, without parsing the rest of it.
    ///
    /// # Errors
    /// If the message has no valid name.
    pub fn name(message: &'a [u8]) -> Result<&'a str, FrameError> {
        bounded(
            "document name",
            Reader::new(message).var_str()?,
            MAX_DOCUMENT_NAME_BYTES,
        )
    }

    /// Writes one WebSocket message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Ping => writer.u8(PING),
            Self::Pong => writer.u8(PONG),
            Self::Document { name, body } => {
                writer.var_str(name);
                body.write(&mut writer);
            }
        }
        writer.into_vec()
    }
}

impl<'a> Body<'a> {
    fn read(number: u64, reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        let body = match number {
            SYNC => Self::Sync(SyncMessage::read(reader)?),
            AWARENESS => Self::Awareness(reader.var_bytes()?),
            AUTH => Self::read_auth(reader)?,
            QUERY_AWARENESS => Self::QueryAwareness,
            STATELESS => Self::Stateless(text("stateless", reader)?),
            CLOSE => Self::Close(if reader.is_empty() {
                None
            } else {
                Some(text("reason", reader)?)
            }),
            SYNC_STATUS => Self::SyncStatus(reader.var_uint()? == 1),
            number => {
                return Err(FrameError::UnknownType {
                    what: "message",
                    number,
                });
            }
        };
        finished(reader)?;
        Ok(body)
    }

    fn read_auth(reader: &mut Reader<'a>) -> Result<Self, FrameError> {
        match reader.var_uint()? {
            0 => {
                let token = text("token", reader)?;
                let provider = if reader.is_empty() {
                    None
                } else {
                    Some(text("version", reader)?)
                };
                Ok(Self::Token { token, provider })
            }
            1 => Ok(Self::PermissionDenied(text("reason", reader)?)),
            2 => Ok(Self::Authenticated {
                read_only: text("scope", reader)? == "readonly",
            }),
            number => Err(FrameError::UnknownType { what: "auth", number }),
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Sync(message) => {
                writer.var_uint(SYNC);
                message.write(writer);
            }
            Self::Awareness(body) => {
                writer.var_uint(AWARENESS);
                writer.var_bytes(body);
            }
            Self::Token { token, provider } => {
                write_auth(writer, 0, token);
                if let Some(version) = provider {
                    writer.var_str(version);
                }
            }
            Self::PermissionDenied(reason) => write_auth(writer, 1, reason),
            Self::Authenticated { read_only } => {
                write_auth(writer, 2, if *read_only { "readonly" } else { "read-write" });
            }
            Self::QueryAwareness => writer.var_uint(QUERY_AWARENESS),
            Self::Stateless(payload) => {
                writer.var_uint(STATELESS);
                writer.var_str(payload);
            }
            Self::Close(reason) => {
                writer.var_uint(CLOSE);
                if let Some(reason) = reason {
                    writer.var_str(reason);
                }
            }
            Self::SyncStatus(applied) => {
                writer.var_uint(SYNC_STATUS);
                writer.var_uint(u64::from(*applied));
            }
        }
    }
}

fn write_auth(writer: &mut Writer, number: u64, text: &str) {
    writer.var_uint(AUTH);
    writer.var_uint(number);
    writer.var_str(text);
}

fn text<'a>(what: &'static str, reader: &mut Reader<'a>) -> Result<&'a str, FrameError> {
    bounded(what, reader.var_str()?, MAX_FRAME_TEXT_BYTES)
}

/// Splits a Hocuspocus name into the document and, with `sessionAwareness`, the session.
#[must_use]
pub fn split_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once('\0') {
        Some((document, session)) => (document, Some(session)),
        None => (name, None),
    }
}
