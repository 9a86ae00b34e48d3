//! Splits an update into several of bounded size. Each part can be applied, and is admissible, after the earlier ones.
//! Must not reorder dependent blocks.

use crate::block::{Block, Kind};
use crate::builder::{Builder, Shape};
use crate::content::{Body, char_size, skip_number};
use crate::lib0::Reader;
use crate::limits::{EVENT_BLOCKS, EVENT_CLIENTS, EVENT_DELETES, EVENT_OVERHEAD, TYPE_NESTING};
use crate::nesting;
use crate::order::{self, Circle};
use crate::parse::skip_element;
use crate::{ClientId, DeleteSet, Id, Update};
use std::collections::BTreeMap;

/// Why an update can't be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The limit is smaller than any part.
    #[error("parts of {max_bytes} bytes are too small")]
    PartTooSmall {
        /// The requested limit in bytes.
        max_bytes: usize,
    },
    /// A block that can't be divided is larger than a part.
    #[error("block {at} has an indivisible piece of {bytes} bytes")]
    PieceTooLarge {
        /// The block.
        at: Id,
        /// The length of the piece in bytes.
        bytes: usize,
    },
    /// It has a gap, so no part with the blocks after it could be applied.
    #[error("the blocks of client {client} have a gap (Skip)")]
    Skip {
        /// The client.
        client: ClientId,
    },
    /// The references of blocks form a cycle.
    #[error("the references of block {at} form a cycle")]
    Circle {
        /// One of the blocks.
        at: Id,
    },
}

/// Bytes reserved for the counts at the start of a part and of its delete set.
const COUNTS: usize = 12;
/// Bytes at the start of the list of one client: a count, a client id, a clock.
const RUN_HEAD: usize = 18;
/// Bytes of the references of a divided block: info and two ids.
const CUT_HEAD: usize = 1 + 2 * 13;
/// Bytes of the number before content.
const NUMBER: usize = 5;
/// Bytes of a deleted range: two clocks.
const RANGE: usize = 10;
/// Less room than this, in bytes, is not used for the start of a long block.
const WORTH_CUTTING: usize = 64;

/// Splits into parts of at most `max_bytes`, with the counts that one event may have. Order matters: each part refers
/// only to blocks known before the update, in an earlier part, or in itself. Deletions come last.
pub fn split(update: &Update, max_bytes: usize) -> Result<Vec<Update>, SplitError> {
    let small = update.measure() <= max_bytes
        && update.blocks.len() <= EVENT_BLOCKS
        && update.runs.len() <= EVENT_CLIENTS
        && update.deletes.len() <= EVENT_DELETES;
    if small && nesting::check(update, TYPE_NESTING).is_ok() {
        return Ok(vec![update.clone()]);
    }
    if max_bytes < 2 * EVENT_OVERHEAD {
        return Err(SplitError::PartTooSmall { max_bytes });
    }
    if let Some(hole) = update.blocks.iter().find(|b| b.kind() == Kind::Skip) {
        return Err(SplitError::Skip { client: hole.client });
    }
    let mut parts = Parts {
        max_bytes,
        done: Vec::new(),
        runs: BTreeMap::new(),
        used: COUNTS,
        blocks: 0,
    };
    let mut places = Places::new(update);
    let mut failed = None;
    let walked = order::in_order(update, |at| {
        if let (Some(block), None) = (update.blocks.get(at), failed) {
            if places.too_deep(block, parts.done.len()) {
                parts.next_part();
            }
            failed = parts.push(block, &update.buf).err();
            places.record(at, block, parts.done.len());
        }
    });
    walked.map_err(|Circle { at }| SplitError::Circle { at })?;
    failed.map_or(Ok(()), Err)?;
    parts.push_deletes(&update.deletes);
    Ok(parts.done)
}

/// For each block, its part, and the number of types of that part around it. Edits that are admissible one by one may
/// nest types more deeply than one event may.
struct Places<'a> {
    update: &'a Update,
    of: Vec<(usize, u32)>,
}

impl<'a> Places<'a> {
    fn new(update: &'a Update) -> Self {
        let asked = nesting::types_may_be_deep(update);
        Places {
            update,
            of: vec![(0, 0); if asked { update.blocks.len() } else { 0 }],
        }
    }

    fn inside(&self, block: &Block, part: usize) -> u32 {
        let of = |id: Id| {
            let at = self.update.find(id)?;
            self.of
                .get(at)
                .filter(|(there, _)| *there == part)
                .map(|(_, depth)| *depth)
        };
        nesting::inside(block, of)
    }

    fn too_deep(&self, block: &Block, part: usize) -> bool {
        block.kind() == Kind::Type && !self.of.is_empty() && self.inside(block, part) >= TYPE_NESTING
    }

    fn record(&mut self, at: usize, block: &Block, part: usize) {
        let inside = if self.of.is_empty() {
            0
        } else {
            self.inside(block, part)
        };
        if let Some(place) = self.of.get_mut(at) {
            *place = (part, inside);
        }
    }
}

/// The finished parts, and the one that is being filled: for each client, blocks without gaps.
struct Parts {
    max_bytes: usize,
    done: Vec<Update>,
    runs: BTreeMap<ClientId, Builder>,
    used: usize,
    blocks: usize,
}

impl Parts {
    fn room(&self, client: ClientId) -> usize {
        let head = if self.runs.contains_key(&client) { 0 } else { RUN_HEAD };
        let full = self.blocks >= EVENT_BLOCKS || (head > 0 && self.runs.len() >= EVENT_CLIENTS);
        if full {
            0
        } else {
            self.max_bytes.saturating_sub(self.used + head)
        }
    }

    fn add(&mut self, client: ClientId, write: impl FnOnce(&mut Builder)) {
        let head = if self.runs.contains_key(&client) { 0 } else { RUN_HEAD };
        let run = self.runs.entry(client).or_default();
        let before = (run.byte_len(), run.block_count());
        write(run);
        self.used += head + run.byte_len() - before.0;
        self.blocks += run.block_count() - before.1;
    }

    fn close(&mut self, deletes: DeleteSet) {
        let runs = std::mem::take(&mut self.runs);
        let mut all = Builder::with_capacity(self.used, self.blocks);
        runs.values().for_each(|run| all.append(run));
        self.done.push(all.finish(deletes));
        self.used = COUNTS;
        self.blocks = 0;
    }

    fn next_part(&mut self) {
        if !self.runs.is_empty() {
            self.close(DeleteSet::new());
        }
    }

    fn push(&mut self, block: &Block, buf: &[u8]) -> Result<(), SplitError> {
        let size = (block.end - block.start) as usize;
        if size > self.room(block.client) && size + RUN_HEAD + COUNTS <= self.max_bytes {
            self.next_part();
        }
        if size <= self.room(block.client) {
            self.add(block.client, |run| run.push(block, buf));
            return Ok(());
        }
        self.push_cut(block, buf)
    }

    /// Divides a block that is longer than a part.
    fn push_cut(&mut self, block: &Block, buf: &[u8]) -> Result<(), SplitError> {
        let too_large = || SplitError::PieceTooLarge {
            at: block.id(),
            bytes: largest_piece(block, buf),
        };
        let mut rest = Rest::new(block, buf).ok_or_else(too_large)?;
        while rest.at < block.len {
            let head = if rest.at == 0 {
                (block.content - block.start) as usize
            } else {
                CUT_HEAD
            };
            let room = self.room(block.client);
            let (units, bytes) = rest.measure(room.saturating_sub(head + NUMBER));
            let whole = rest.at + units == block.len;
            let fresh = self.runs.is_empty();
            if !fresh && !whole && room < head + NUMBER + WORTH_CUTTING || !fresh && units == 0 {
                self.next_part();
                continue;
            }
            if units == 0 {
                return Err(too_large());
            }
            let a = rest.at;
            let body = rest.take(units, bytes);
            let shape = Shape {
                client: block.client,
                clock: block.clock + a,
                len: units,
                links: block.links_at(a),
            };
            self.add(block.client, |run| {
                run.push_built(
                    shape,
                    |w| block.write_head(w, buf, a, block.kind()),
                    |w| body.write(w, units),
                );
            });
        }
        Ok(())
    }

    /// Puts the deletions after the blocks: into the last part if they fit, otherwise into parts of their own.
    fn push_deletes(&mut self, deletes: &DeleteSet) {
        if self.used + deletes.wire_len() <= self.max_bytes && deletes.len() <= EVENT_DELETES {
            self.close(deletes.clone());
            return;
        }
        self.next_part();
        if deletes.is_empty() {
            // The blocks fill the last part exactly: no empty part follows.
            return;
        }
        let mut part = Vec::new();
        let mut last = None;
        for (client, from, to) in deletes.iter() {
            let head = if last == Some(client) { 0 } else { RUN_HEAD };
            if part.len() >= EVENT_DELETES || self.used + head + RANGE > self.max_bytes {
                self.close(DeleteSet::from_ranges(std::mem::take(&mut part)));
                self.used += RUN_HEAD;
            } else {
                self.used += head;
            }
            self.used += RANGE;
            part.push((client, from, to));
            last = Some(client);
        }
        self.close(DeleteSet::from_ranges(part));
    }
}

/// The content of a long block from unit `at` on.
struct Rest<'a> {
    kind: Kind,
    at: u32,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn new(block: &Block, buf: &'a [u8]) -> Option<Self> {
        let kind = block.kind();
        let content = crate::block::slice(buf, block.content, block.end);
        matches!(kind, Kind::String | Kind::Any | Kind::Json).then(|| Rest {
            kind,
            at: 0,
            bytes: skip_number(content),
        })
    }

    /// How much of it fits into `room` bytes: units and bytes. Never half of a surrogate pair.
    fn measure(&self, room: usize) -> (u32, usize) {
        let (mut units, mut at) = (0, 0);
        if self.kind == Kind::String {
            while let Some(lead) = self.bytes.get(at) {
                let (size, width) = char_size(*lead);
                if at + size > room {
                    break;
                }
                at += size;
                units += width;
            }
            return (units, at);
        }
        let mut r = Reader::new(self.bytes);
        while !r.is_empty() && skip_element(&mut r, self.kind).is_ok() && r.position() <= room {
            at = r.position();
            units += 1;
        }
        (units, at)
    }

    fn take(&mut self, units: u32, bytes: usize) -> Body<'a> {
        let (now, later) = self.bytes.split_at_checked(bytes).unwrap_or((self.bytes, &[]));
        self.at += units;
        self.bytes = later;
        match self.kind {
            Kind::String => Body::Text {
                half_before: false,
                text: now,
                half_after: false,
            },
            _ => Body::Elements(now),
        }
    }
}

/// Bytes that must be written before one unit of a block in a part of its own.
pub(crate) fn piece_head(block: &Block) -> usize {
    ((block.content - block.start) as usize).max(CUT_HEAD) + NUMBER + RUN_HEAD + COUNTS
}

/// The length of the largest indivisible piece of a block, in bytes, with everything that must be written before it in
/// a part of its own.
pub(crate) fn largest_piece(block: &Block, buf: &[u8]) -> usize {
    let size = (block.end - block.start) as usize;
    let head = piece_head(block);
    let Some(rest) = Rest::new(block, buf) else {
        return size + RUN_HEAD + COUNTS;
    };
    if rest.kind == Kind::String {
        return head + 4;
    }
    let mut r = Reader::new(rest.bytes);
    let (mut largest, mut before) = (0, 0);
    while !r.is_empty() && skip_element(&mut r, rest.kind).is_ok() {
        largest = largest.max(r.position() - before);
        before = r.position();
    }
    head + largest
}
