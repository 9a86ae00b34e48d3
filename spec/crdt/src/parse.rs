//! Parses bytes to [`Update`]: the grammar of v1 updates. Must not decide whether an update may be applied.
//!
//! Nothing is allocated by announced counts; every loop step reads at least one byte.

use crate::block::{Block, Kind, Links};
use crate::delete_set::DeleteSet;
use crate::lib0::{Lib0Error, Reader};
use crate::update::{Run, Update};
use crate::{ClientId, Id, json, limits, value};
use bytes::Bytes;

/// The bytes are not a v1 update (or state vector, or delete set).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct ParseError {
    /// The number of bytes read.
    pub at: usize,
    /// What is wrong there.
    pub what: Malformed,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// See [`Lib0Error`].
    #[error(transparent)]
    Lib0(#[from] Lib0Error),
    /// The input exceeds the limit.
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
    /// A client has two lists of blocks, or two lists of deletions.
    #[error("client {0} is listed twice")]
    ClientTwice(ClientId),
    /// A block without length.
    #[error("a block is empty")]
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
    /// Malformed JSON text, or JSON text that engines read differently.
    #[error("malformed JSON text")]
    BadJson,
    /// More blocks than the limit.
    #[error("more than {0} blocks")]
    TooManyBlocks(usize),
}

impl Malformed {
    /// Whether the fault is within one value, whose end can be found all the same.
    pub(crate) fn is_of_value(self) -> bool {
        matches!(self, Malformed::ValueTooDeep | Malformed::BadJson)
    }
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

/// How blocks are read.
pub(crate) struct Blocks {
    all: Vec<Block>,
    /// The maximum number of blocks.
    limit: usize,
    /// If set, faulty values are allowed; collects the positions of their blocks.
    faulty: Option<Vec<usize>>,
}

/// Reads a whole update of at most `limit` blocks.
pub(crate) fn update(buf: Bytes, limit: usize) -> Result<Update, ParseError> {
    let blocks = Blocks {
        all: Vec::new(),
        limit,
        faulty: None,
    };
    update_with(buf, blocks).map(|(update, _)| update)
}

/// Reads a whole update of at most `limit` blocks. Values that are nested too deeply and malformed JSON are not errors
/// here; returns the positions of their blocks.
pub(crate) fn update_with_faults(buf: Bytes, limit: usize) -> Result<(Update, Vec<usize>), ParseError> {
    let blocks = Blocks {
        all: Vec::new(),
        limit,
        faulty: Some(Vec::new()),
    };
    update_with(buf, blocks)
}

fn update_with(buf: Bytes, mut blocks: Blocks) -> Result<(Update, Vec<usize>), ParseError> {
    if buf.len() > limits::PARSE_BYTES {
        return Err(ParseError {
            at: 0,
            what: Malformed::TooLong,
        });
    }
    let mut r = Reader::new(&buf);
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
    let update = Update {
        buf,
        blocks: blocks.all,
        runs,
        deletes,
        wire_len,
    };
    Ok((update, blocks.faulty.unwrap_or_default()))
}

fn read_run(r: &mut Reader<'_>, blocks: &mut Blocks) -> Result<Option<Run>, ParseError> {
    let count = uint(r)?;
    let client = client(r)?;
    let from = clock(r)?;
    let start = r.position() as u32;
    let first = blocks.all.len() as u32;
    let mut to = from;
    for _ in 0..count {
        if blocks.all.len() >= blocks.limit {
            return Err(ParseError::at(r, Malformed::TooManyBlocks(blocks.limit)));
        }
        let block = blocks.read(r, client, to)?;
        to = block.end_clock();
        blocks.all.push(block);
    }
    let run = Run {
        client,
        first,
        count: blocks.all.len() as u32 - first,
        from,
        to,
        start,
        end: r.position() as u32,
    };
    Ok((run.count > 0).then_some(run))
}

impl Blocks {
    #[inline]
    fn read(&mut self, r: &mut Reader<'_>, client: ClientId, at: u32) -> Result<Block, ParseError> {
        let Some(faulty) = &mut self.faulty else {
            return read_block(r, client, at);
        };
        let begin = r.clone();
        match read_block(r, client, at) {
            Err(error) if error.what.is_of_value() => {
                faulty.push(self.all.len());
                *r = begin;
                read_block_with(r, client, at, limits::REFUSED_VALUE_NESTING)
            }
            read => read,
        }
    }
}

/// Reads one block. `r` must start where the block's byte positions are counted from.
pub(crate) fn read_block(r: &mut Reader<'_>, client: ClientId, at: u32) -> Result<Block, ParseError> {
    read_block_with(r, client, at, limits::VALUE_NESTING)
}

/// Reads one block with values nested at most `nesting` levels. JSON text is checked only if that is the ordinary
/// bound.
#[inline]
fn read_block_with(r: &mut Reader<'_>, client: ClientId, at: u32, nesting: u32) -> Result<Block, ParseError> {
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
    let len = read_content(r, kind, nesting)?;
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

/// Reads content and returns its length in units.
#[inline]
fn read_content(r: &mut Reader<'_>, kind: Kind, nesting: u32) -> Result<u32, ParseError> {
    match kind {
        Kind::Gc | Kind::Skip | Kind::Deleted => clock(r),
        Kind::String => {
            let text = text(r)?;
            u32::try_from(utf16_len(text)).map_err(|_| ParseError::at(r, Malformed::ClockTooLarge))
        }
        Kind::Any | Kind::Json => {
            let count = clock(r)?;
            for _ in 0..count {
                skip_element_within(r, kind, nesting)?;
            }
            Ok(count)
        }
        Kind::Binary => r.var_bytes().map(|_| 1).map_err(|e| ParseError::lib0(r, e)),
        Kind::Embed => json_text(r, nesting).map(|()| 1),
        Kind::Format => {
            text(r)?;
            json_text(r, nesting).map(|()| 1)
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
            value::skip_any_within(r, nesting).map(|()| 1)
        }
    }
}

/// Skips one element of a list content.
pub(crate) fn skip_element(r: &mut Reader<'_>, kind: Kind) -> Result<(), ParseError> {
    skip_element_within(r, kind, limits::VALUE_NESTING)
}

/// The same with another nesting bound.
pub(crate) fn skip_element_within(r: &mut Reader<'_>, kind: Kind, nesting: u32) -> Result<(), ParseError> {
    if kind == Kind::Any {
        return value::skip_any_within(r, nesting);
    }
    let text = text(r)?;
    if text == "undefined" || nesting != limits::VALUE_NESTING {
        Ok(())
    } else {
        checked_json(r, text)
    }
}

fn json_text(r: &mut Reader<'_>, nesting: u32) -> Result<(), ParseError> {
    let text = text(r)?;
    if nesting == limits::VALUE_NESTING {
        checked_json(r, text)
    } else {
        Ok(())
    }
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

/// Length in UTF-16 units: one per character, two for characters beyond the basic plane (4 bytes in UTF-8).
pub(crate) fn utf16_len(text: &str) -> usize {
    text.bytes()
        .map(|b| usize::from(b & 0xc0 != 0x80) + usize::from(b >= 0xf0))
        .sum()
}
