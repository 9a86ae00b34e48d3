//! Builds an update from blocks: bytes and the list of blocks at once, so that nothing is parsed twice. Must not be
//! given blocks out of order.

use crate::block::{Block, Kind, Links};
use crate::lib0::Writer;
use crate::update::{Run, Update};
use crate::{ClientId, DeleteSet};

/// Blocks must be added by ascending client and without gaps in the clocks.
#[derive(Default)]
pub(crate) struct Builder {
    w: Writer,
    blocks: Vec<Block>,
    runs: Vec<Run>,
}

/// All fields of a block except the position of its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) client: ClientId,
    pub(crate) clock: u32,
    pub(crate) len: u32,
    pub(crate) links: Links,
}

impl Builder {
    pub(crate) fn with_capacity(bytes: usize, blocks: usize) -> Self {
        Builder {
            w: Writer::with_capacity(bytes),
            blocks: Vec::with_capacity(blocks),
            runs: Vec::new(),
        }
    }

    pub(crate) fn byte_len(&self) -> usize {
        self.w.len()
    }

    pub(crate) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The clock after the last block of a client, if its blocks are the last ones.
    pub(crate) fn end_of(&self, client: ClientId) -> Option<u32> {
        self.runs.last().filter(|run| run.client == client).map(|run| run.to)
    }

    /// Adds a block unchanged.
    pub(crate) fn push(&mut self, block: &Block, buf: &[u8]) {
        let start = self.w.len() as u32;
        self.w.raw(block.raw(buf));
        let moved = Block {
            start,
            content: start + (block.content - block.start),
            end: self.w.len() as u32,
            ..*block
        };
        self.note(moved);
    }

    /// Adds units `[a, b)` of a block.
    pub(crate) fn push_part(&mut self, block: &Block, buf: &[u8], a: u32, b: u32) {
        if a == 0 && b == block.len {
            return self.push(block, buf);
        }
        let shape = Shape {
            client: block.client,
            clock: block.clock + a,
            len: b - a,
            links: block.links_at(a),
        };
        let body = block.body(buf, a, b);
        self.push_built(
            shape,
            |w| block.write_head(w, buf, a, block.kind()),
            |w| body.write(w, b - a),
        );
    }

    /// Adds a gap of `len` units.
    pub(crate) fn push_skip(&mut self, client: ClientId, clock: u32, len: u32) {
        let shape = Shape {
            client,
            clock,
            len,
            links: Links::Root,
        };
        self.push_built(shape, |w| w.u8(Kind::Skip as u8), |w| w.var_uint(u64::from(len)));
    }

    /// Adds a block that is written here.
    pub(crate) fn push_built(
        &mut self,
        shape: Shape,
        head: impl FnOnce(&mut Writer),
        content: impl FnOnce(&mut Writer),
    ) {
        let start = self.w.len();
        head(&mut self.w);
        let content_at = self.w.len() as u32;
        content(&mut self.w);
        let info = self.w.as_slice().get(start).copied().unwrap_or(Kind::Skip as u8);
        self.note(Block {
            client: shape.client,
            clock: shape.clock,
            len: shape.len,
            links: shape.links,
            start: start as u32,
            content: content_at,
            end: self.w.len() as u32,
            info,
        });
    }

    fn note(&mut self, block: Block) {
        match self.runs.last_mut() {
            Some(run) if run.client == block.client => {
                run.count += 1;
                run.to = block.end_clock();
                run.end = block.end;
            }
            _ => self.runs.push(Run {
                client: block.client,
                first: self.blocks.len() as u32,
                count: 1,
                from: block.clock,
                to: block.end_clock(),
                start: block.start,
                end: block.end,
            }),
        }
        self.blocks.push(block);
    }

    /// Appends the blocks of another builder, whose clients follow this one's.
    pub(crate) fn append(&mut self, other: &Builder) {
        for block in &other.blocks {
            self.push(block, other.w.as_slice());
        }
    }

    /// The bytes of the blocks alone.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.w.into_vec()
    }

    pub(crate) fn finish(self, deletes: DeleteSet) -> Update {
        let mut update = Update {
            buf: self.w.into_vec().into(),
            blocks: self.blocks,
            runs: self.runs,
            deletes,
            wire_len: 0,
        };
        update.wire_len = update.measure();
        update
    }
}
