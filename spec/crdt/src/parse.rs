//! From bytes to [`Update`]: the grammar of v1 updates, and nothing about whether an update may be applied.
//!
//! Nothing is allocated by announced counts; every loop step reads at least one byte.

use crate::block::{Block, Kind, Links};
use crate::delete_set::DeleteSet;
use crate::lib0::{Lib0Error, Reader};
use crate::update::{Run, Update};
use crate::{ClientId, Id, json, limits, value};
use bytes::Bytes;

/// Bytes that are no v1 update (or state vector, or delete set).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct ParseError {
    /// How many bytes had been read.
    pub at: usize,
    /// What is wrong there.
    pub what: Malformed,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// See [`Lib0Error`].
    #[error(transparent)]
    Lib0(#[from] Lib0Error),
    /// More input than is looked at.
    #[error("more than {} bytes", limits::PARSE_BYTES)]
    TooLong,
    /// Bytes after the end.
    #[error("bytes after the end")]
    Trailing,
    /// A client id of 2^53 or more.
    #[error("a client id is too large")]
    ClientTooLarge,
    /// A clock, or the end of a block, above 2^31.
    #[error("a clock is too large")]
    ClockTooLarge,
    /// One client has two lists of blocks, or two lists of deletions.
    #[error("client {0} is listed twice")]
    ClientTwice(ClientId),
    /// A block without length.
    #[error("an empty block")]
    EmptyBlock,
    /// A content kind that v1 does not have, or flags that its kind cannot have.
    #[error("block info {0:#04x} is unknown")]
    UnknownBlock(u8),
    /// The parent flag is neither 0 nor 1.
    #[error("parent flag {0} is unknown")]
    UnknownParent(u64),
    /// A shared type that v1 does not have.
    #[error("shared type {0} is unknown")]
    UnknownType(u64),
    /// A value tag that lib0 does not have.
    #[error("value tag {0} is unknown")]
    UnknownValue(u8),
    /// A value nested too deeply.
    #[error("a value is nested deeper than {}", limits::VALUE_NESTING)]
    ValueTooDeep,
    /// JSON text that is none, or that engines read differently.
    #[error("bad JSON text")]
    BadJson,
}

impl ParseError {
    pub(crate) fn at(r: &Reader<'_>, what: Malformed) -> Self {
        ParseError { at: r.position(), what }
    }

    pub(crate) fn lib0(r: &Reader<'_>, error: Lib0Error) -> Self {
        ParseError::at(r, Malformed::Lib0(error))
    }
}

#[inline]
fn uint(r: &mut Reader<'_>) -> Result<u64, ParseError> {
    r.var_uint().map_err(|e| ParseError::lib0(r, e))
}

#[inline]
pub(crate) fn client(r: &mut Reader<'_>) -> Result<ClientId, ParseError> {
    ClientId::new(uint(r)?).ok_or_else(|| ParseError::at(r, Malformed::ClientTooLarge))
}

/// A clock or a length: at most 2^31.
#[inline]
pub(crate) fn clock(r: &mut Reader<'_>) -> Result<u32, ParseError> {
    u32::try_from(uint(r)?)
        .ok()
        .filter(|c| *c <= limits::CLOCK_END)
        .ok_or_else(|| ParseError::at(r, Malformed::ClockTooLarge))
}

#[inline]
fn id(r: &mut Reader<'_>) -> Result<Id, ParseError> {
    Ok(Id {
        client: client(r)?,
        clock: clock(r)?,
    })
}

fn text<'a>(r: &mut Reader<'a>) -> Result<&'a str, ParseError> {
    r.var_str().map_err(|e| ParseError::lib0(r, e))
}

/// Reads a whole update.
pub(crate) fn update(buf: Bytes) -> Result<Update, ParseError> {
    if buf.len() > limits::PARSE_BYTES {
        return Err(ParseError {
            at: 0,
            what: Malformed::TooLong,
        });
    }
    let mut r = Reader::new(&buf);
    let mut blocks = Vec::new();
    let mut runs = Vec::new();
    let count = uint(&mut r)?;
    for _ in 0..count {
        if let Some(run) = read_run(&mut r, &mut blocks)? {
            runs.push(run);
        }
    }
    if !runs.is_sorted_by_key(|run: &Run| run.client) {
        runs.sort_by_key(|run| run.client);
    }
    if let Some(w) = runs.windows(2).find(|w| matches!(w, [a, b] if a.client == b.client)) {
        let twice = w.first().map_or(ClientId::from(0), |run| run.client);
        return Err(ParseError::at(&r, Malformed::ClientTwice(twice)));
    }
    let deletes = DeleteSet::read(&mut r)?;
    if !r.is_empty() {
        return Err(ParseError::at(&r, Malformed::Trailing));
    }
    let wire_len = buf.len();
    Ok(Update {
        buf,
        blocks,
        runs,
        deletes,
        wire_len,
    })
}

fn read_run(r: &mut Reader<'_>, blocks: &mut Vec<Block>) -> Result<Option<Run>, ParseError> {
    let count = uint(r)?;
    let client = client(r)?;
    let from = clock(r)?;
    let start = r.position() as u32;
    let first = blocks.len() as u32;
    let mut to = from;
    for _ in 0..count {
        let block = read_block(r, client, to)?;
        to = block.end_clock();
        blocks.push(block);
    }
    let run = Run {
        client,
        first,
        count: blocks.len() as u32 - first,
        from,
        to,
        start,
        end: r.position() as u32,
    };
    Ok((run.count > 0).then_some(run))
}

/// Reads one block. `r` must have begun where the block's byte positions count from.
pub(crate) fn read_block(r: &mut Reader<'_>, client: ClientId, at: u32) -> Result<Block, ParseError> {
    let start = r.position() as u32;
    let info = r.u8().map_err(|e| ParseError::lib0(r, e))?;
    let kind = Kind::of_info(info).ok_or_else(|| ParseError::at(r, Malformed::UnknownBlock(info)))?;
    let links = if matches!(kind, Kind::Gc | Kind::Skip) {
        if info != kind as u8 {
            return Err(ParseError::at(r, Malformed::UnknownBlock(info)));
        }
        Links::Root
    } else {
        read_links(r, info)?
    };
    let content = r.position() as u32;
    let len = read_content(r, kind)?;
    if len == 0 {
        return Err(ParseError::at(r, Malformed::EmptyBlock));
    }
    if at.checked_add(len).is_none_or(|end| end > limits::CLOCK_END) {
        return Err(ParseError::at(r, Malformed::ClockTooLarge));
    }
    let end = r.position() as u32;
    Ok(Block {
        client,
        clock: at,
        len,
        start,
        content,
        end,
        info,
        links,
    })
}

#[inline]
fn read_links(r: &mut Reader<'_>, info: u8) -> Result<Links, ParseError> {
    let origin = if info & Block::HAS_ORIGIN != 0 {
        Some(id(r)?)
    } else {
        None
    };
    let right = if info & Block::HAS_RIGHT != 0 {
        Some(id(r)?)
    } else {
        None
    };
    let links = match (origin, right) {
        (Some(o), Some(r)) => return Ok(Links::Both(o, r)),
        (Some(o), None) => return Ok(Links::Origin(o)),
        (None, Some(r)) => return Ok(Links::Right(r)),
        (None, None) => match uint(r)? {
            1 => {
                text(r)?;
                Links::Root
            }
            0 => Links::Parent(id(r)?),
            flag => return Err(ParseError::at(r, Malformed::UnknownParent(flag))),
        },
    };
    if info & Block::HAS_SUB != 0 {
        text(r)?;
    }
    Ok(links)
}

/// Reads content; gives its length in units.
#[inline]
fn read_content(r: &mut Reader<'_>, kind: Kind) -> Result<u32, ParseError> {
    match kind {
        Kind::Gc | Kind::Skip | Kind::Deleted => clock(r),
        Kind::String => {
            let text = text(r)?;
            u32::try_from(utf16_len(text)).map_err(|_| ParseError::at(r, Malformed::ClockTooLarge))
        }
        Kind::Any | Kind::Json => {
            let count = clock(r)?;
            for _ in 0..count {
                skip_element(r, kind)?;
            }
            Ok(count)
        }
        Kind::Binary => r.var_bytes().map(|_| 1).map_err(|e| ParseError::lib0(r, e)),
        Kind::Embed => json_text(r).map(|()| 1),
        Kind::Format => {
            text(r)?;
            json_text(r).map(|()| 1)
        }
        Kind::Type => {
            match uint(r)? {
                0 | 1 | 2 | 4 | 6 => {}
                3 | 5 => {
                    text(r)?;
                }
                other => return Err(ParseError::at(r, Malformed::UnknownType(other))),
            }
            Ok(1)
        }
        Kind::Doc => {
            text(r)?;
            value::skip_any(r).map(|()| 1)
        }
    }
}

/// One element of a list content.
pub(crate) fn skip_element(r: &mut Reader<'_>, kind: Kind) -> Result<(), ParseError> {
    if kind == Kind::Any {
        return value::skip_any(r);
    }
    let text = text(r)?;
    if text == "undefined" {
        Ok(())
    } else {
        checked_json(r, text)
    }
}

fn json_text(r: &mut Reader<'_>) -> Result<(), ParseError> {
    let text = text(r)?;
    checked_json(r, text)
}

fn checked_json(r: &Reader<'_>, text: &str) -> Result<(), ParseError> {
    json::check(text).map_err(|fault| {
        let what = match fault {
            json::Fault::Syntax => Malformed::BadJson,
            json::Fault::TooDeep => Malformed::ValueTooDeep,
        };
        ParseError::at(r, what)
    })
}

/// Length in UTF-16 units: one for each character, two for those beyond the basic plane (4 bytes in UTF-8).
pub(crate) fn utf16_len(text: &str) -> usize {
    text.bytes()
        .map(|b| usize::from(b & 0xc0 != 0x80) + usize::from(b >= 0xf0))
        .sum()
}
