//! The nesting of shared types within one update. The rule is in `spec/docs/admission.md`; must not be changed without
//! it.

use crate::block::{Block, Kind, Links};
use crate::limits::TYPE_NESTING;
use crate::order::{self, Circle};
use crate::{Id, Update};

/// The result of following blocks to their parent types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// See [`Circle`].
    Circle(Id),
    /// This type is nested too deeply.
    TooDeep(Id),
}

/// Checks that the references of an update's blocks form no cycle, and that its types are not nested more deeply than
/// `types`.
pub(crate) fn check(update: &Update, types: u32) -> Result<(), Fault> {
    let deep_is_possible = types < u32::MAX && types_may_be_deep(update);
    if update.runs.len() <= 1 && !deep_is_possible {
        return Ok(());
    }
    // For each block, the number of types of this update around it.
    let mut depth = vec![0u32; if deep_is_possible { update.blocks.len() } else { 0 }];
    let mut too_deep = None;
    let walked = order::in_order(update, |at| {
        if !deep_is_possible {
            return;
        }
        let Some(block) = update.blocks.get(at) else { return };
        let inside = inside(block, |id| update.find(id).and_then(|to| depth.get(to)).copied());
        if block.kind() == Kind::Type && inside >= types && too_deep.is_none() {
            too_deep = Some(block.id());
        }
        if let Some(slot) = depth.get_mut(at) {
            *slot = inside;
        }
    });
    walked.map_err(|Circle { at }| Fault::Circle(at))?;
    too_deep.map_or(Ok(()), |id| Err(Fault::TooDeep(id)))
}

/// Whether there are enough types for one to be too deep.
pub(crate) fn types_may_be_deep(update: &Update) -> bool {
    update.blocks.iter().filter(|b| b.kind() == Kind::Type).count() > TYPE_NESTING as usize
}

/// The number of types around a block: one more than around its parent type if it names one, else as many as around its
/// left neighbour, else as around its right one. `of` returns the number for other blocks, or `None` for blocks that
/// must not be followed.
pub(crate) fn inside(block: &Block, of: impl Fn(Id) -> Option<u32>) -> u32 {
    match block.links {
        Links::Root => 0,
        Links::Parent(id) => of(id).map_or(0, |depth| depth + 1),
        Links::Origin(id) | Links::Right(id) | Links::Both(id, _) => of(id).unwrap_or(0),
    }
}
