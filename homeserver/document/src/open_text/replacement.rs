//! A text that was worked out from all events, in the form in which it replaces the text of a worker. It is prepared
//! in a separate task, rows included, so that the worker only exchanges it.
//!
//! Rows under new numbers are written ahead, in portions; the batch that names them comes last. Must not need the text
//! that it replaces.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use weft_convergence::{
    admission::Owners,
    rebuild::{Rebuilt, Standing},
};
use weft_crdt::{ApplyError, ClientId, Document, StateVector};
use weft_room_api::Unavailable;
use weft_room_read::{damaged, vector_row};
use weft_store::{
    Batch,
    tables::documents::{
        CLAIMS, CLIENT_OWNERS, CURRENT_VECTOR, ClaimRow, ClientOwner, EVENT_VECTOR, SNAPSHOT_TAIL, VECTORS, VectorRow,
    },
};

use super::{
    MAX_VECTOR_HOPS, OpenText, VectorGroup,
    snapshot::{NewSnapshot, PointOfText, checkpoint_row, parts_of},
};

/// Vector groups that are reserved for a run: more than a room has events, and few of 2^64.
const GROUPS_PER_RUN: u64 = 1 << 32;
/// Rows of one portion that is written ahead.
const ROWS_PER_PORTION: usize = 1_000;

/// Numbers of rows that a task writes ahead: unused by any other.
#[derive(Debug, Clone, Copy)]
pub struct ReservedNumbers {
    /// The generation of the snapshot's parts.
    generation: u64,
    /// The first vector group.
    group: u64,
}

/// The state vectors after the events of a text that was worked out.
#[derive(Debug)]
pub enum VectorsAfter {
    /// In memory, with the group of each; their rows are in the batch that names them.
    Here(HashMap<OwnedEventId, (Arc<StateVector>, u64)>),
    /// On disk. These are the events of the text, by id.
    Written(Vec<OwnedEventId>),
}

impl Default for VectorsAfter {
    fn default() -> Self {
        Self::Here(HashMap::new())
    }
}

/// See the module.
pub struct Replacement {
    /// What was decided, without the updates and the vectors.
    pub decided: Rebuilt,
    /// Rows that nothing refers to yet, to be written before the rest.
    ahead: Vec<Batch>,
    /// The rest.
    rows: Batch,
    text: Document,
    owners: Owners,
    sealed: StateVector,
    group: VectorGroup,
    vectors: VectorsAfter,
    snapshot: NewSnapshot,
    point: PointOfText,
}

impl Replacement {
    /// Prepares the text; `point` is its place in the graph.
    pub fn new(
        room: &RoomId,
        mut rebuilt: Rebuilt,
        numbers: ReservedNumbers,
        point: PointOfText,
    ) -> Result<Self, ApplyError> {
        let mut growing = GrowingText::new(room, numbers);
        growing.rows.delete_range(&CLAIMS, &(room,));
        for standing in std::mem::take(&mut rebuilt.updates) {
            growing.text.apply(&standing.update)?;
            growing.enter(&standing);
            put_claims(&mut growing.rows, room, &standing.event, &standing.update.ranges());
        }
        let mut vectors = HashMap::with_capacity(rebuilt.vectors.len());
        for (event, vector) in std::mem::take(&mut rebuilt.vectors) {
            let group = growing.groups.of(&vector);
            growing.rows.put(&EVENT_VECTOR, &(room, &event), &group.id);
            vectors.insert(event, (vector, group.id));
        }
        Ok(growing.finish(rebuilt, VectorsAfter::Here(vectors), point))
    }

    /// The rows to write ahead, in portions.
    pub fn take_ahead(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.ahead)
    }
}

/// A text that is worked out event by event. What was taken is written ahead, so that memory has the text and not its
/// events.
///
/// The rows of claims and vectors replace those of the text that is in use. That is no harm while it is: a vector says
/// more about an event than that text has, at most, and such updates wait for the replacement.
pub struct GrowingText {
    room: OwnedRoomId,
    numbers: ReservedNumbers,
    /// The batch that names what was written ahead.
    rows: Batch,
    text: Document,
    owners: Owners,
    sealed: StateVector,
    groups: Groups,
}

impl GrowingText {
    /// An empty text.
    #[must_use]
    pub fn new(room: &RoomId, numbers: ReservedNumbers) -> Self {
        let mut rows = Batch::new();
        rows.delete_range(&CLIENT_OWNERS, &(room,));
        rows.delete_range(&SNAPSHOT_TAIL, &(room,));
        // Every event that has a vector gets another one.
        rows.delete_before(&VECTORS, &(room,), &(room, numbers.group));
        Self {
            room: room.to_owned(),
            numbers,
            rows,
            text: Document::new(),
            owners: Owners::default(),
            sealed: StateVector::new(),
            groups: Groups::new(room, numbers.group),
        }
    }

    /// Removes the claims of the text before, first of all rows that are written ahead.
    pub fn begin(&mut self) {
        self.groups.portion.delete_range(&CLAIMS, &(&self.room,));
    }

    /// The next event in the order of the graph, with the state vector after it, and its update if it stands.
    ///
    /// # Errors
    /// The update can't be applied.
    pub fn take(
        &mut self,
        event: &ruma::EventId,
        after: &Arc<StateVector>,
        standing: Option<&Standing>,
    ) -> Result<(), ApplyError> {
        let group = self.groups.of(after);
        let mut rows = 1;
        self.groups.portion.put(&EVENT_VECTOR, &(&self.room, event), &group.id);
        if let Some(standing) = standing {
            self.text.apply(&standing.update)?;
            self.enter(standing);
            let ranges = standing.update.ranges();
            put_claims(&mut self.groups.portion, &self.room, event, &ranges);
            rows += ranges.len();
        }
        self.groups.count(rows);
        Ok(())
    }

    /// The rows so far that are to be written ahead.
    pub fn take_ahead(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.groups.portions)
    }

    /// The numbers that this text did not use, for another one.
    #[must_use]
    pub fn into_numbers(self) -> ReservedNumbers {
        ReservedNumbers {
            group: self.groups.next,
            ..self.numbers
        }
    }

    /// The text of all events that were taken, which are `events`; `point` is its place in the graph.
    #[must_use]
    pub fn into_replacement(self, point: PointOfText, mut events: Vec<OwnedEventId>) -> Replacement {
        events.sort_unstable();
        self.finish(Rebuilt::default(), VectorsAfter::Written(events), point)
    }

    /// The owners and the clocks of an update that stands.
    fn enter(&mut self, standing: &Standing) {
        let Standing { event, sender, update } = standing;
        for (client, (from, to)) in update.ranges() {
            put_owner(&mut self.rows, &self.room, event, sender, (client, from));
            self.owners.claim(client, sender);
            self.sealed.raise(client, to);
        }
    }

    fn finish(mut self, decided: Rebuilt, vectors: VectorsAfter, point: PointOfText) -> Replacement {
        self.text.compact();
        let (room, generation) = (&self.room, self.numbers.generation);
        let current = self.groups.of(&Arc::new(self.sealed.clone()));
        self.rows.put(&CURRENT_VECTOR, &(room,), &current.id);
        let group = VectorGroup {
            id: Some(current.id),
            hops: current.hops,
        };
        let mut ahead = self.groups.finish();
        let encoded = Bytes::from(self.text.encode());
        let parts = parts_of(room, generation, &encoded);
        let snapshot = NewSnapshot {
            generation,
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            bytes: encoded.len(),
            checkpoint_after: u64::MAX,
            checkpoint: None,
        };
        ahead.extend(parts);
        Replacement {
            decided,
            ahead,
            rows: self.rows,
            text: self.text,
            owners: self.owners,
            sealed: self.sealed,
            group,
            vectors,
            snapshot,
            point,
        }
    }
}

/// The rows that say which event has these blocks.
fn put_claims(batch: &mut Batch, room: &RoomId, event: &ruma::EventId, ranges: &BTreeMap<ClientId, (u32, u32)>) {
    for (client, (from, to)) in ranges {
        let row = ClaimRow {
            to: *to,
            event: event.to_owned(),
        };
        batch.put(&CLAIMS, &(room, client.get(), *from), &row);
    }
}

/// The row that says who uses a client id, if these are its first blocks.
fn put_owner(
    batch: &mut Batch,
    room: &RoomId,
    event: &ruma::EventId,
    sender: &ruma::UserId,
    (client, from): (ClientId, u32),
) {
    if from == 0 {
        let owner = ClientOwner {
            user: sender.to_owned(),
            event: event.to_owned(),
        };
        batch.put(&CLIENT_OWNERS, &(room, client.get()), &owner);
    }
}

/// The rows that say who wrote these blocks.
pub(super) fn put_authors(
    batch: &mut Batch,
    room: &RoomId,
    event: &ruma::EventId,
    sender: &ruma::UserId,
    ranges: &BTreeMap<ClientId, (u32, u32)>,
) {
    put_claims(batch, room, event, ranges);
    for (client, (from, _)) in ranges {
        put_owner(batch, room, event, sender, (*client, *from));
    }
}

/// The groups of the vectors: consecutive events with the same vector share one; a larger vector is stored as a
/// difference from it.
struct Groups {
    room: OwnedRoomId,
    next: u64,
    last: Option<(Arc<StateVector>, Numbered)>,
    portions: Vec<Batch>,
    portion: Batch,
    rows: usize,
}

#[derive(Clone, Copy)]
struct Numbered {
    id: u64,
    hops: u8,
}

impl Groups {
    fn new(room: &RoomId, first: u64) -> Self {
        Self {
            room: room.to_owned(),
            next: first,
            last: None,
            portions: Vec::new(),
            portion: Batch::new(),
            rows: 0,
        }
    }

    fn of(&mut self, vector: &Arc<StateVector>) -> Numbered {
        let group = match &self.last {
            Some((known, group)) if **known == **vector => *group,
            Some((known, group)) if group.hops < MAX_VECTOR_HOPS && vector.covers(known) => {
                let more = vector.iter().filter(|(client, end)| known.get(*client) != *end);
                let row = vector_row(Some((group.id, group.hops)), numbers(more));
                self.write(&row)
            }
            _ => self.write(&vector_row(None, numbers(vector.iter()))),
        };
        self.last = Some((Arc::clone(vector), group));
        group
    }

    fn write(&mut self, row: &VectorRow) -> Numbered {
        let id = self.next;
        self.next += 1;
        self.portion.put(&VECTORS, &(&self.room, id), row);
        // A vector without a parent has many clients.
        self.count(1 + row.clients.len() / 16);
        Numbered { id, hops: row.hops }
    }

    /// Counts rows of the portion, and ends it if it is long enough.
    fn count(&mut self, rows: usize) {
        self.rows += rows;
        if self.rows >= ROWS_PER_PORTION {
            self.rows = 0;
            self.portions.push(std::mem::take(&mut self.portion));
        }
    }

    fn finish(mut self) -> Vec<Batch> {
        self.portions.push(self.portion);
        self.portions.retain(|portion| !portion.is_empty());
        self.portions
    }
}

fn numbers(clients: impl Iterator<Item = (ClientId, u32)>) -> Vec<(u64, u32)> {
    clients.map(|(client, end)| (client.get(), end)).collect()
}

impl OpenText {
    /// Reserves the numbers of rows that a task writes ahead.
    pub fn reserve_numbers(&mut self) -> ReservedNumbers {
        let numbers = ReservedNumbers {
            generation: self.snapshot.next,
            group: self.next_group,
        };
        // No other run writes from now on.
        self.snapshot
            .left_over
            .extend(self.snapshot.reserved.replace(numbers.generation));
        self.snapshot.next = self.snapshot.next.saturating_add(1);
        self.next_group = self.next_group.saturating_add(GROUPS_PER_RUN);
        numbers
    }

    /// Replaces the text, its claims, owners and vectors by what was worked out from all events. The rows ahead must be
    /// on disk. Pending edits stay pending. Returns the text before and the new vectors.
    pub fn replace(
        &mut self,
        batch: &mut Batch,
        room: &RoomId,
        new: Replacement,
    ) -> Result<(Document, VectorsAfter), Unavailable> {
        let before = std::mem::replace(self.text.get_mut()?, new.text);
        self.note_replaced();
        self.next_version_is_first(batch, room);
        batch.append(new.rows);
        self.owners = new.owners;
        self.sealed = new.sealed;
        self.group = new.group;
        self.clear_tail();
        self.unwritten = None;
        let mut snapshot = new.snapshot;
        let generation = snapshot.generation;
        self.snapshot.reserved = self.snapshot.reserved.filter(|reserved| *reserved != generation);
        self.clear_checkpoints(batch, room, generation);
        // Where clocks are claimed twice, later events may change the text at earlier ones. What is pending is not part of
        // it: its steps have this version too.
        if !new.decided.is_disputed {
            let row = checkpoint_row(generation, snapshot.parts, new.point, self.merged(), &self.sealed);
            snapshot.checkpoint = Some((self.version.seq, row));
        }
        self.put_snapshot(batch, room, snapshot);
        for edit in &self.pending {
            let text = self.text.get_mut()?;
            text.apply(&edit.update).map_err(|error| damaged(room, &error))?;
            for client in edit.update.ranges().into_keys() {
                self.owners.claim(client, &edit.author);
            }
        }
        Ok((before, new.vectors))
    }

    /// Whether the text differs from what it was. Two encodings of one text may count as different.
    pub fn differs_from(&self, before: &Document) -> bool {
        self.text.get().is_ok_and(|text| !text.has_same_bytes(before))
    }
}

#[cfg(test)]
mod tests {
    use ruma::EventId;

    use super::*;

    fn vector(ends: &[(u32, u32)]) -> Arc<StateVector> {
        Arc::new(
            ends.iter()
                .map(|(client, end)| (ClientId::from(*client), *end))
                .collect(),
        )
    }

    #[test]
    fn a_long_history_is_written_ahead_in_bounded_portions() {
        let room = RoomId::parse("!r:x").unwrap();
        let events: Vec<OwnedEventId> = (0..5_000).map(|n| EventId::parse(format!("${n}")).unwrap()).collect();
        let vectors = events
            .iter()
            .zip(1_u32..)
            .map(|(event, end)| (event.clone(), vector(&[(1, end)])));
        let rebuilt = Rebuilt {
            vectors: vectors.collect(),
            ..Rebuilt::default()
        };
        let mut text = OpenText::empty();
        let numbers = text.reserve_numbers();
        let mut replacement = Replacement::new(&room, rebuilt, numbers, PointOfText::default()).unwrap();
        let portions = replacement.take_ahead();
        assert!(portions.len() >= 5, "{}", portions.len());
        assert!(portions.iter().all(|portion| portion.len() <= ROWS_PER_PORTION));
        let mut batch = Batch::new();
        let (_, vectors) = text.replace(&mut batch, &room, replacement).unwrap();
        // One small row an event, and a few more.
        assert!(batch.len() <= events.len() + 15, "{}", batch.len());
        let VectorsAfter::Here(vectors) = vectors else {
            panic!("the vectors are not written ahead");
        };
        let last = &vectors[&events[4_999]];
        assert_eq!(last.0, vector(&[(1, 5_000)]));
    }

    #[test]
    fn numbers_are_reserved_once() {
        let mut text = OpenText::empty();
        let (one, two) = (text.reserve_numbers(), text.reserve_numbers());
        assert!(one.generation < two.generation && one.group < two.group);
    }
}
