//! The steps of an event: what each of its versions added to the document, in a compact form. A typed character takes about
//! five bytes. Must not hold content: that is in the event.
//!
//! The form: the number of client ids, and each with the clock at which its blocks begin here; then the steps up to the
//! end. A step is the distance of its version and of its time (milliseconds) to those of the step before; four times the
//! number of clients with new blocks, plus 2 if their blocks do not continue those before, plus 1 if it deletes; for each
//! client its index (without one, if there is only one client), the gap (if there is any), and the number of new clocks;
//! then the number of deleted ranges, and of each the client's index, the start and the length. All numbers are varints.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_crdt::{
    ClientId, DeleteSet, StateVector, Update,
    lib0::{Lib0Error, Reader, Writer},
    limits::CLOCK_END,
};

/// What one version added to the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The version.
    pub version: u64,
    /// When it was made here, in milliseconds since 1970.
    pub at: u64,
    /// New blocks: client, first clock, and the clock after the last one.
    pub blocks: Vec<(ClientId, u32, u32)>,
    /// New deletions.
    pub deletes: DeleteSet,
}

/// Stored steps that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepsError {
    /// They end too early, or a number is no varint.
    #[error(transparent)]
    Form(#[from] Lib0Error),
    /// A number that no step has.
    #[error("{0} is out of range")]
    Range(&'static str),
}

impl Step {
    /// What an update adds as a version.
    #[must_use]
    pub fn of(version: u64, at: u64, update: &Update) -> Self {
        let blocks = update
            .ranges()
            .into_iter()
            .map(|(client, (from, to))| (client, from, to));
        Self {
            version,
            at,
            blocks: blocks.collect(),
            deletes: update.delete_set().clone(),
        }
    }

    /// What of it is in an update.
    #[must_use]
    pub fn within(&self, update: &Update) -> Self {
        let ranges = update.ranges();
        let part = |(client, from, to): &(ClientId, u32, u32)| {
            let (start, end) = ranges.get(client)?;
            let (from, to) = (*from.max(start), *to.min(end));
            (from < to).then_some((*client, from, to))
        };
        Self {
            blocks: self.blocks.iter().filter_map(part).collect(),
            deletes: self.deletes.intersection(update.delete_set()),
            ..*self
        }
    }

    /// Whether it adds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.deletes.is_empty()
    }

    /// Adds it to the state vector and the delete set of the version before.
    pub fn add_to(&self, vector: &mut StateVector, deletes: &mut DeleteSet) {
        for (client, _, to) in &self.blocks {
            vector.raise(*client, *to);
        }
        deletes.merge(&self.deletes);
    }
}

/// Encodes steps, in the order of their versions. `first` and `at` are the version and the time that the first one is
/// counted from.
#[must_use]
pub fn encode(first: u64, at: u64, steps: &[Step]) -> Bytes {
    let mut clients: BTreeMap<ClientId, Option<u32>> = BTreeMap::new();
    for step in steps {
        for (client, from, _) in &step.blocks {
            clients.entry(*client).or_default().get_or_insert(*from);
        }
        for (client, _, _) in step.deletes.iter() {
            clients.entry(client).or_default();
        }
    }
    let mut w = Writer::with_capacity(16 + steps.len() * 6);
    w.var_uint(clients.len() as u64);
    for (client, from) in &clients {
        w.var_uint(client.get());
        w.var_uint(u64::from(from.unwrap_or(0)));
    }
    let is_one = clients.len() == 1;
    let index: BTreeMap<ClientId, u64> = clients.keys().copied().zip(0..).collect();
    let index = |client: &ClientId| index.get(client).copied().unwrap_or(0);
    let mut ends: BTreeMap<ClientId, u32> = clients.into_iter().map(|(id, from)| (id, from.unwrap_or(0))).collect();
    let (mut version, mut time) = (first, at);
    for step in steps {
        w.var_uint(step.version.saturating_sub(version));
        w.var_uint(step.at.saturating_sub(time));
        (version, time) = (version.max(step.version), time.max(step.at));
        let end_of = |client: &ClientId, ends: &BTreeMap<ClientId, u32>| ends.get(client).copied().unwrap_or(0);
        let has_gaps = step
            .blocks
            .iter()
            .any(|(client, from, _)| *from != end_of(client, &ends));
        let head = (step.blocks.len() as u64) << 2;
        w.var_uint(head | u64::from(has_gaps) << 1 | u64::from(!step.deletes.is_empty()));
        for (client, from, to) in &step.blocks {
            if !is_one {
                w.var_uint(index(client));
            }
            if has_gaps {
                w.var_uint(u64::from(from.saturating_sub(end_of(client, &ends))));
            }
            w.var_uint(u64::from(to.saturating_sub(*from)));
            ends.insert(*client, *to);
        }
        if step.deletes.is_empty() {
            continue;
        }
        w.var_uint(step.deletes.len() as u64);
        for (client, from, to) in step.deletes.iter() {
            if !is_one {
                w.var_uint(index(&client));
            }
            w.var_uint(u64::from(from));
            w.var_uint(u64::from(to.saturating_sub(from)));
        }
    }
    w.into_vec().into()
}

/// Reads steps that [`encode`] has written with the same `first` and `at`.
///
/// # Errors
/// The bytes are no steps. Memory and time are linear in their number.
pub fn decode(first: u64, at: u64, bytes: &[u8]) -> Result<Vec<Step>, StepsError> {
    let mut r = Reader::new(bytes);
    let mut clients: Vec<(ClientId, u32)> = Vec::new();
    for _ in 0..r.var_uint()? {
        let client = ClientId::new(r.var_uint()?).ok_or(StepsError::Range("a client id"))?;
        clients.push((client, clock(r.var_uint()?)?));
    }
    let (mut version, mut time) = (first, at);
    let mut steps = Vec::new();
    while !r.is_empty() {
        version = version
            .checked_add(r.var_uint()?)
            .ok_or(StepsError::Range("a version"))?;
        time = time.checked_add(r.var_uint()?).ok_or(StepsError::Range("a time"))?;
        let head = r.var_uint()?;
        let mut step = Step {
            version,
            at: time,
            blocks: Vec::new(),
            deletes: DeleteSet::new(),
        };
        for _ in 0..head >> 2 {
            let (client, end) = one_of(&mut clients, &mut r)?;
            let gap = if head & 2 == 0 { 0 } else { r.var_uint()? };
            let from = clock(u64::from(*end).saturating_add(gap))?;
            let to = clock(u64::from(from).saturating_add(r.var_uint()?))?;
            *end = to;
            step.blocks.push((*client, from, to));
        }
        if head & 1 != 0 {
            for _ in 0..r.var_uint()? {
                let (client, _) = one_of(&mut clients, &mut r)?;
                let from = clock(r.var_uint()?)?;
                let to = clock(u64::from(from).saturating_add(r.var_uint()?))?;
                step.deletes.insert(*client, from, to);
            }
        }
        steps.push(step);
    }
    Ok(steps)
}

/// The client that the next number names, and the end of its blocks.
fn one_of<'a>(
    clients: &'a mut [(ClientId, u32)],
    r: &mut Reader<'_>,
) -> Result<(&'a mut ClientId, &'a mut u32), StepsError> {
    let index = if clients.len() == 1 { 0 } else { r.var_uint()? };
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let (client, end) = clients.get_mut(index).ok_or(StepsError::Range("a client"))?;
    Ok((client, end))
}

fn clock(number: u64) -> Result<u32, StepsError> {
    let clock = u32::try_from(number).ok().filter(|clock| *clock <= CLOCK_END);
    clock.ok_or(StepsError::Range("a clock"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(version: u64, at: u64, blocks: &[(u32, u32, u32)], deletes: &[(u32, u32, u32)]) -> Step {
        let mut set = DeleteSet::new();
        for (client, from, to) in deletes {
            set.insert(ClientId::from(*client), *from, *to);
        }
        let blocks = blocks
            .iter()
            .map(|(client, from, to)| (ClientId::from(*client), *from, *to));
        Step {
            version,
            at,
            blocks: blocks.collect(),
            deletes: set,
        }
    }

    #[test]
    fn a_typed_character_takes_five_bytes() {
        let typed = |count: u32| -> Vec<Step> {
            (0..count)
                .map(|n| {
                    step(
                        100 + u64::from(n),
                        1_000 + 180 * u64::from(n),
                        &[(7, 5_000 + n, 5_001 + n)],
                        &[],
                    )
                })
                .collect()
        };
        let (few, many) = (encode(100, 1_000, &typed(1)), encode(100, 1_000, &typed(1_001)));
        assert_eq!(many.len() - few.len(), 5_000);
        assert_eq!(decode(100, 1_000, &many).unwrap(), typed(1_001));
    }

    proptest! {
        #[test]
        fn steps_are_read_as_they_were_written(
            all in prop::collection::vec(
                (
                    0..3_u64,
                    0..400_u64,
                    prop::collection::btree_map(1..4_u32, (0..3_u32, 1..9_u32), 0..3),
                    prop::collection::vec((1..6_u32, 0..500_u32, 1..9_u32), 0..3),
                ),
                0..20,
            ),
        ) {
            let (mut version, mut at) = (9, 50);
            let mut ends = BTreeMap::new();
            let mut steps = Vec::new();
            for (more, later, blocks, deletes) in all {
                version += more;
                at += later;
                let mut new = Vec::new();
                for (client, (gap, count)) in blocks {
                    let end = ends.entry(client).or_insert(10);
                    new.push((client, *end + gap, *end + gap + count));
                    *end += gap + count;
                }
                let gone: Vec<_> = deletes.into_iter().map(|(client, from, count)| (client, from, from + count)).collect();
                steps.push(step(version, at, &new, &gone));
            }
            let bytes = encode(9, 50, &steps);
            prop_assert_eq!(decode(9, 50, &bytes).unwrap(), steps);
        }

        #[test]
        fn any_bytes_are_steps_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(1, 1, &bytes);
        }
    }
}
