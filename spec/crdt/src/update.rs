//! A parsed update: the blocks by client, the positions of their bytes, and the delete set. Must not decide about
//! admission.

use crate::block::{Block, BlockView, Kind, slice};
use crate::lib0::{Writer, var_uint_len};
use crate::parse::{self, ParseError};
use crate::{ClientId, DeleteSet, Id, StateHash, StateVector};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The blocks of one client: `count` from `first` on in the update's list, clocks `[from, to)` without interruption (a
/// gap is a Skip block), bytes `[start, end)` of the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) client: ClientId,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A v1 update as data. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Update {
    pub(crate) buf: Bytes,
    pub(crate) blocks: Vec<Block>,
    /// Ascending by client.
    pub(crate) runs: Vec<Run>,
    pub(crate) deletes: DeleteSet,
    pub(crate) wire_len: usize,
}

impl Update {
    /// An empty update.
    pub fn new() -> Self {
        Update {
            wire_len: 2,
            ..Update::default()
        }
    }

    /// Parses a v1 update. The grammar is in `spec/docs/updates.md`; [`crate::admit`] decides whether it may be
    /// applied.
    pub fn parse(bytes: Bytes) -> Result<Update, ParseError> {
        parse::update(bytes, usize::MAX)
    }

    /// The same for an update of at most `blocks` blocks: a parsed block takes some 72 bytes, whatever its encoded length.
    ///
    /// # Errors
    /// As [`Update::parse`], and [`crate::Malformed::TooManyBlocks`].
    pub fn parse_at_most(bytes: Bytes, blocks: usize) -> Result<Update, ParseError> {
        parse::update(bytes, blocks)
    }

    /// The number of blocks.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// An update that only deletes.
    pub fn from_deletes(deletes: DeleteSet) -> Update {
        let mut update = Update::new();
        update.set_deletes(deletes);
        update
    }

    /// The v1 encoding, with clients in descending order as in Yjs. Equal updates have equal encodings.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.buf.len() + 16 + self.runs.len() * 16);
        w.var_uint(self.runs.len() as u64);
        for run in self.runs.iter().rev() {
            w.var_uint(u64::from(run.count));
            w.var_uint(run.client.get());
            w.var_uint(u64::from(run.from));
            w.raw(slice(&self.buf, run.start, run.end));
        }
        self.deletes.write(&mut w);
        w.into_vec()
    }

    /// The length in bytes when it was parsed, or of its encoding.
    pub fn wire_len(&self) -> usize {
        self.wire_len
    }

    /// Whether it has neither blocks nor deletions.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.deletes.is_empty()
    }

    /// For each client, the clocks `[from, to)` from its first to its last block (with gaps, if there are Skip blocks
    /// between).
    pub fn ranges(&self) -> BTreeMap<ClientId, (u32, u32)> {
        self.runs
            .iter()
            .filter_map(|run| {
                let mut solid = self.run_blocks(run).iter().filter(|b| b.kind() != Kind::Skip);
                let first = solid.next()?;
                let last = solid.next_back().unwrap_or(first);
                Some((run.client, (first.clock, last.end_clock())))
            })
            .collect()
    }

    /// The state vector of a document with this update alone: for each client whose blocks start at 0, the end of its
    /// blocks or the start of the first gap. As `Y.encodeStateVectorFromUpdate`.
    pub fn state_vector(&self) -> StateVector {
        let known = self.runs.iter().filter(|run| run.from == 0).map(|run| {
            let hole = self.run_blocks(run).iter().find(|b| b.kind() == Kind::Skip);
            (run.client, hole.map_or(run.to, |b| b.clock))
        });
        known.collect()
    }

    /// The state hash of a document with this update alone.
    pub fn state_hash(&self) -> StateHash {
        StateHash::of(&self.state_vector(), &self.deletes)
    }

    /// The delete set.
    pub fn delete_set(&self) -> &DeleteSet {
        &self.deletes
    }

    /// The same without the deletions in `known`. Returning editors send all deletions that they have ever received;
    /// this leaves the new ones.
    pub fn without_deletes(&self, known: &DeleteSet) -> Update {
        let mut update = self.clone();
        update.set_deletes(self.deletes.difference(known));
        update
    }

    /// For each client, how far the blocks and deletions of this update refer to blocks that it does not contain. An
    /// update can be applied to a document with this state vector.
    pub fn needs(&self) -> StateVector {
        let ranges = self.ranges();
        let mut needs = StateVector::new();
        let mut note = |id: Id| {
            let own = ranges
                .get(&id.client)
                .is_some_and(|(from, to)| *from <= id.clock && id.clock < *to);
            if !own {
                needs.raise(id.client, id.clock.saturating_add(1));
            }
        };
        for block in &self.blocks {
            block.links.needs().for_each(&mut note);
        }
        for (client, _, to) in self.deletes.iter() {
            note(Id { client, clock: to - 1 });
        }
        for (client, (from, _)) in &ranges {
            needs.raise(*client, *from);
        }
        needs
    }

    /// All blocks, by client ascending, then by clock.
    pub fn blocks(&self) -> impl Iterator<Item = BlockView<'_>> + '_ {
        self.runs
            .iter()
            .flat_map(|run| self.run_blocks(run))
            .map(|b| BlockView::new(b, &self.buf))
    }

    pub(crate) fn run_blocks(&self, run: &Run) -> &[Block] {
        let first = run.first as usize;
        self.blocks.get(first..first + run.count as usize).unwrap_or_default()
    }

    pub(crate) fn run_of(&self, client: ClientId) -> Option<usize> {
        self.runs.binary_search_by_key(&client, |run| run.client).ok()
    }

    /// The position in `blocks` of the block that contains a unit.
    pub(crate) fn find(&self, id: Id) -> Option<usize> {
        let run = self.runs.get(self.run_of(id.client)?)?;
        if id.clock < run.from || id.clock >= run.to {
            return None;
        }
        let within = self.run_blocks(run).partition_point(|b| b.end_clock() <= id.clock);
        Some(run.first as usize + within)
    }

    pub(crate) fn set_deletes(&mut self, deletes: DeleteSet) {
        self.deletes = deletes;
        self.wire_len = self.measure();
    }

    pub(crate) fn measure(&self) -> usize {
        let mut len = var_uint_len(self.runs.len() as u64);
        for run in &self.runs {
            len +=
                var_uint_len(u64::from(run.count)) + var_uint_len(run.client.get()) + var_uint_len(u64::from(run.from));
            len += (run.end - run.start) as usize;
        }
        len + self.deletes.wire_len()
    }
}

impl PartialEq for Update {
    fn eq(&self, other: &Self) -> bool {
        self.wire_len == other.wire_len && self.encode() == other.encode()
    }
}

impl Eq for Update {}
