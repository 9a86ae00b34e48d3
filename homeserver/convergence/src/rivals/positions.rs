//! A vector: how much of each chain of events is in the past of one event.
//!
//! A room has one such vector for each event, and neighbours differ in few entries: equal parts are shared. Must not
//! depend on the meaning of a chain.

use std::sync::Arc;

/// Entries of a leaf, and leaves of a branch.
const WIDTH: usize = 16;

type Leaf = [u32; WIDTH];
type Branch = [Option<Arc<Leaf>>; WIDTH];

/// For each chain the number of its events in the past; 0 if there is none.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions {
    branches: Arc<Vec<Option<Arc<Branch>>>>,
}

impl Positions {
    pub(super) fn get(&self, chain: usize) -> u32 {
        let branch = self.branches.get(chain / (WIDTH * WIDTH)).and_then(Option::as_ref);
        let leaf = branch.and_then(|branch| branch.get(chain / WIDTH % WIDTH)?.as_ref());
        leaf.and_then(|leaf| leaf.get(chain % WIDTH)).copied().unwrap_or(0)
    }

    /// Raises an entry.
    pub(super) fn raise(&mut self, chain: usize, position: u32) {
        if self.get(chain) >= position {
            return;
        }
        let branches = Arc::make_mut(&mut self.branches);
        let at = chain / (WIDTH * WIDTH);
        if branches.len() <= at {
            branches.resize(at + 1, None);
        }
        let Some(branch) = branches.get_mut(at) else { return };
        let branch = Arc::make_mut(branch.get_or_insert_default());
        let Some(leaf) = branch.get_mut(chain / WIDTH % WIDTH) else {
            return;
        };
        if let Some(entry) = Arc::make_mut(leaf.get_or_insert_default()).get_mut(chain % WIDTH) {
            *entry = position;
        }
    }

    /// Raises every entry to at least that of another vector.
    pub(super) fn merge(&mut self, other: &Self) {
        if Arc::ptr_eq(&self.branches, &other.branches) {
            return;
        }
        let branches = Arc::make_mut(&mut self.branches);
        if branches.len() < other.branches.len() {
            branches.resize(other.branches.len(), None);
        }
        for (mine, theirs) in branches.iter_mut().zip(other.branches.iter()) {
            merge_shared(mine, theirs.as_ref(), |branch, theirs| {
                for (mine, theirs) in branch.iter_mut().zip(theirs) {
                    merge_shared(mine, theirs.as_ref(), |leaf, theirs| {
                        for (mine, theirs) in leaf.iter_mut().zip(theirs) {
                            *mine = (*mine).max(*theirs);
                        }
                    });
                }
            });
        }
    }
}

/// Merges a part into one that may be shared, or shares the other part.
fn merge_shared<T: Clone>(mine: &mut Option<Arc<T>>, theirs: Option<&Arc<T>>, merge: impl FnOnce(&mut T, &T)) {
    let Some(theirs) = theirs else { return };
    match mine {
        Some(mine) if Arc::ptr_eq(mine, theirs) => {}
        Some(mine) => merge(Arc::make_mut(mine), theirs),
        None => *mine = Some(Arc::clone(theirs)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<(usize, u32)>> {
        prop::collection::vec((0..1_000_usize, 1..50_u32), 0..30)
    }

    fn built(entries: &[(usize, u32)]) -> (Positions, BTreeMap<usize, u32>) {
        let (mut positions, mut plain) = (Positions::default(), BTreeMap::new());
        for (chain, position) in entries {
            positions.raise(*chain, *position);
            let entry = plain.entry(*chain).or_insert(0);
            *entry = (*entry).max(*position);
        }
        (positions, plain)
    }

    proptest! {
        #[test]
        fn a_merged_vector_has_the_larger_of_each_entry(one in entries(), other in entries()) {
            let (first, mut plain) = built(&one);
            let (second, others) = built(&other);
            let mut merged = first.clone();
            merged.merge(&second);
            for chain in 0..1_000 {
                prop_assert_eq!(first.get(chain), plain.get(&chain).copied().unwrap_or(0));
            }
            for (chain, position) in others {
                let entry = plain.entry(chain).or_insert(0);
                *entry = (*entry).max(position);
            }
            for chain in 0..1_000 {
                prop_assert_eq!(merged.get(chain), plain.get(&chain).copied().unwrap_or(0));
            }
        }
    }
}
