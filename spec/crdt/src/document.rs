//! An open document: its bytes, and just enough of an index to compute a diff without parsing it. Must not use an
//! engine.

use crate::block::Block;
use crate::builder::Builder;
use crate::lib0::{Reader, Writer};
use crate::parse::read_block;
use crate::update::Run;
use crate::{ClientId, DeleteSet, ParseError, StateHash, StateVector, Update, compact, diff};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One mark per this many blocks records a byte position: 12 bytes of memory for about 300 of document, and a diff
/// parses at most this many blocks.
const MARK_EVERY: u32 = 32;

/// A full lane grows by this part of its length.
const GROWTH_PARTS: usize = 8;

/// Growth below this, in bytes, is not worth a compaction.
const COMPACT_MIN: usize = 16 << 10;

/// Why an update can't be applied. Admitted updates can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Earlier blocks of a client are missing.
    #[error("the blocks of client {client} end at {known_end}, but the update starts at {from}")]
    Gap {
        /// The client.
        client: ClientId,
        /// The end of the document's blocks.
        known_end: u32,
        /// The start of the update's blocks.
        from: u32,
    },
    /// The bytes of a stored document can't be parsed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
}

/// A whole document in memory; it takes about its own size in bytes.
#[derive(Clone, Debug, Default)]
pub struct Document {
    lanes: BTreeMap<ClientId, Lane>,
    sv: StateVector,
    deletes: DeleteSet,
    /// The encoded delete set, computed at the first use after a change.
    deletes_wire: OnceLock<Vec<u8>>,
    /// Bytes as of the last compaction, and bytes added since.
    settled: usize,
    grown: usize,
}

/// All blocks of one client, as encoded.
#[derive(Clone, Debug, Default)]
struct Lane {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    blocks: u32,
    end: u32,
}

/// The `block`-th block begins at this byte and at this clock.
#[derive(Clone, Copy, Debug)]
struct Mark {
    clock: u32,
    byte: u32,
    block: u32,
}

impl Document {
    /// An empty document.
    pub fn new() -> Self {
        Document::default()
    }

    /// From the output of [`Document::encode`], or any update with all blocks from clock 0 on.
    pub fn from_update(bytes: Bytes) -> Result<Document, ApplyError> {
        Document::from_parsed(&Update::parse(bytes)?)
    }

    /// The same from a parsed update.
    pub fn from_parsed(update: &Update) -> Result<Document, ApplyError> {
        let mut document = Document::new();
        document.append(update)?;
        // A stored document lives long and grows slowly, so spare capacity is released.
        for lane in document.lanes.values_mut() {
            lane.bytes.shrink_to_fit();
            lane.marks.shrink_to_fit();
        }
        document.settled = document.byte_len();
        document.grown = 0;
        Ok(document)
    }

    /// Applies an update; known parts are skipped. An error changes nothing. The cost is about proportional to the
    /// length of the update; occasional compactions keep the sum linear.
    pub fn apply(&mut self, update: &Update) -> Result<(), ApplyError> {
        self.append(update)?;
        if self.grown > COMPACT_MIN.max(self.settled / 2) {
            self.compact();
        }
        Ok(())
    }

    /// Makes the document as small as possible. Also happens automatically.
    pub fn compact(&mut self) {
        // A document that does not parse, or has a gap, stays unchanged: compaction must not lose content.
        let small = self.to_update().map(|whole| compact(&whole));
        if let Ok(Ok(small)) = small.map(|update| Document::from_parsed(&update)) {
            *self = small;
        }
    }

    /// For each client, the known clocks.
    pub fn state_vector(&self) -> &StateVector {
        &self.sv
    }

    /// The delete set.
    pub fn delete_set(&self) -> &DeleteSet {
        &self.deletes
    }

    /// The state hash.
    pub fn state_hash(&self) -> StateHash {
        StateHash::of(&self.sv, &self.deletes)
    }

    /// The part of an update that is new here: blocks beyond the state vector, and unknown deletions.
    pub fn only_new(&self, update: &Update) -> Update {
        let blocks = diff(update, &self.sv);
        blocks.without_deletes(&self.deletes)
    }

    /// The update (v1) that a peer with this state vector lacks. As in Yjs, it has all deletions.
    pub fn diff(&self, sv: &StateVector) -> Vec<u8> {
        let lacking: Vec<_> = self
            .lanes
            .iter()
            .rev()
            .filter_map(|(client, lane)| lane.beyond(*client, sv.get(*client)))
            .collect();
        let deletes = self.deletes_wire.get_or_init(|| self.deletes.encode());
        let size: usize = lacking.iter().map(|part| part.first.len() + part.rest.len() + 20).sum();
        let mut w = Writer::with_capacity(size + deletes.len() + 8);
        w.var_uint(lacking.len() as u64);
        for part in &lacking {
            w.var_uint(u64::from(part.blocks));
            w.var_uint(part.client.get());
            w.var_uint(u64::from(part.from));
            w.raw(&part.first);
            w.raw(part.rest);
        }
        w.raw(deletes);
        w.into_vec()
    }

    /// The whole document as one update (v1).
    pub fn encode(&self) -> Vec<u8> {
        self.diff(&StateVector::new())
    }

    /// The whole document as a parsed update. Fails only if the document exceeds the parser's limits.
    pub fn to_update(&self) -> Result<Update, ParseError> {
        Update::parse(self.encode().into())
    }

    /// Whether both hold the same bytes. Equal texts that were compacted at different times may differ.
    pub fn has_same_bytes(&self, other: &Document) -> bool {
        let same = |(ours, theirs): (&Lane, &Lane)| ours.bytes == theirs.bytes;
        self.sv == other.sv && self.deletes == other.deletes && self.lanes.values().zip(other.lanes.values()).all(same)
    }

    /// The approximate memory in bytes, which is about the encoded length.
    pub fn byte_len(&self) -> usize {
        let lanes: usize = self
            .lanes
            .values()
            .map(|l| l.bytes.len() + l.marks.len() * size_of::<Mark>() + 16)
            .sum();
        lanes + self.deletes.len() * 8
    }

    /// The number of blocks, as they are encoded.
    pub fn block_count(&self) -> usize {
        self.lanes.values().map(|lane| lane.blocks as usize).sum()
    }

    /// Applies an update without any compaction: the cost does not depend on the document. An error changes nothing.
    pub fn append(&mut self, update: &Update) -> Result<(), ApplyError> {
        for run in &update.runs {
            let known_end = self.sv.get(run.client);
            let hole = update
                .run_blocks(run)
                .iter()
                .find(|b| b.kind() == crate::Kind::Skip && b.end_clock() > known_end);
            let from = hole.map_or(run.from, Block::end_clock);
            if from > known_end {
                return Err(ApplyError::Gap {
                    client: run.client,
                    known_end,
                    from,
                });
            }
        }
        for run in &update.runs {
            self.append_run(update, run);
        }
        if !update.deletes.is_empty() {
            self.deletes.merge(&update.deletes);
            self.deletes_wire.take();
            self.grown += update.deletes.len() * 8;
        }
        Ok(())
    }

    fn append_run(&mut self, update: &Update, run: &Run) {
        let known_end = self.sv.get(run.client);
        let blocks = update.run_blocks(run);
        let first = blocks.partition_point(|b| b.end_clock() <= known_end);
        let new = blocks.get(first..).unwrap_or_default();
        if new.is_empty() {
            return;
        }
        let lane = self.lanes.entry(run.client).or_default();
        let before = lane.bytes.len();
        lane.reserve(new);
        for block in new {
            lane.push(block, &update.buf, known_end.saturating_sub(block.clock));
        }
        self.grown += lane.bytes.len() - before;
        self.sv.set(run.client, lane.end);
    }
}

/// What a peer lacks of one lane: the block in which its knowledge ends, rewritten, and the rest unchanged.
struct Beyond<'a> {
    client: ClientId,
    from: u32,
    blocks: u32,
    first: Vec<u8>,
    rest: &'a [u8],
}

impl Lane {
    /// Makes room for these blocks. A lane that is full grows by an eighth: a document is mostly one or a few long lanes,
    /// and doubling their capacity would double its memory with the first edit.
    fn reserve(&mut self, blocks: &[Block]) {
        let more = match (blocks.first(), blocks.last()) {
            (Some(first), Some(last)) => last.end.saturating_sub(first.start) as usize,
            _ => 0,
        };
        if self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.reserve_exact(more.max(self.bytes.len() / GROWTH_PARTS));
        }
        let marks = blocks.len() / MARK_EVERY as usize + 1;
        if self.marks.capacity() - self.marks.len() < marks {
            self.marks.reserve_exact(marks.max(self.marks.len() / GROWTH_PARTS));
        }
    }

    /// Appends a block, or the part of it that begins `cut` units in.
    fn push(&mut self, block: &Block, buf: &[u8], cut: u32) {
        if self.blocks.is_multiple_of(MARK_EVERY) {
            self.marks.push(Mark {
                clock: self.end,
                byte: self.bytes.len() as u32,
                block: self.blocks,
            });
        }
        if cut == 0 {
            self.bytes.extend_from_slice(block.raw(buf));
        } else {
            self.bytes.extend_from_slice(&part_bytes(block, buf, cut));
        }
        self.blocks += 1;
        self.end = block.end_clock();
    }

    fn beyond(&self, client: ClientId, known: u32) -> Option<Beyond<'_>> {
        if known >= self.end {
            return None;
        }
        let next = self.marks.partition_point(|m| m.clock <= known);
        let mark = self.marks.get(next.checked_sub(1)?)?;
        let bytes = self.bytes.get(mark.byte as usize..)?;
        let mut r = Reader::new(bytes);
        let (mut clock, mut passed) = (mark.clock, mark.block);
        loop {
            // The blocks of a lane were parsed before, and this one ends beyond `known`.
            let block = read_block(&mut r, client, clock).ok()?;
            clock = block.end_clock();
            if known < clock {
                let cut = known - block.clock;
                let first = if cut == 0 {
                    block.raw(bytes).to_vec()
                } else {
                    part_bytes(&block, bytes, cut)
                };
                return Some(Beyond {
                    client,
                    from: known,
                    blocks: self.blocks - passed,
                    first,
                    rest: r.rest(),
                });
            }
            passed += 1;
        }
    }
}

fn part_bytes(block: &Block, buf: &[u8], cut: u32) -> Vec<u8> {
    let mut one = Builder::default();
    one.push_part(block, buf, cut, block.len);
    one.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_document_has_no_spare_capacity() {
        let mut bytes = vec![1, 200, 1, 1, 0];
        for clock in 0..200_u8 {
            bytes.extend([4, 1, 1, b't', 1, b'a' + clock % 26]);
        }
        bytes.push(0);
        let document = Document::from_update(bytes.into()).unwrap();
        let lane = document.lanes.values().next().unwrap();
        assert_eq!((lane.blocks, lane.bytes.len()), (200, 1_200));
        assert_eq!(document.block_count(), 200);
        assert_eq!(lane.bytes.capacity(), lane.bytes.len());
        assert_eq!(lane.marks.capacity(), lane.marks.len());
    }

    #[test]
    fn an_edit_of_a_loaded_document_reserves_little() {
        let mut bytes = vec![1, 200, 1, 1, 0];
        for clock in 0..200_u8 {
            bytes.extend([4, 1, 1, b't', 1, b'a' + clock % 26]);
        }
        bytes.push(0);
        assert_eq!(
            Update::parse_at_most(bytes.clone().into(), 200).unwrap().block_count(),
            200
        );
        let error = Update::parse_at_most(bytes.clone().into(), 199).unwrap_err();
        assert_eq!(error.what, crate::Malformed::TooManyBlocks(199));
        let mut document = Document::from_update(bytes.into()).unwrap();
        let letter = vec![1, 1, 1, 200, 1, 4, 1, 1, b't', 1, b'a', 0];
        document.append(&Update::parse(letter.into()).unwrap()).unwrap();
        let lane = document.lanes.values().next().unwrap();
        assert_eq!((lane.blocks, lane.bytes.len()), (201, 1_206));
        assert!(lane.bytes.capacity() <= 1_206 + 1_206 / GROWTH_PARTS);
    }
}
