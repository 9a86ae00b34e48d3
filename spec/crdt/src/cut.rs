//! The part of an update that was there at an earlier time. Must not decide what was there: the caller names it.

use crate::block::Kind;
use crate::builder::Builder;
use crate::{DeleteSet, StateVector, Update};

/// The part of the update that a document with this state vector has: the blocks before it, divided where it ends inside
/// one, with `deletes` as the delete set. The counterpart of [`crate::diff()`].
///
/// If the update has everything that a document had at some time, and the arguments are its state vector and its delete
/// set at that time, the result is that document. What was deleted since is in it if the update still has the content.
/// Linear in the update.
pub fn cut(update: &Update, sv: &StateVector, deletes: DeleteSet) -> Update {
    let mut out = Builder::default();
    for run in &update.runs {
        let end = sv.get(run.client);
        let blocks = update.run_blocks(run);
        let before = blocks.partition_point(|block| block.clock < end);
        let blocks = blocks.get(..before).unwrap_or_default();
        // A gap at the end has no meaning.
        let solid = blocks.iter().rposition(|block| block.kind() != Kind::Skip);
        let solid = solid.map_or(0, |last| last + 1);
        for block in blocks.get(..solid).unwrap_or_default() {
            let keep = block.len.min(end - block.clock);
            out.push_part(block, &update.buf, 0, keep);
        }
    }
    out.finish(deletes)
}
