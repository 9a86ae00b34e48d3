//! The difference between an update and a state vector. Must not drop deletions.

use crate::block::Kind;
use crate::builder::Builder;
use crate::{DeleteSet, StateVector, Update};

/// The part of the update that a peer with this state vector lacks: the blocks beyond it, divided where it ends inside
/// one, and the whole delete set (a state vector does not cover deletions). As `Y.diffUpdate`.
pub fn diff(update: &Update, sv: &StateVector) -> Update {
    beyond(update, sv, update.deletes.clone())
}

pub(crate) fn beyond(update: &Update, sv: &StateVector, deletes: DeleteSet) -> Update {
    let mut out = Builder::default();
    for run in &update.runs {
        let known = sv.get(run.client);
        let blocks = update.run_blocks(run);
        let first = blocks.partition_point(|b| b.end_clock() <= known);
        let rest = blocks.get(first..).unwrap_or_default();
        // A gap at the beginning has no meaning.
        let holes = rest.iter().take_while(|b| b.kind() == Kind::Skip).count();
        for block in rest.get(holes..).unwrap_or_default() {
            let cut = known.saturating_sub(block.clock);
            out.push_part(block, &update.buf, cut, block.len);
        }
    }
    out.finish(deletes)
}
