//! Admission of live updates: takes as much of an editor's update as the rules allow, so that one inadmissible change
//! does not block an editor permanently. The rules in words are in `spec/docs/admission.md` ("Live editors"); must not
//! be changed without them.
//!
//! Three allowances are made that events do not have: blocks of another user's client id are cut off, blocks that refer
//! to unknown ones are left out, and content that no event can carry is taken as deleted. The accepted part always
//! passes as events after [`crate::split()`]. Total and linear; must not guess the intention of a sender.

use crate::admission::{admit_within, check_counts, check_kind};
use crate::block::{Block, Kind, Links};
use crate::builder::{Builder, Shape};
use crate::content::{Body, skip_number};
use crate::lib0::Reader;
use crate::limits::{EVENT_OVERHEAD, REFUSED_VALUE_NESTING};
use crate::parse::{self, read_block, skip_element, skip_element_within};
use crate::split::{largest_piece, piece_head};
use crate::update::Run;
use crate::{Admission, Bounds, ClientId, DeleteSet, Id, Known, Malformed, Refusal, StateVector, Update};
use bytes::Bytes;
use std::collections::BTreeMap;

/// An update of a live editor as received: values may be nested too deeply or be malformed JSON.
#[derive(Clone, Debug)]
pub struct LiveUpdate {
    update: Update,
    /// The positions of the blocks with such values.
    faulty: Vec<usize>,
}

/// Content that no event can carry. It was accepted as deleted, so that later content keeps its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The first unit.
    pub at: Id,
    /// The number of units.
    pub len: u32,
    /// The reason.
    pub reason: Refusal,
}

/// The accepted part of an update, and what was left out.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The admissible part without known blocks; empty if there is none. Includes the deletions of `refused`.
    pub update: Update,
    /// Content that was accepted as deleted.
    pub refused: Vec<Refused>,
    /// Client ids of other users whose new blocks were cut off, with their owners.
    pub foreign: BTreeMap<ClientId, String>,
    /// Some of the sender's own content was left out because it refers to unknown blocks.
    pub waits: bool,
}

impl Taken {
    fn whole(update: Update) -> Self {
        Taken {
            update,
            refused: Vec::new(),
            foreign: BTreeMap::new(),
            waits: false,
        }
    }
}

impl LiveUpdate {
    /// Parses a v1 update.
    ///
    /// # Errors
    /// It is not one, or it has more blocks than a live update may have.
    pub fn parse(bytes: Bytes) -> Result<Self, Refusal> {
        let limit = Bounds::LIVE.blocks;
        match parse::update_with_faults(bytes, limit) {
            Ok((update, faulty)) => Ok(LiveUpdate { update, faulty }),
            Err(error) if matches!(error.what, Malformed::TooManyBlocks(_)) => Err(Refusal::TooMany {
                what: "blocks",
                count: limit + 1,
                limit,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// For each client, the clocks `[from, to)` from its first to its last block, at the end of what `known` has.
    /// Clients whose blocks are all known are left out.
    pub fn new_ranges(&self, known: &StateVector) -> impl Iterator<Item = (ClientId, u32, u32)> {
        let ranges = self.update.ranges().into_iter();
        ranges.filter_map(|(client, (from, to))| {
            let from = from.max(known.get(client));
            (from < to).then_some((client, from, to))
        })
    }

    /// The deletions, as received.
    pub fn deletes(&self) -> &DeleteSet {
        self.update.delete_set()
    }
}

/// Decides which part of a live editor's update is accepted.
///
/// # Errors
/// The whole update is refused: it is too large, or no editor can have made its blocks.
pub fn take_live(live: &LiveUpdate, sender: &str, known: &impl Known) -> Result<Taken, Refusal> {
    let LiveUpdate { update, faulty } = live;
    if faulty.is_empty() {
        // Nearly all updates pass unchanged.
        match admit_within(update, sender, known, &Bounds::LIVE) {
            Ok(Admission::Admitted { update, .. }) => {
                return Ok(Taken::whole(update));
            }
            Ok(Admission::Known) => return Ok(Taken::whole(Update::new())),
            Ok(Admission::Gap { .. }) | Err(_) => {}
        }
    }
    check_counts(update, &Bounds::LIVE)?;
    let mut lanes = Lanes::new(update, sender, known);
    lanes.walk()?;
    let (mut out, mut refused) = (Builder::default(), Vec::new());
    for lane in &lanes.lanes {
        lane.write(update, faulty, &mut out, &mut refused)?;
    }
    let (mut deletes, left_out) = lanes.known_deletes();
    deletes.extend(refused.iter().map(|block: &Refused| {
        let from = block.at.clock;
        (block.at.client, from, from.saturating_add(block.len))
    }));
    Ok(Taken {
        update: out.finish(DeleteSet::from_ranges(deletes)),
        refused,
        waits: left_out || lanes.lanes.iter().any(|lane| lane.stop == Some(Stop::Waits)),
        foreign: lanes.foreign,
    })
}

/// Why the rest of a client's blocks is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Another user owns the client id.
    Foreign,
    /// They refer to unknown blocks.
    Waits,
}

/// How far the blocks of one client are accepted.
struct Lane<'a> {
    run: &'a Run,
    blocks: &'a [Block],
    /// The first block that is not fully known, and the first that is not accepted.
    first: usize,
    next: usize,
    /// The end of the known blocks, and the end of the accepted ones.
    known: u32,
    reached: u32,
    stop: Option<Stop>,
    waiting: bool,
}

impl Lane<'_> {
    fn head(&self) -> Option<&Block> {
        self.blocks.get(self.next).filter(|_| self.stop.is_none())
    }

    fn write(
        &self,
        update: &Update,
        faulty: &[usize],
        out: &mut Builder,
        refused: &mut Vec<Refused>,
    ) -> Result<(), Refusal> {
        for (at, block) in self.blocks.iter().enumerate().take(self.next).skip(self.first) {
            let cut = self.known.saturating_sub(block.clock);
            let at_fault = faulty.binary_search(&(self.run.first as usize + at)).is_ok();
            let piece = Piece {
                update,
                block,
                cut,
                at_fault,
            };
            piece.write(out, refused)?;
        }
        Ok(())
    }
}

struct Lanes<'a, K> {
    update: &'a Update,
    known: &'a K,
    lanes: Vec<Lane<'a>>,
    /// Clients whose blocks have another owner.
    foreign: BTreeMap<ClientId, String>,
    sender: &'a str,
}

/// The next step for a block.
enum Step {
    Take,
    Stop,
    /// First the blocks of another client, up to this clock.
    After(usize, u32),
}

impl<'a, K: Known> Lanes<'a, K> {
    fn new(update: &'a Update, sender: &'a str, known: &'a K) -> Self {
        let mut lanes = Self {
            update,
            known,
            lanes: Vec::with_capacity(update.runs.len()),
            foreign: BTreeMap::new(),
            sender,
        };
        for run in &update.runs {
            let lane = lanes.lane(run);
            lanes.lanes.push(lane);
        }
        lanes
    }

    fn lane(&mut self, run: &'a Run) -> Lane<'a> {
        let known = self.known.end(run.client);
        let blocks = self.update.run_blocks(run);
        let first = blocks.partition_point(|block| block.end_clock() <= known);
        let owner = if run.to > known {
            self.known.owner(run.client)
        } else {
            None
        };
        let stop = match owner.filter(|owner| *owner != self.sender) {
            Some(owner) => {
                self.foreign.insert(run.client, owner.to_owned());
                Some(Stop::Foreign)
            }
            None if run.from > known => Some(Stop::Waits),
            None => None,
        };
        Lane {
            run,
            blocks,
            first,
            next: first,
            known,
            reached: known,
            stop,
            waiting: false,
        }
    }

    /// Visits the blocks in an order in which each follows the blocks it refers to. No recursion; linear.
    fn walk(&mut self) -> Result<(), Refusal> {
        for start in 0..self.lanes.len() {
            let end = self.update.runs.get(start).map_or(0, |run| run.to);
            let mut stack = vec![(start, end)];
            self.mark(start, true);
            while let Some((at, until)) = stack.last().copied() {
                let head = self.lanes.get(at).and_then(Lane::head);
                let Some(block) = head.filter(|block| block.clock < until).copied() else {
                    stack.pop();
                    self.mark(at, false);
                    continue;
                };
                let step = self.step(at, &block)?;
                let Some(lane) = self.lanes.get_mut(at) else { break };
                match step {
                    Step::Take => {
                        lane.reached = block.end_clock();
                        lane.next += 1;
                    }
                    Step::Stop => lane.stop = Some(Stop::Waits),
                    Step::After(other, clock) => {
                        if self.lanes.get(other).is_some_and(|lane| lane.waiting) {
                            return Err(Refusal::Circle { at: block.id() });
                        }
                        self.mark(other, true);
                        stack.push((other, clock.saturating_add(1)));
                    }
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, at: usize, waiting: bool) {
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.waiting = waiting;
        }
    }

    fn step(&self, at: usize, block: &Block) -> Result<Step, Refusal> {
        if block.kind() == Kind::Skip {
            return Ok(Step::Stop);
        }
        let known = self.lanes.get(at).map_or(0, |lane| lane.known);
        let cut = known.saturating_sub(block.clock);
        let links = block.links_at(cut);
        for to in links.needs() {
            if to.client == block.client {
                if to.clock >= block.clock + cut {
                    return Ok(Step::Stop);
                }
                continue;
            }
            if to.clock < self.known.end(to.client) {
                continue;
            }
            let Some(other) = self.update.run_of(to.client) else {
                return Ok(Step::Stop);
            };
            match self.lanes.get(other) {
                Some(lane) if to.clock < lane.reached => {}
                Some(lane) if lane.stop.is_none() && to.clock < lane.run.to => return Ok(Step::After(other, to.clock)),
                _ => return Ok(Step::Stop),
            }
        }
        match links {
            Links::Both(origin, right) if origin == right => Err(Refusal::OriginIsRightOrigin { at: block.id() }),
            _ => Ok(Step::Take),
        }
    }

    /// The deletions of known or accepted units, and whether any others were left out that do not concern another
    /// user's blocks.
    fn known_deletes(&self) -> (Vec<(ClientId, u32, u32)>, bool) {
        let (mut deletes, mut left_out) = (Vec::new(), false);
        for (client, from, to) in self.update.deletes.iter() {
            let lane = self.update.run_of(client).and_then(|at| self.lanes.get(at));
            let end = lane.map_or_else(|| self.known.end(client), |lane| lane.reached);
            if from < to.min(end) {
                deletes.push((client, from, to.min(end)));
            }
            let own = || self.known.owner(client).is_none_or(|owner| owner == self.sender);
            left_out |= to > end && own();
        }
        (deletes, left_out)
    }
}

/// The part of a block that is new.
struct Piece<'a> {
    update: &'a Update,
    block: &'a Block,
    /// The number of known units.
    cut: u32,
    at_fault: bool,
}

impl Piece<'_> {
    fn write(&self, out: &mut Builder, refused: &mut Vec<Refused>) -> Result<(), Refusal> {
        let (block, piece) = (self.block, Bounds::LIVE.piece);
        let small = (block.end - block.start) as usize + EVENT_OVERHEAD <= piece;
        if !self.at_fault && small && check_kind(self.update, block).is_ok() {
            out.push_part(block, &self.update.buf, self.cut, block.len);
            return Ok(());
        }
        if piece_head(block) > piece {
            // The name of a root or a key: a deleted block would have it as well.
            return Err(Refusal::PieceTooLarge {
                at: block.id(),
                bytes: largest_piece(block, &self.update.buf),
                limit: piece,
            });
        }
        if block.kind() == Kind::Any {
            self.write_elements(out, refused);
            return Ok(());
        }
        match self.fault() {
            Some(reason) => self.refuse(0, block.len, reason, out, refused),
            None => out.push_part(block, &self.update.buf, self.cut, block.len),
        }
        Ok(())
    }

    /// Why no event can carry the block, which is not a list.
    fn fault(&self) -> Option<Refusal> {
        let (block, buf) = (self.block, &self.update.buf);
        if let Err(refusal) = check_kind(self.update, block) {
            return Some(refusal);
        }
        if self.at_fault {
            let read = read_block(&mut Reader::new(block.raw(buf)), block.client, block.clock);
            return read.err().map(Refusal::from);
        }
        let bytes = largest_piece(block, buf);
        (bytes > Bounds::LIVE.piece).then_some(Refusal::PieceTooLarge {
            at: block.id(),
            bytes,
            limit: Bounds::LIVE.piece,
        })
    }

    /// A list of values, each checked by itself.
    fn write_elements(&self, out: &mut Builder, refused: &mut Vec<Refused>) {
        let block = self.block;
        let content = skip_number(crate::block::slice(&self.update.buf, block.content, block.end));
        let mut r = Reader::new(content);
        // The start of the valid elements that are not written yet, in units and bytes.
        let (mut unit, mut byte) = (0, 0);
        for at in 0..block.len {
            let start = r.position();
            let reason = self.element_fault(&mut r, at);
            let Some(reason) = reason else { continue };
            self.write_good(unit..at, content.get(byte..start).unwrap_or_default(), out);
            self.refuse(at, at + 1, reason, out, refused);
            (unit, byte) = (at + 1, r.position());
        }
        self.write_good(unit..block.len, content.get(byte..).unwrap_or_default(), out);
    }

    fn element_fault(&self, r: &mut Reader<'_>, at: u32) -> Option<Refusal> {
        let start = r.position();
        let mut strict = r.clone();
        let read = skip_element(&mut strict, Kind::Any);
        if let Err(error) = read {
            // It was read to its end before, with this bound.
            let _ = skip_element_within(r, Kind::Any, REFUSED_VALUE_NESTING);
            return Some(error.into());
        }
        *r = strict;
        let bytes = piece_head(self.block) + (r.position() - start);
        (bytes > Bounds::LIVE.piece).then(|| Refusal::PieceTooLarge {
            at: self.id(at),
            bytes,
            limit: Bounds::LIVE.piece,
        })
    }

    fn id(&self, unit: u32) -> Id {
        Id {
            client: self.block.client,
            clock: self.block.clock + unit,
        }
    }

    fn write_good(&self, units: std::ops::Range<u32>, bytes: &[u8], out: &mut Builder) {
        let (block, buf) = (self.block, &self.update.buf);
        let (mut a, mut bytes) = (units.start, bytes);
        if a < self.cut {
            let mut r = Reader::new(bytes);
            while a < self.cut.min(units.end) && skip_element(&mut r, Kind::Any).is_ok() {
                a += 1;
            }
            bytes = r.rest();
        }
        if a >= units.end {
            return;
        }
        let len = units.end - a;
        out.push_built(
            self.shape(a, len),
            |w| block.write_head(w, buf, a, Kind::Any),
            |w| Body::Elements(bytes).write(w, len),
        );
    }

    fn shape(&self, a: u32, len: u32) -> Shape {
        Shape {
            client: self.block.client,
            clock: self.block.clock + a,
            len,
            links: self.block.links_at(a),
        }
    }

    /// Units `[a, b)` become deleted ones.
    fn refuse(&self, a: u32, b: u32, reason: Refusal, out: &mut Builder, refused: &mut Vec<Refused>) {
        let a = a.max(self.cut);
        if a >= b {
            return;
        }
        let (block, buf, len) = (self.block, &self.update.buf, b - a);
        out.push_built(
            self.shape(a, len),
            |w| block.write_head(w, buf, a, Kind::Deleted),
            |w| Body::Units.write(w, len),
        );
        refused.push(Refused {
            at: self.id(a),
            len,
            reason,
        });
    }
}
