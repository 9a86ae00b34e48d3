//! The order in which an update's blocks can be applied: each after the blocks that it refers to. Must not recurse;
//! linear.

use crate::Update;
use crate::block::Block;
use crate::update::Run;

/// Blocks whose references form a cycle: no engine can apply them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// One of them.
    pub(crate) at: crate::Id,
}

/// The progress of one client's blocks, and whether another client waits for it.
struct Lane<'a> {
    run: &'a Run,
    blocks: &'a [Block],
    next: usize,
    waiting: bool,
}

impl Lane<'_> {
    fn head(&self) -> Option<&Block> {
        self.blocks.get(self.next)
    }
}

/// Calls `visit` with the position of every block, each after the blocks of this update that it refers to and after the
/// earlier blocks of its client. References to blocks outside of the update are treated as known.
pub(crate) fn in_order(update: &Update, mut visit: impl FnMut(usize)) -> Result<(), Circle> {
    if update.runs.len() <= 1 {
        (0..update.blocks.len()).for_each(visit);
        return Ok(());
    }
    let mut lanes: Vec<Lane<'_>> = update
        .runs
        .iter()
        .map(|run| Lane {
            run,
            blocks: update.run_blocks(run),
            next: 0,
            waiting: false,
        })
        .collect();
    for start in 0..lanes.len() {
        let end = lanes.get(start).map_or(0, |lane| lane.run.to);
        let mut stack = vec![(start, end)];
        mark(&mut lanes, start, true);
        while let Some((at, until)) = stack.last().copied() {
            let Some(block) = lanes
                .get(at)
                .and_then(|l| l.head())
                .filter(|b| b.clock < until)
                .copied()
            else {
                stack.pop();
                mark(&mut lanes, at, false);
                continue;
            };
            match first_missing(update, &lanes, at, &block) {
                Some((lane, _)) if lanes.get(lane).is_some_and(|l| l.waiting) => {
                    return Err(Circle { at: block.id() });
                }
                Some((lane, clock)) => {
                    mark(&mut lanes, lane, true);
                    stack.push((lane, clock + 1));
                }
                None => {
                    if let Some(lane) = lanes.get_mut(at) {
                        visit(lane.run.first as usize + lane.next);
                        lane.next += 1;
                    }
                }
            }
        }
    }
    Ok(())
}

fn mark(lanes: &mut [Lane<'_>], at: usize, waiting: bool) {
    if let Some(lane) = lanes.get_mut(at) {
        lane.waiting = waiting;
    }
}

/// The first reference of a block to a block of another client that is in the update and not yet visited.
fn first_missing(update: &Update, lanes: &[Lane<'_>], own: usize, block: &Block) -> Option<(usize, u32)> {
    block.links.needs().find_map(|id| {
        if id.client == block.client {
            return None;
        }
        let lane = update.run_of(id.client).filter(|lane| *lane != own)?;
        let there = lanes.get(lane)?;
        let head = there.head()?;
        (head.clock <= id.clock && id.clock < there.run.to).then_some((lane, id.clock))
    })
}
