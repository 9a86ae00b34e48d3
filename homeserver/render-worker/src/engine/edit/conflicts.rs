//! What others did at the places of an edit since its base version. Information for the user; nothing is decided here.

use std::collections::HashMap;
use std::ops::Range;

use weft_render::{Conflict, ConflictKind, Unit};
use weft_wire::document::DocumentKind;
use weft_wire::limits::MAX_CONFLICTS_PER_EDIT;
use yrs::types::text::{ChangeKind, YChange};
use yrs::{Any, Hook, Out, ReadTxn as _, SharedRef as _, Snapshot, Text as _, TextRef, Transact as _, TransactionMut};

use super::super::EngineError;
use super::super::load::{self, Loaded};
use super::text::length_in;

/// A change of one text: where it was in the text at that time.
struct Touch {
    change: usize,
    place: Range<usize>,
    inserted: usize,
}

/// The places that an edit changed, by text.
#[derive(Default)]
pub(super) struct Touched(HashMap<Hook<TextRef>, Vec<Touch>>);

impl Touched {
    /// Notes that `place` was replaced by `inserted` code units.
    pub(super) fn note(&mut self, change: usize, text: &TextRef, place: Range<usize>, inserted: usize) {
        self.0.entry(text.hook()).or_default().push(Touch {
            change,
            place,
            inserted,
        });
    }
}

/// The places in the base version: the changes before each one are undone.
fn places_in_base(touches: &[Touch]) -> Vec<(usize, Range<usize>)> {
    let mut found = Vec::with_capacity(touches.len());
    for (index, touch) in touches.iter().enumerate() {
        let before = touches.get(..index).unwrap_or_default();
        let back = |at: usize| before.iter().rev().fold(at, undone);
        found.push((touch.change, back(touch.place.start)..back(touch.place.end)));
    }
    found
}

fn undone(at: usize, earlier: &Touch) -> usize {
    let Range { start, end } = earlier.place;
    if at >= start + earlier.inserted {
        at - earlier.inserted + (end - start)
    } else {
        at.min(start)
    }
}

/// The conflicts of an edit.
#[derive(Default)]
pub(super) struct Conflicts(Vec<Conflict>);

impl Conflicts {
    /// Compares the base version with the present one.
    pub(super) fn find(
        kind: DocumentKind,
        base: &[u8],
        state: &[u8],
        touched: &Touched,
        unit: Unit,
    ) -> Result<Self, EngineError> {
        let mut found = Self::default();
        if touched.0.is_empty() {
            return Ok(found);
        }
        // Deleted text must stay readable, in order to see where it was.
        let loaded = Loaded::with_client(kind, base, 0, true)?;
        let before = loaded.doc.transact().snapshot();
        let mut txn = loaded.doc.transact_mut();
        load::apply(&mut txn, state)?;
        let now = txn.snapshot();
        for (hook, touches) in &touched.0 {
            let places = places_in_base(touches);
            match hook.get(&txn) {
                Some(text) => found.compare(&text, &mut txn, (&before, &now), &places, unit),
                None => found.add_gone(places.iter().map(|(change, _)| *change)),
            }
        }
        found
            .0
            .sort_by_key(|conflict| (conflict.change, conflict.from, conflict.client, conflict.clocks));
        found.0.dedup();
        found.0.truncate(MAX_CONFLICTS_PER_EDIT);
        Ok(found)
    }

    fn compare(
        &mut self,
        text: &TextRef,
        txn: &mut TransactionMut<'_>,
        (before, now): (&Snapshot, &Snapshot),
        places: &[(usize, Range<usize>)],
        unit: Unit,
    ) {
        let (mut in_base, mut units) = (0, Vec::new());
        for run in text.diff_range(txn, Some(now), Some(before), YChange::identity) {
            let run_units: Vec<u16> = match &run.insert {
                Out::Any(Any::String(text)) => text.encode_utf16().collect(),
                _ => vec![0xfffc],
            };
            let from = length_in(unit, &units);
            let Some(YChange { kind, id }) = run.ychange else {
                in_base += run_units.len();
                units.extend(run_units);
                continue;
            };
            let place = match kind {
                ChangeKind::Added => in_base..in_base,
                ChangeKind::Removed => in_base..in_base + run_units.len(),
            };
            let length = u32::try_from(run_units.len()).unwrap_or(u32::MAX);
            let (kind, to) = match kind {
                ChangeKind::Added => {
                    units.extend(run_units);
                    (ConflictKind::Inserted, length_in(unit, &units))
                }
                ChangeKind::Removed => (ConflictKind::Deleted, from),
            };
            let clocks = (id.clock, id.clock.saturating_add(length));
            let near = places
                .iter()
                .filter(|(_, changed)| changed.start <= place.end && place.start <= changed.end);
            self.0
                .extend(near.take(MAX_CONFLICTS_PER_EDIT).map(|(change, _)| Conflict {
                    change: *change,
                    kind,
                    client: id.client.get(),
                    clocks,
                    from,
                    to,
                }));
            in_base = place.end;
        }
    }

    fn add_gone(&mut self, changes: impl Iterator<Item = usize>) {
        self.0.extend(changes.map(|change| Conflict {
            change,
            kind: ConflictKind::Gone,
            client: 0,
            clocks: (0, 0),
            from: 0,
            to: 0,
        }));
    }

    /// Adds the changes whose block or element no longer exists.
    pub(super) fn with_gone(mut self, changes: Vec<usize>) -> Vec<Conflict> {
        self.add_gone(changes.into_iter());
        self.0
    }
}
