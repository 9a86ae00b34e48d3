//! What of an update somebody lacks who has a given state vector.

use crate::block::Kind;
use crate::builder::Builder;
use crate::{DeleteSet, StateVector, Update};

/// What a peer with this state vector lacks: blocks beyond it, cut in the middle where it ends there, and the whole
/// delete set (a state vector doesn't tell which deletions are known). As `Y.diffUpdate`.
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
        // A hole at the beginning says nothing.
        let holes = rest.iter().take_while(|b| b.kind() == Kind::Skip).count();
        for block in rest.get(holes..).unwrap_or_default() {
            let cut = known.saturating_sub(block.clock);
            out.push_part(block, &update.buf, cut, block.len);
        }
    }
    out.finish(deletes)
}
