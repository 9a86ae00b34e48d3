//! Sealing, the pure part: turns pending edits into few updates, each with one author, in an order in which each refers
//! only to blocks before it. Must not read a room.
//!
//! An edit has a *level*: one above the highest level of another author's pending edit that it builds on, and not below
//! its author's earlier edits. Edits of one author on one level are merged. So concurrent authors get one event each,
//! and authors whose edits build on one another get alternating events.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use weft_crdt::{ClientId, MergeError, SplitError, Update, compact, merge, split};
use weft_room_read::versions::steps::Step;
use weft_wire::limits::MAX_SEALED_UPDATE_BYTES;

/// An edit that is journaled and not yet part of an event.
#[derive(Debug, Clone)]
pub struct PendingEdit {
    /// Its row in the journal.
    pub seq: u64,
    /// The version that it made.
    pub version: u64,
    /// When it was journaled, in milliseconds since 1970; 0 if that is not known.
    pub at: u64,
    /// Who wrote it.
    pub author: OwnedUserId,
    /// The new blocks and deletions.
    pub update: Update,
}

/// The update of one event to send.
#[derive(Debug, Clone)]
pub struct Part {
    /// The event's sender.
    pub author: OwnedUserId,
    /// At most `MAX_SEALED_UPDATE_BYTES` encoded.
    pub update: Update,
    /// Journal rows that are completely sealed by this part and the parts before it.
    pub rows: Vec<u64>,
    /// What of the update each version added.
    pub steps: Vec<Step>,
}

/// Why edits could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    /// Pending edits can't be merged.
    Merge(#[from] MergeError),
    #[error(transparent)]
    /// An update can't be split.
    Split(#[from] SplitError),
}

/// Plans the events for all pending edits, which must be in the order in which they were accepted.
pub fn plan(pending: &[PendingEdit]) -> Result<Vec<Part>, PlanError> {
    let mut levels: Vec<BTreeMap<&UserId, Vec<&PendingEdit>>> = Vec::new();
    for (edit, level) in pending.iter().zip(levels_of(pending)) {
        if levels.len() <= level {
            levels.resize_with(level + 1, BTreeMap::new);
        }
        if let Some(authors) = levels.get_mut(level) {
            authors.entry(&edit.author).or_default().push(edit);
        }
    }
    let mut parts = Vec::new();
    for (author, edits) in levels.iter().flatten() {
        parts.extend(bundle(author, edits)?);
    }
    Ok(parts)
}

/// The ends of the pending blocks of a client, by level: ascending in both.
#[derive(Default)]
struct Reached<'a> {
    author: Option<&'a UserId>,
    steps: Vec<(u32, usize)>,
}

impl Reached<'_> {
    /// The level on which the client's blocks reach `end`; `None` if `end` is sealed already.
    fn level(&self, end: u32) -> Option<usize> {
        let at = self.steps.partition_point(|(reached, _)| *reached < end);
        self.steps.get(at).map(|(_, level)| *level)
    }
}

fn levels_of(pending: &[PendingEdit]) -> Vec<usize> {
    let mut by_client: BTreeMap<ClientId, Reached<'_>> = BTreeMap::new();
    let mut by_author: BTreeMap<&UserId, usize> = BTreeMap::new();
    let mut levels = Vec::with_capacity(pending.len());
    for edit in pending {
        let author: &UserId = &edit.author;
        let mut level = by_author.get(author).copied().unwrap_or(0);
        for (client, end) in edit.update.needs().iter() {
            let Some(reached) = by_client.get(&client) else {
                continue;
            };
            // Sealed blocks are below the first step and need no level; a step's own start is at least that.
            if let Some(needed) = reached.level(end).filter(|_| reached.begins_below(end)) {
                level = level.max(if reached.author == Some(author) {
                    needed
                } else {
                    needed + 1
                });
            }
        }
        for (client, (from, to)) in edit.update.ranges() {
            let reached = by_client.entry(client).or_default();
            if reached.steps.is_empty() {
                // Blocks up to here were sealed before.
                reached.steps.push((from, 0));
            }
            reached.author = Some(author);
            reached.steps.push((to, level));
        }
        by_author.insert(author, level);
        levels.push(level);
    }
    levels
}

impl Reached<'_> {
    /// Whether `end` lies in the pending blocks and not in the sealed ones.
    fn begins_below(&self, end: u32) -> bool {
        self.steps.first().is_some_and(|(sealed, _)| *sealed < end)
    }
}

/// One author's edits of one level as updates within the size limit of events.
fn bundle(author: &UserId, edits: &[&PendingEdit]) -> Result<Vec<Part>, PlanError> {
    let updates: Vec<Update> = edits.iter().map(|edit| edit.update.clone()).collect();
    let merged = match updates.as_slice() {
        [one] => one.clone(),
        // Compacted, so that an event carries a run of typing as one block.
        many => compact(&merge(many)?),
    };
    let pieces = split(&merged, MAX_SEALED_UPDATE_BYTES)?;
    let last = pieces.len().saturating_sub(1);
    let steps: Vec<Step> = edits
        .iter()
        .map(|edit| Step::of(edit.version, edit.at, &edit.update))
        .collect();
    let part = |(at, update): (usize, Update)| Part {
        author: author.to_owned(),
        // The common case is one part, which has all of it.
        steps: match last {
            0 => steps.clone(),
            _ => within(&steps, &update),
        },
        update,
        // A row is sealed when its last part is.
        rows: if at == last {
            edits.iter().map(|edit| edit.seq).collect()
        } else {
            Vec::new()
        },
    };
    Ok(pieces.into_iter().enumerate().map(part).collect())
}

/// What of these steps is in an update.
fn within(steps: &[Step], update: &Update) -> Vec<Step> {
    let parts = steps.iter().map(|step| step.within(update));
    parts.filter(|step| !step.is_empty()).collect()
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in tests a panic reports a failure"
)]
mod tests;
