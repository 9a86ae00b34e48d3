//! Merges several updates. A sweep over sorted runs of blocks: linear except for the sort, whatever the order and
//! overlap. Must not depend on the order of the updates.

use crate::block::{Block, Kind, slice};
use crate::builder::Builder;
use crate::{ClientId, DeleteSet, Update, limits};
use std::cmp::{Ordering, Reverse};

/// Why updates can't be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Their total length exceeds the limit of an update.
    #[error("the updates have {bytes} bytes in total, too many to merge")]
    TooLarge {
        /// Their total length in bytes.
        bytes: usize,
    },
}

/// Blocks of one client without a gap between them, in one of the updates.
struct Segment<'a> {
    client: ClientId,
    from: u32,
    to: u32,
    blocks: &'a [Block],
    buf: &'a [u8],
}

impl Segment<'_> {
    fn bytes(&self) -> &[u8] {
        match (self.blocks.first(), self.blocks.last()) {
            (Some(first), Some(last)) => slice(self.buf, first.start, last.end),
            _ => &[],
        }
    }

    /// If two cover the same clocks, the longer comes first, then the one with lower bytes: the order of the updates
    /// has no effect.
    fn order(&self, other: &Self) -> Ordering {
        (self.client, self.from, Reverse(self.to))
            .cmp(&(other.client, other.from, Reverse(other.to)))
            .then_with(|| self.bytes().cmp(other.bytes()))
    }
}

/// One update with all blocks and deletions of the given ones, which may overlap and be in any order. Neighbouring
/// blocks are not joined (see [`crate::compact()`]); clocks between others that no update has become Skip blocks.
pub fn merge(updates: &[Update]) -> Result<Update, MergeError> {
    let bytes = updates.iter().map(Update::wire_len).fold(0usize, usize::saturating_add);
    if bytes > limits::PARSE_BYTES {
        return Err(MergeError::TooLarge { bytes });
    }
    let mut segments = Vec::new();
    for update in updates {
        segments_of(update, &mut segments);
    }
    segments.sort_by(Segment::order);
    let blocks = updates.iter().map(|u| u.blocks.len()).sum();
    let mut out = Builder::with_capacity(updates.iter().map(|u| u.buf.len()).sum(), blocks);
    for segment in &segments {
        sweep(segment, &mut out);
    }
    let deletes = match updates {
        [one] => one.deletes.clone(),
        many => DeleteSet::from_ranges(many.iter().flat_map(|u| u.deletes.iter()).collect()),
    };
    Ok(out.finish(deletes))
}

fn segments_of<'a>(update: &'a Update, out: &mut Vec<Segment<'a>>) {
    for run in &update.runs {
        for blocks in update.run_blocks(run).split(|b| b.kind() == Kind::Skip) {
            if let (Some(first), Some(last)) = (blocks.first(), blocks.last()) {
                let (from, to) = (first.clock, last.end_clock());
                out.push(Segment {
                    client: run.client,
                    from,
                    to,
                    blocks,
                    buf: &update.buf,
                });
            }
        }
    }
}

/// Appends the part of a segment that is not in the output yet.
fn sweep(segment: &Segment<'_>, out: &mut Builder) {
    let end = out.end_of(segment.client).unwrap_or(segment.from);
    if segment.to <= end && out.end_of(segment.client).is_some() {
        return;
    }
    if segment.from > end {
        out.push_skip(segment.client, end, segment.from - end);
    }
    let first = segment.blocks.partition_point(|b| b.end_clock() <= end);
    for block in segment.blocks.get(first..).unwrap_or_default() {
        let cut = end.saturating_sub(block.clock);
        out.push_part(block, segment.buf, cut, block.len);
    }
}
