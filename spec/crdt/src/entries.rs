//! An update without some of the entries of its maps, for reading what a board would be without them. Must not be used for anything that
//! is stored or sent: the result names other origins than the original.

use std::collections::HashMap;

use crate::block::{Block, Kind, Links, slice};
use crate::builder::{Builder, Shape};
use crate::{DeleteSet, Id, Update};

/// See [`without_entries`].
#[derive(Clone, Debug)]
pub struct WithoutEntries {
    /// The update without the entries.
    pub update: Update,
    /// What of the given blocks is in texts. It is still part of the update.
    pub texts: DeleteSet,
}

/// The update as if the entries of maps among the blocks `gone` had never been made: an entry that one of them replaced is the newest
/// again, and is shown unless the update's delete set has it. Items of lists among them are deleted. Text is not changed.
///
/// Blocks within an entry that is gone are gone with it, also those of other users. Linear in the update.
pub fn without_entries(update: &Update, gone: &DeleteSet) -> WithoutEntries {
    let mut chains = Chains {
        update,
        gone,
        known: HashMap::new(),
    };
    let mut out = Builder::with_capacity(update.buf.len(), update.blocks.len());
    let (mut texts, mut deletes) = (DeleteSet::new(), update.deletes.clone());
    for block in &update.blocks {
        if !is_keyed(block) {
            let into = match block.kind() {
                Kind::String | Kind::Embed | Kind::Format => Some(&mut texts),
                Kind::Json | Kind::Binary | Kind::Type | Kind::Any | Kind::Doc => Some(&mut deletes),
                Kind::Gc | Kind::Deleted | Kind::Skip => None,
            };
            if let Some(into) = into {
                add_within(block, gone, into);
            }
            out.push(block, &update.buf);
        } else if gone.contains(block.id()) {
            push_gone(block, &mut out);
        } else {
            match block.links.origin() {
                Some(origin) if chains.is_gone_entry(origin) => match chains.before(origin) {
                    Before::Entry(origin) => push_after(block, Some(origin), block, update, &mut out),
                    Before::Nothing(first) => match update.blocks.get(first) {
                        Some(first) => push_after(block, None, first, update, &mut out),
                        None => push_gone(block, &mut out),
                    },
                    Before::Unknown => push_gone(block, &mut out),
                },
                _ => out.push(block, &update.buf),
            }
        }
    }
    WithoutEntries {
        update: out.finish(deletes),
        texts,
    }
}

/// Only entries of maps have a key.
fn is_keyed(block: &Block) -> bool {
    !matches!(block.kind(), Kind::Gc | Kind::Skip) && block.info & Block::HAS_SUB != 0
}

/// Adds what a block and the given blocks have in common.
fn add_within(block: &Block, gone: &DeleteSet, into: &mut DeleteSet) {
    let ranges = gone.ranges(block.client);
    let first = ranges.partition_point(|(_, to)| *to <= block.clock);
    for (from, to) in ranges.get(first..).unwrap_or_default() {
        if *from >= block.end_clock() {
            break;
        }
        into.insert(block.client, (*from).max(block.clock), (*to).min(block.end_clock()));
    }
}

/// The clocks of an entry without the entry.
fn push_gone(block: &Block, out: &mut Builder) {
    let shape = Shape {
        client: block.client,
        clock: block.clock,
        len: block.len,
        links: Links::Root,
    };
    out.push_built(shape, |w| w.u8(Kind::Gc as u8), |w| w.var_uint(u64::from(block.len)));
}

/// An entry after another one, or as the first one of the key that `named` names.
fn push_after(block: &Block, origin: Option<Id>, named: &Block, update: &Update, out: &mut Builder) {
    let kind = block.kind() as u8 | Block::HAS_SUB;
    let shape = Shape {
        client: block.client,
        clock: block.clock,
        len: block.len,
        links: origin.map_or(named.links, Links::Origin),
    };
    out.push_built(
        shape,
        |w| match origin {
            Some(origin) => {
                w.u8(kind | Block::HAS_ORIGIN);
                w.var_uint(origin.client.get());
                w.var_uint(u64::from(origin.clock));
            }
            None => {
                w.u8(kind);
                w.raw(slice(&update.buf, named.start + 1, named.content));
            }
        },
        |w| w.raw(slice(&update.buf, block.content, block.end)),
    );
}

/// What is before an entry that is gone, and before those that are gone too.
#[derive(Clone, Copy)]
enum Before {
    Entry(Id),
    /// Nothing: this block is the first one of the key, and names parent and key.
    Nothing(usize),
    /// The references form a cycle, or lead out of the update.
    Unknown,
}

struct Chains<'a> {
    update: &'a Update,
    gone: &'a DeleteSet,
    /// By index of the block, so that a long chain is followed once.
    known: HashMap<usize, Before>,
}

impl Chains<'_> {
    fn is_gone_entry(&self, id: Id) -> bool {
        let block = self.update.find(id).and_then(|at| self.update.blocks.get(at));
        self.gone.contains(id) && block.is_some_and(is_keyed)
    }

    fn before(&mut self, id: Id) -> Before {
        let mut path = Vec::new();
        let mut next = id;
        let found = loop {
            let Some(at) = self.update.find(next) else {
                break Before::Unknown;
            };
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            // Until it is known, a chain that comes here again is a cycle.
            self.known.insert(at, Before::Unknown);
            path.push(at);
            let Some(block) = self.update.blocks.get(at) else {
                break Before::Unknown;
            };
            match (block.links.origin(), block.links.right()) {
                (Some(origin), _) if self.is_gone_entry(origin) => next = origin,
                (Some(origin), _) => break Before::Entry(origin),
                (None, Some(_)) => break Before::Unknown,
                (None, None) => break Before::Nothing(at),
            }
        };
        for at in path {
            self.known.insert(at, found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{ClientId, merge};

    /// A value of the key `x` of the root `m`: the first one, or after another one.
    fn entry(client: u8, clock: u8, after: Option<(u8, u8)>, value: u8) -> Vec<u8> {
        let mut bytes = vec![1, 1, client, clock];
        match after {
            None => bytes.extend([0x28, 1, 1, b'm', 1, b'x']),
            Some((of, at)) => bytes.extend([0xa8, of, at]),
        }
        bytes.extend([1, 0x7d, value, 0]);
        bytes
    }

    fn update(parts: &[Vec<u8>]) -> Update {
        let parts: Vec<Update> = parts
            .iter()
            .map(|part| Update::parse(Bytes::copy_from_slice(part)).unwrap())
            .collect();
        merge(&parts).unwrap()
    }

    fn gone(ranges: &[(u64, u32, u32)]) -> DeleteSet {
        let mut set = DeleteSet::new();
        for (client, from, to) in ranges {
            set.insert(ClientId::new(*client).unwrap(), *from, *to);
        }
        set
    }

    type Shown<'a> = (Kind, Option<(u64, u32)>, Option<&'a str>);

    /// Kind, origin, key of each block.
    fn shape(update: &Update) -> Vec<Shown<'_>> {
        update
            .blocks()
            .map(|block| {
                let origin = block.origin.map(|id| (id.client.get(), id.clock));
                (block.kind, origin, block.parent_sub)
            })
            .collect()
    }

    #[test]
    fn what_an_entry_replaced_is_the_newest_again() {
        // 1, then 2 and 3 of another client, then 4 of a third one.
        let all = update(&[
            entry(1, 0, None, 1),
            entry(2, 0, Some((1, 0)), 2),
            entry(2, 1, Some((2, 0)), 3),
            entry(3, 0, Some((2, 1)), 4),
        ]);
        let left = without_entries(&all, &gone(&[(2, 0, 2)])).update;
        let gc = (Kind::Gc, None, None);
        let expected = [(Kind::Any, None, Some("x")), gc, gc, (Kind::Any, Some((1, 0)), None)];
        assert_eq!(shape(&left), expected);
        assert_eq!(left.state_vector(), all.state_vector());
        assert_eq!(Update::parse(left.encode().into()).unwrap().encode(), left.encode());
        // Without the first one as well, the last one names the key.
        let left = without_entries(&all, &gone(&[(1, 0, 1), (2, 0, 2)])).update;
        assert_eq!(shape(&left), [gc, gc, gc, (Kind::Any, None, Some("x"))]);
        assert_eq!(Update::parse(left.encode().into()).unwrap().encode(), left.encode());
    }

    #[test]
    fn items_of_lists_are_deleted_and_text_stays() {
        let list = vec![1, 1, 5, 0, 8, 1, 1, b'l', 3, 0x7d, 1, 0x7d, 2, 0x7d, 3, 0];
        let text = vec![1, 1, 6, 0, 4, 1, 1, b't', 3, b'a', b'b', b'c', 0];
        let all = update(&[list, text]);
        let left = without_entries(&all, &gone(&[(5, 1, 2), (6, 1, 9)]));
        assert_eq!(left.update.blocks().count(), 2);
        let deleted: Vec<_> = left
            .update
            .delete_set()
            .iter()
            .map(|(client, from, to)| (client.get(), from, to))
            .collect();
        assert_eq!(deleted, [(5, 1, 2)]);
        let texts: Vec<_> = left
            .texts
            .iter()
            .map(|(client, from, to)| (client.get(), from, to))
            .collect();
        assert_eq!(texts, [(6, 1, 3)]);
    }

    #[test]
    fn a_cycle_of_origins_ends() {
        let all = update(&[
            entry(1, 0, Some((2, 0)), 1),
            entry(2, 0, Some((1, 0)), 2),
            entry(3, 0, Some((1, 0)), 3),
        ]);
        let left = without_entries(&all, &gone(&[(1, 0, 1), (2, 0, 1)])).update;
        assert_eq!(shape(&left), [(Kind::Gc, None, None); 3]);
    }
}
