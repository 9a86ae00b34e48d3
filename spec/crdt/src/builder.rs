//! Puts blocks together into an update: bytes and the list of blocks at once, so that nothing is parsed twice.

use crate::block::{Block, Kind, Links};
use crate::lib0::Writer;
use crate::update::{Run, Update};
use crate::{ClientId, DeleteSet};

/// Blocks must come by client ascending and without interruption in clocks.
#[derive(Default)]
pub(crate) struct Builder {
    w: Writer,
    blocks: Vec<Block>,
    runs: Vec<Run>,
}

/// Everything of a block but where its bytes are.
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

    /// Where the blocks of a client end so far, if its blocks are the last ones.
    pub(crate) fn end_of(&self, client: ClientId) -> Option<u32> {
        self.runs.last().filter(|run| run.client == client).map(|run| run.to)
    }

    /// A block as it is.
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

    /// Units `[a, b)` of a block.
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

    /// A hole of `len` units.
    pub(crate) fn push_skip(&mut self, client: ClientId, clock: u32, len: u32) {
        let shape = Shape {
            client,
            clock,
            len,
            links: Links::Root,
        };
        self.push_built(shape, |w| w.u8(Kind::Skip as u8), |w| w.var_uint(u64::from(len)));
    }

    /// A block that is written here.
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

    /// Appends another's blocks, of clients that come after this one's.
    pub(crate) fn append(&mut self, other: &Builder) {
        for block in &other.blocks {
            self.push(block, other.w.as_slice());
        }
    }

    /// The blocks' bytes alone.
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
