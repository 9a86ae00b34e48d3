//! Several updates as one. A sweep over sorted runs of blocks: linear but for the sort, whatever the order and overlap.

use crate::block::{Block, Kind, slice};
use crate::builder::Builder;
use crate::{ClientId, DeleteSet, Update, limits};
use std::cmp::{Ordering, Reverse};

/// Why updates cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Together they are longer than an update may be.
    #[error("{bytes} bytes of updates are too many to merge")]
    TooLarge {
        /// How long they are together.
        bytes: usize,
    },
}

/// Blocks of one client without a hole between them, in one of the updates.
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

    /// Where two tell of the same clocks, the longer comes first, then the one with lower bytes: the order in which the
    /// updates were given decides nothing.
    fn order(&self, other: &Self) -> Ordering {
        (self.client, self.from, Reverse(self.to))
            .cmp(&(other.client, other.from, Reverse(other.to)))
            .then_with(|| self.bytes().cmp(other.bytes()))
    }
}

/// One update with all blocks and deletions of the given ones, which may overlap and come in any order. Neighbouring blocks
/// are not joined (see [`crate::compact()`]); clocks that none of them brings between others become Skip blocks.
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

/// Appends what a segment has beyond what is there.
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
