//! The graph of a room without its events: ids, decisions and references, some 300 bytes an event. It gives the canonical
//! order of the events, in which their content can then be read a portion at a time. Must not hold the content of events.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use ruma::{EventId, OwnedEventId};
use weft_dag::event_flags;

/// The events that were added so far.
#[derive(Debug, Default)]
pub struct Skeleton {
    numbers: HashMap<OwnedEventId, usize>,
    events: Vec<Bone>,
    /// The `prev_events` of all events, one after the other.
    prev: Vec<usize>,
}

/// An event that was added or referenced.
#[derive(Debug, Clone, Copy, Default)]
struct Bone {
    /// The decision; `None`: it was only referenced.
    flags: Option<u8>,
    /// Its part of `prev`.
    prev: (usize, usize),
}

/// The accepted events and all their ancestors, in the canonical order: each after its `prev_events`; of the ready ones the
/// one with the lowest id.
#[derive(Debug, Default)]
pub struct InOrder {
    ids: Vec<OwnedEventId>,
    /// For each place in the order, its part of `prev`.
    parts: Vec<(usize, usize)>,
    /// Places of `prev_events`.
    prev: Vec<usize>,
    /// For each place, the number of events that reference it.
    followers: Vec<usize>,
}

impl Skeleton {
    /// Adds an event that is not an outlier.
    pub fn add(&mut self, id: OwnedEventId, flags: u8, prev_events: &[OwnedEventId]) {
        let at = self.number(id);
        let from = self.prev.len();
        for id in prev_events {
            let before = self.number(id.clone());
            self.prev.push(before);
        }
        let prev = (from, self.prev.len());
        if let Some(event) = self.events.get_mut(at) {
            *event = Bone {
                flags: Some(flags),
                prev,
            };
        }
    }

    /// Removes an event, as if it had not been added.
    pub fn remove(&mut self, id: &EventId) {
        let at = self.numbers.get(id).copied();
        if let Some(event) = at.and_then(|at| self.events.get_mut(at)) {
            *event = Bone::default();
        }
    }

    fn number(&mut self, id: OwnedEventId) -> usize {
        let next = self.events.len();
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.events.push(Bone::default());
        }
        number
    }

    fn prev_of(&self, at: usize) -> &[usize] {
        let (from, to) = self.events.get(at).map_or((0, 0), |event| event.prev);
        self.prev.get(from..to).unwrap_or_default()
    }

    /// The order; `None` if an event is missing that accepted events or their ancestors reference.
    #[must_use]
    pub fn in_order(mut self) -> Option<InOrder> {
        let followed = self.followed()?;
        let mut by_id: Vec<(OwnedEventId, usize)> = std::mem::take(&mut self.numbers).into_iter().collect();
        by_id.sort_unstable();
        let mut ranks = vec![0_usize; self.events.len()];
        for (rank, (_, at)) in by_id.iter().enumerate() {
            put(&mut ranks, *at, rank);
        }
        let (mut followers, mut open) = (vec![Vec::new(); self.events.len()], vec![0_usize; self.events.len()]);
        for at in followed.iter().zip(0..).filter(|(is, _)| **is).map(|(_, at)| at) {
            put(&mut open, at, self.prev_of(at).len());
            for before in self.prev_of(at) {
                if let Some(followers) = followers.get_mut(*before) {
                    followers.push(at);
                }
            }
        }
        let is_first = |at: &usize| followed.get(*at) == Some(&true) && open.get(*at) == Some(&0);
        let first = (0..open.len()).filter(is_first);
        let mut ready: BinaryHeap<Reverse<usize>> = first.map(|at| Reverse(get(&ranks, at))).collect();
        let (mut sorted, mut places) = (InOrder::default(), vec![0_usize; self.events.len()]);
        while let Some((id, at)) = ready.pop().and_then(|Reverse(rank)| by_id.get(rank)) {
            put(&mut places, *at, sorted.ids.len());
            let prev = self.prev_of(*at).iter().map(|before| get(&places, *before));
            sorted.push(id.clone(), prev);
            for follower in followers.get_mut(*at).map(std::mem::take).unwrap_or_default() {
                let left = get(&open, follower).saturating_sub(1);
                put(&mut open, follower, left);
                if left == 0 {
                    ready.push(Reverse(get(&ranks, follower)));
                }
            }
        }
        Some(sorted)
    }

    /// For each event, whether it is accepted or an ancestor of an accepted one; `None` if such an event is missing.
    fn followed(&self) -> Option<Vec<bool>> {
        let is_accepted = |event: &Bone| event.flags.is_some_and(event_flags::is_accepted);
        let mut followed: Vec<bool> = self.events.iter().map(is_accepted).collect();
        let mut work: Vec<usize> = followed
            .iter()
            .zip(0..)
            .filter(|(is, _)| **is)
            .map(|(_, at)| at)
            .collect();
        while let Some(at) = work.pop() {
            for before in self.prev_of(at) {
                self.events.get(*before)?.flags?;
                if let Some(is) = followed.get_mut(*before).filter(|is| !**is) {
                    *is = true;
                    work.push(*before);
                }
            }
        }
        Some(followed)
    }
}

fn get(numbers: &[usize], at: usize) -> usize {
    numbers.get(at).copied().unwrap_or(0)
}

fn put(numbers: &mut [usize], at: usize, number: usize) {
    if let Some(place) = numbers.get_mut(at) {
        *place = number;
    }
}

impl InOrder {
    fn push(&mut self, id: OwnedEventId, prev: impl Iterator<Item = usize>) {
        let from = self.prev.len();
        self.prev.extend(prev);
        for before in self.prev.get(from..).into_iter().flatten() {
            if let Some(count) = self.followers.get_mut(*before) {
                *count += 1;
            }
        }
        self.ids.push(id);
        self.parts.push((from, self.prev.len()));
        self.followers.push(0);
    }

    /// The ids of the events.
    #[must_use]
    pub fn ids(&self) -> &[OwnedEventId] {
        &self.ids
    }

    /// The places of an event's `prev_events`.
    #[must_use]
    pub fn prev(&self, place: usize) -> &[usize] {
        let (from, to) = self.parts.get(place).copied().unwrap_or_default();
        self.prev.get(from..to).unwrap_or_default()
    }

    /// The number of events that reference this one.
    #[must_use]
    pub fn followers(&self, place: usize) -> usize {
        self.followers.get(place).copied().unwrap_or(0)
    }
}
