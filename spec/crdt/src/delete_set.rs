//! Delete sets: sorted, disjoint ranges of clocks per client. Must not hold content.

use crate::lib0::{Reader, Writer, var_uint_len};
use crate::parse::{Malformed, ParseError, client, clock};
use crate::{ClientId, Id, limits};
use std::collections::BTreeMap;

/// Half-open ranges `[from, to)` of clocks, sorted, not adjacent to each other.
type Ranges = Vec<(u32, u32)>;

/// The deleted units. Adding is idempotent, so sets may be merged in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteSet {
    clients: BTreeMap<ClientId, Ranges>,
}

impl DeleteSet {
    /// An empty set.
    pub fn new() -> Self {
        DeleteSet::default()
    }

    /// Parses the encoding of Yjs, which must end with the input.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let set = Self::read(&mut r)?;
        if r.is_empty() {
            Ok(set)
        } else {
            Err(ParseError::at(&r, Malformed::Trailing))
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let mut clients = BTreeMap::new();
        let count = r.var_uint().map_err(|e| ParseError::lib0(r, e))?;
        for _ in 0..count {
            let who = client(r)?;
            let ranges = read_ranges(r)?;
            if clients.contains_key(&who) {
                return Err(ParseError::at(r, Malformed::ClientTwice(who)));
            }
            if !ranges.is_empty() {
                clients.insert(who, ranges);
            }
        }
        Ok(DeleteSet { clients })
    }

    /// The encoding of Yjs, with clients in descending order as in Yjs.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(1 + self.len() * 6);
        self.write(&mut w);
        w.into_vec()
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.var_uint(self.clients.len() as u64);
        for (client, ranges) in self.clients.iter().rev() {
            w.var_uint(client.get());
            w.var_uint(ranges.len() as u64);
            for (from, to) in ranges {
                w.var_uint(u64::from(*from));
                w.var_uint(u64::from(to - from));
            }
        }
    }

    /// The length of [`DeleteSet::encode`], in bytes.
    pub(crate) fn wire_len(&self) -> usize {
        let mut len = var_uint_len(self.clients.len() as u64);
        for (client, ranges) in &self.clients {
            len += var_uint_len(client.get()) + var_uint_len(ranges.len() as u64);
            for (from, to) in ranges {
                len += var_uint_len(u64::from(*from)) + var_uint_len(u64::from(to - from));
            }
        }
        len
    }

    /// The number of clients with deleted units.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The clients with deleted units, ascending.
    pub(crate) fn client_ids(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.clients.keys().copied()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.clients.values().map(Vec::len).sum()
    }

    /// All ranges `(client, from, to)`, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, u32, u32)> + '_ {
        self.clients
            .iter()
            .flat_map(|(c, ranges)| ranges.iter().map(|(f, t)| (*c, *f, *t)))
    }

    /// The ranges of one client, ascending.
    pub fn ranges(&self, client: ClientId) -> &[(u32, u32)] {
        self.clients.get(&client).map_or(&[], Vec::as_slice)
    }

    /// Whether a unit is deleted.
    pub fn contains(&self, id: Id) -> bool {
        let ranges = self.ranges(id.client);
        let next = ranges.partition_point(|(_, to)| *to <= id.clock);
        ranges.get(next).is_some_and(|(from, _)| *from <= id.clock)
    }

    /// Deletes `[from, to)` of a client. An empty range has no effect; clocks above 2^31 are cut off.
    pub fn insert(&mut self, client: ClientId, from: u32, to: u32) {
        let to = to.min(limits::CLOCK_END);
        if from >= to {
            return;
        }
        let ranges = self.clients.entry(client).or_default();
        // Ranges adjacent to the new one are joined with it.
        let first = ranges.partition_point(|(_, end)| *end < from);
        let last = first
            + ranges
                .get(first..)
                .map_or(0, |tail| tail.partition_point(|(start, _)| *start <= to));
        let joined = match (ranges.get(first), ranges.get(last.wrapping_sub(1))) {
            (Some((start, _)), Some((_, end))) if first < last => (from.min(*start), to.max(*end)),
            _ => (from, to),
        };
        ranges.splice(first..last, [joined]);
    }

    /// The union of both sets.
    pub fn merge(&mut self, other: &DeleteSet) {
        /// Up to this number, ranges are inserted one by one, which is cheaper than sorting a long list.
        const FEW: usize = 8;
        for (client, theirs) in &other.clients {
            if theirs.len() <= FEW {
                for (from, to) in theirs {
                    self.insert(*client, *from, *to);
                }
            } else {
                let ours = self.clients.entry(*client).or_default();
                ours.extend_from_slice(theirs);
                normalise(ours);
            }
        }
    }

    /// The units in this set and not in `other`. Linear in both.
    pub fn difference(&self, other: &DeleteSet) -> DeleteSet {
        let mut clients = BTreeMap::new();
        for (client, ours) in &self.clients {
            let left = subtract(ours, other.ranges(*client));
            if !left.is_empty() {
                clients.insert(*client, left);
            }
        }
        DeleteSet { clients }
    }

    /// The units in both sets. Linear in both.
    pub fn intersection(&self, other: &DeleteSet) -> DeleteSet {
        self.difference(&self.difference(other))
    }

    /// The set of these ranges, in any order, overlapping or not.
    pub(crate) fn from_ranges(mut all: Vec<(ClientId, u32, u32)>) -> DeleteSet {
        all.sort_unstable();
        let mut clients: BTreeMap<ClientId, Ranges> = BTreeMap::new();
        for (client, from, to) in all {
            push(clients.entry(client).or_default(), from, to);
        }
        DeleteSet { clients }
    }
}

fn read_ranges(r: &mut Reader<'_>) -> Result<Ranges, ParseError> {
    let count = r.var_uint().map_err(|e| ParseError::lib0(r, e))?;
    let mut ranges = Vec::new();
    for _ in 0..count {
        let from = clock(r)?;
        let len = clock(r)?;
        let to = from
            .checked_add(len)
            .filter(|end| *end <= limits::CLOCK_END)
            .ok_or_else(|| ParseError::at(r, Malformed::ClockTooLarge))?;
        if from < to {
            ranges.push((from, to));
        }
    }
    normalise(&mut ranges);
    Ok(ranges)
}

/// Sorts and joins.
fn normalise(ranges: &mut Ranges) {
    if ranges.is_sorted_by(|a, b| a.1 < b.0) {
        return;
    }
    ranges.sort_unstable();
    let mut out = Vec::with_capacity(ranges.len());
    for (from, to) in ranges.drain(..) {
        push(&mut out, from, to);
    }
    *ranges = out;
}

/// Appends a range that starts no earlier than the last one.
fn push(ranges: &mut Ranges, from: u32, to: u32) {
    match ranges.last_mut() {
        Some((_, end)) if from <= *end => *end = to.max(*end),
        _ => ranges.push((from, to)),
    }
}

fn subtract(ours: &[(u32, u32)], theirs: &[(u32, u32)]) -> Ranges {
    let mut out = Vec::new();
    let mut holes = theirs.iter().copied().peekable();
    for (from, to) in ours.iter().copied() {
        let mut at = from;
        while holes.next_if(|(_, end)| *end <= at).is_some() {}
        while let Some((start, end)) = holes.peek().copied().filter(|(start, _)| *start < to) {
            if at < start {
                out.push((at, start));
            }
            at = at.max(end);
            if end >= to {
                break;
            }
            holes.next();
        }
        if at < to {
            out.push((at, to));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]
    use super::*;
    use std::collections::BTreeSet;

    fn units(set: &DeleteSet) -> BTreeSet<(u64, u32)> {
        set.iter()
            .flat_map(|(c, f, t)| (f..t).map(move |k| (c.get(), k)))
            .collect()
    }

    fn set(ranges: &[(u32, u32, u32)]) -> DeleteSet {
        let mut s = DeleteSet::new();
        for (c, f, t) in ranges {
            s.insert(ClientId::from(*c), *f, *t);
        }
        s
    }

    #[test]
    fn adjacent_ranges_are_joined() {
        let s = set(&[(1, 4, 6), (1, 0, 2), (1, 2, 4), (1, 9, 9)]);
        assert_eq!(s.ranges(ClientId::from(1)), [(0, 6)]);
        assert_eq!(s.encode(), [1, 1, 1, 0, 6]);
    }

    #[test]
    fn set_operations_agree_with_plain_sets() {
        let mut seed = 7u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        for _ in 0..500 {
            let mut some = || {
                let n = next(8);
                (0..n)
                    .map(|_| {
                        let f = next(20);
                        (next(2), f, f + next(6))
                    })
                    .collect::<Vec<_>>()
            };
            let (a, b) = (set(&some()), set(&some()));
            let mut m = a.clone();
            m.merge(&b);
            assert_eq!(units(&m), &units(&a) | &units(&b));
            assert_eq!(units(&a.difference(&b)), &units(&a) - &units(&b));
            assert_eq!(units(&a.intersection(&b)), &units(&a) & &units(&b));
            let again = DeleteSet::parse(&m.encode()).expect("our own encoding");
            assert_eq!(again, m);
            let all: Vec<_> = a.iter().chain(b.iter()).collect();
            assert_eq!(DeleteSet::from_ranges(all), m);
            for (c, k) in units(&a) {
                assert!(a.contains(Id {
                    client: ClientId::new(c).expect("small"),
                    clock: k
                }));
            }
        }
    }
}
