//! How deeply shared types are nested, as far as one update shows it. The rule is in `spec/docs/admission.md`.

use crate::block::{Block, Kind, Links};
use crate::limits::TYPE_NESTING;
use crate::order::{self, Circle};
use crate::{Id, Update};

/// What is found when blocks are followed to the types that they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// See [`Circle`].
    Circle(Id),
    /// This type is nested deeper than [`TYPE_NESTING`].
    TooDeep(Id),
}

/// Checks that the blocks of an update wait for none in a circle, and that its types are not nested too deeply.
pub(crate) fn check(update: &Update) -> Result<(), Fault> {
    let types = update.blocks.iter().filter(|b| b.kind() == Kind::Type).count();
    let deep_is_possible = types > TYPE_NESTING as usize;
    if update.runs.len() <= 1 && !deep_is_possible {
        return Ok(());
    }
    // Of each block, how many types of this update it is in. A block with more than is allowed stays at one above, so
    // that a byte is enough.
    let mut depth = vec![0u8; if deep_is_possible { update.blocks.len() } else { 0 }];
    let mut too_deep = None;
    let walked = order::in_order(update, |at| {
        if !deep_is_possible {
            return;
        }
        let Some(block) = update.blocks.get(at) else { return };
        let inside = inside(update, &depth, block).min(TYPE_NESTING as u8 + 1);
        if block.kind() == Kind::Type && u32::from(inside) >= TYPE_NESTING && too_deep.is_none() {
            too_deep = Some(block.id());
        }
        if let Some(slot) = depth.get_mut(at) {
            *slot = inside;
        }
    });
    walked.map_err(|Circle { at }| Fault::Circle(at))?;
    too_deep.map_or(Ok(()), |id| Err(Fault::TooDeep(id)))
}

/// How many types of this update a block is in: one more than the type that it names as its parent, else as many as its
/// left neighbour, else as its right one.
fn inside(update: &Update, depth: &[u8], block: &Block) -> u8 {
    let of = |id: Id| update.find(id).and_then(|at| depth.get(at)).copied();
    match block.links {
        Links::Root => 0,
        Links::Parent(id) => of(id).map_or(0, |d| d + 1),
        Links::Origin(id) | Links::Right(id) | Links::Both(id, _) => of(id).unwrap_or(0),
    }
}
