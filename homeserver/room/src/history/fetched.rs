//! The fetched events of a history on disk: they are requested newest first and decided oldest first, so all of them
//! wait until the oldest is here. What is in memory does not depend on their number.
//!
//! Each reference (`prev_events`) of a fetched event is decided, or fetched too, or wanted. An event is ready when all
//! of them are decided. Every commit requires the row with the totals as it was read. Must not request events, and must
//! not decide about them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use ruma::{OwnedEventId, RoomId};
use weft_dag::{RoomVersion, Verified};
use weft_room_api::Unavailable;
use weft_room_read::damaged;
use weft_store::{
    Batch, Store,
    tables::rooms::{
        EVENT_GROUP, FETCHED_EVENTS, FETCHED_FOLLOWERS, FETCHED_HISTORY, FETCHED_READY, FetchedHistoryRow, FetchedRow,
        MISSING_EVENTS, WANTED_EVENTS,
    },
};
use weft_wire::limits::MAX_BACKFILL_EVENTS;

use super::{FetchedBytes, UndecidedEvent};

/// Events of a portion for the worker.
const PORTION: usize = 100;
/// Events that are taken from one response: those before the requested events, and the requested ones that were
/// requested again one by one.
const MAX_TAKEN: usize = 2 * MAX_BACKFILL_EVENTS;
/// Rows that follow one event and are read at a time.
const FOLLOWERS: usize = 100;
/// Bytes that are counted for each index row of an event, of which there is one for each reference and two more.
const INDEX_ROW_BYTES: u64 = 160;

/// The fetched events of a room.
pub(super) struct FetchedEvents<'a> {
    store: &'a Store,
    room: &'a RoomId,
    version: &'a RoomVersion,
    /// The totals of all rooms.
    bytes: &'a FetchedBytes,
    row: Option<FetchedHistoryRow>,
    /// Events that could not be decided in this run.
    stuck: BTreeSet<OwnedEventId>,
}

/// The events of a response, beside those that are here.
pub(super) enum Taken {
    /// The number of new events.
    New(usize),
    /// The room's limit of bytes would be exceeded.
    TooMany,
    /// The limit of bytes of all rooms would be exceeded.
    Full,
}

/// Limits of the bytes of fetched events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) of_room: u64,
    pub(super) of_all: u64,
}

/// Events that could not be decided in one run, after which the rest is left to the next run.
const MAX_STUCK: usize = 1_000;

impl<'a> FetchedEvents<'a> {
    /// Reads the totals.
    pub(super) async fn open(
        store: &'a Store,
        (room, version): (&'a RoomId, &'a RoomVersion),
        bytes: &'a FetchedBytes,
    ) -> Result<FetchedEvents<'a>, Unavailable> {
        let row = store.get(&FETCHED_HISTORY, &(room,)).await?;
        let fetched = Self {
            store,
            room,
            version,
            bytes,
            row,
            stuck: BTreeSet::new(),
        };
        fetched.note_bytes();
        Ok(fetched)
    }

    fn note_bytes(&self) {
        self.bytes.note(self.room, self.row.as_ref().map_or(0, |row| row.bytes));
    }

    /// The fetched events that wait for a decision.
    pub(super) fn count(&self) -> u64 {
        self.row.as_ref().map_or(0, |row| row.events)
    }

    /// Events that could not be decided in this run.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// Whether an earlier run found that the history exceeds this limit.
    pub(super) fn exceeds(&self, limit: u64) -> bool {
        let exceeded = self.row.as_ref().and_then(|row| row.exceeds);
        exceeded.is_some_and(|exceeded| exceeded >= limit)
    }

    /// Whether an event is missing that accepted events reference.
    pub(super) async fn is_any_missing(&self) -> Result<bool, Unavailable> {
        let first = self.store.scan(MISSING_EVENTS.under(&(self.room,)).limit(1)).await?;
        Ok(!first.is_empty())
    }

    /// Adds the missing events of the room to those to request, and removes those that were received another way.
    pub(super) async fn find_wanted(&mut self) -> Result<(), Unavailable> {
        let mut missing = self.store.stream(MISSING_EVENTS.under(&(self.room,)))?;
        while let Some(page) = missing.page().await? {
            let ids: Vec<OwnedEventId> = page.into_iter().map(|((_, id), ())| id).collect();
            let mut known = self.waiting(&ids).await?;
            known.extend(self.wanted_of(&ids).await?);
            let mut batch = Batch::new();
            for id in ids.iter().filter(|id| !known.contains(*id)) {
                batch.put(&WANTED_EVENTS, &(self.room, id), &());
            }
            if !batch.is_empty() {
                self.commit(batch, (0, 0)).await?;
            }
        }
        let mut wanted = self.store.stream(WANTED_EVENTS.under(&(self.room,)))?;
        while let Some(page) = wanted.page().await? {
            let ids: Vec<OwnedEventId> = page.into_iter().map(|((_, id), ())| id).collect();
            let decided = self.decided(&ids).await?;
            for id in ids.iter().filter(|id| decided.contains(*id)) {
                let mut batch = Batch::new();
                self.release_followers(id, &HashSet::new(), &mut batch).await?;
                batch.delete(&WANTED_EVENTS, &(self.room, id));
                self.commit(batch, (0, 0)).await?;
            }
        }
        Ok(())
    }

    /// Some of the events to request, after this one.
    pub(super) async fn wanted(
        &self,
        after: Option<&OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<OwnedEventId>, Unavailable> {
        let query = WANTED_EVENTS.under(&(self.room,));
        let query = match after {
            Some(after) => query.after(&(self.room, after)),
            None => query,
        };
        let rows = self.store.scan(query.limit(limit)).await?;
        Ok(rows.into_iter().map(|((_, id), ())| id).collect())
    }

    /// Keeps the events of a response that are wanted, or referenced by such events of the same response. Others are
    /// ignored: a server must not fill the disk with events that nobody needs.
    pub(super) async fn take(&mut self, response: Vec<Verified>, limits: Limits) -> Result<Taken, Unavailable> {
        let new = self.needed(response).await?;
        if new.is_empty() {
            return Ok(Taken::New(0));
        }
        let more: u64 = new.values().map(charge).fold(0, u64::saturating_add);
        let bytes = self.row.as_ref().map_or(0, |row| row.bytes);
        if bytes.saturating_add(more) > limits.of_room {
            return Ok(Taken::TooMany);
        }
        if !self.bytes.admit(more, limits.of_all) {
            return Ok(Taken::Full);
        }
        let outside: BTreeSet<OwnedEventId> = new
            .values()
            .flat_map(|event| event.pdu().prev_events())
            .filter(|id| !new.contains_key(*id))
            .cloned()
            .collect();
        let outside: Vec<OwnedEventId> = outside.into_iter().collect();
        let decided = self.decided(&outside).await?;
        let waiting = self.waiting(&outside).await?;
        let mut batch = Batch::new();
        for (id, event) in &new {
            self.put_event(&mut batch, id, event, &decided);
        }
        for id in outside
            .iter()
            .filter(|id| !decided.contains(*id) && !waiting.contains(*id))
        {
            batch.put(&WANTED_EVENTS, &(self.room, id), &());
        }
        let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
        self.commit(batch, (count, i64::try_from(more).unwrap_or(i64::MAX)))
            .await?;
        Ok(Taken::New(new.len()))
    }

    fn put_event(&self, batch: &mut Batch, id: &OwnedEventId, event: &Verified, decided: &HashSet<OwnedEventId>) {
        let row = FetchedRow {
            redacted: event.redacted_on_receipt(),
            json: event.pdu().json().to_owned().into(),
        };
        batch.put(&FETCHED_EVENTS, &(self.room, id), &row);
        batch.delete(&WANTED_EVENTS, &(self.room, id));
        let mut is_ready = true;
        for before in event.pdu().prev_events().iter().filter(|id| !decided.contains(*id)) {
            batch.put(&FETCHED_FOLLOWERS, &(self.room, before, id), &());
            is_ready = false;
        }
        if is_ready {
            batch.put(&FETCHED_READY, &(self.room, id), &());
        }
    }

    /// The new events of a response that something needs.
    async fn needed(&self, response: Vec<Verified>) -> Result<BTreeMap<OwnedEventId, Verified>, Unavailable> {
        let of_room = response.into_iter().filter(|event| event.pdu().room_id() == self.room);
        let mut response: BTreeMap<OwnedEventId, Verified> = of_room
            .take(MAX_TAKEN)
            .map(|event| (event.pdu().event_id().to_owned(), event))
            .collect();
        let ids: Vec<OwnedEventId> = response.keys().cloned().collect();
        let mut queue: Vec<OwnedEventId> = self.wanted_of(&ids).await?.into_iter().collect();
        let mut needed = BTreeMap::new();
        while let Some(id) = queue.pop() {
            if let Some(event) = response.remove(&id) {
                queue.extend(event.pdu().prev_events().iter().cloned());
                needed.insert(id, event);
            }
        }
        let ids: Vec<OwnedEventId> = needed.keys().cloned().collect();
        let (decided, waiting) = (self.decided(&ids).await?, self.waiting(&ids).await?);
        needed.retain(|id, _| !decided.contains(id) && !waiting.contains(id));
        Ok(needed)
    }

    /// The next events to decide about, each after those that it references. Empty: none is ready.
    pub(super) async fn portion(&self) -> Result<Vec<Verified>, Unavailable> {
        if self.stuck.len() >= MAX_STUCK {
            return Ok(Vec::new());
        }
        let query = FETCHED_READY.under(&(self.room,)).limit(PORTION + self.stuck.len());
        let ready = self.store.scan(query).await?.into_iter().map(|((_, id), ())| id);
        let ready: Vec<OwnedEventId> = ready.filter(|id| !self.stuck.contains(id)).take(PORTION).collect();
        let mut queue = VecDeque::from(self.events(&ready).await?);
        // In room version 12 all events depend on the create event without referencing it.
        let places = queue.make_contiguous();
        places.sort_by_key(|event| event.pdu().kind() != "m.room.create");
        let mut seen: HashSet<OwnedEventId> = ready.into_iter().collect();
        let (mut portion, mut members) = (Vec::new(), HashSet::new());
        while let Some(event) = queue.pop_front() {
            let id = event.pdu().event_id().to_owned();
            portion.push(event);
            members.insert(id.clone());
            if portion.len() + queue.len() >= PORTION {
                continue;
            }
            let query = FETCHED_FOLLOWERS.under(&(self.room, &id)).limit(PORTION);
            let followers = self.store.scan(query).await?.into_iter().map(|((_, _, id), ())| id);
            let followers: Vec<OwnedEventId> = followers
                .filter(|id| !seen.contains(id) && !self.stuck.contains(id))
                .collect();
            for follower in self.events(&followers).await? {
                if portion.len() + queue.len() < PORTION && self.follows_decided(&follower, &members).await? {
                    seen.insert(follower.pdu().event_id().to_owned());
                    queue.push_back(follower);
                }
            }
        }
        Ok(portion)
    }

    /// Removes the events of a portion that are decided now; the events that waited for them may be ready. Returns their
    /// number.
    pub(super) async fn settle(
        &mut self,
        portion: Charges,
        undecided: Vec<UndecidedEvent>,
    ) -> Result<usize, Unavailable> {
        let Charges(mut portion) = portion;
        for event in &undecided {
            portion.remove(&event.id);
        }
        let bytes = portion.values().copied().fold(0, u64::saturating_add);
        let settled: HashSet<OwnedEventId> = portion.into_keys().collect();
        let mut batch = Batch::new();
        for id in &settled {
            self.release_followers(id, &settled, &mut batch).await?;
            batch.delete(&FETCHED_READY, &(self.room, id));
            batch.delete(&FETCHED_EVENTS, &(self.room, id));
        }
        for event in undecided {
            self.defer(event, &mut batch).await?;
        }
        if !batch.is_empty() {
            let count = i64::try_from(settled.len()).unwrap_or(i64::MAX);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.commit(batch, (-count, -bytes)).await?;
        }
        Ok(settled.len())
    }

    /// An event without a decision waits for the auth events that are fetched and not decided. Others are requested.
    async fn defer(&mut self, event: UndecidedEvent, batch: &mut Batch) -> Result<(), Unavailable> {
        let UndecidedEvent { id, lacks } = event;
        let waiting = self.waiting(&lacks).await?;
        for auth in lacks.iter().filter(|auth| !waiting.contains(*auth)) {
            batch.put(&WANTED_EVENTS, &(self.room, auth), &());
        }
        for auth in &lacks {
            batch.put(&FETCHED_FOLLOWERS, &(self.room, auth, &id), &());
        }
        if lacks.is_empty() {
            self.stuck.insert(id);
        } else {
            batch.delete(&FETCHED_READY, &(self.room, &id));
        }
        Ok(())
    }

    /// Removes the index rows of those that waited for a decided event. `settled`: events that are decided too.
    async fn release_followers(
        &mut self,
        id: &OwnedEventId,
        settled: &HashSet<OwnedEventId>,
        batch: &mut Batch,
    ) -> Result<(), Unavailable> {
        let mut last: Option<OwnedEventId> = None;
        loop {
            let query = FETCHED_FOLLOWERS.under(&(self.room, id));
            let query = match &last {
                Some(last) => query.after(&(self.room, id, last)),
                None => query,
            };
            let rows = self.store.scan(query.limit(FOLLOWERS)).await?;
            let followers: Vec<OwnedEventId> = rows.into_iter().map(|((_, _, follower), ())| follower).collect();
            let others: Vec<OwnedEventId> = followers.iter().filter(|id| !settled.contains(*id)).cloned().collect();
            let itself = HashSet::from([id.clone()]);
            for follower in self.events(&others).await? {
                if self.follows_decided(&follower, &itself).await? {
                    batch.put(&FETCHED_READY, &(self.room, follower.pdu().event_id()), &());
                }
            }
            for follower in &followers {
                batch.delete(&FETCHED_FOLLOWERS, &(self.room, id, follower));
            }
            if followers.len() < FOLLOWERS {
                return Ok(());
            }
            last = followers.last().cloned();
            // Many events follow one: their rows are removed in several batches.
            self.commit(std::mem::take(batch), (0, 0)).await?;
        }
    }

    /// Deletes everything. `exceeds`: the limit of bytes that the history exceeds.
    pub(super) async fn clear(&mut self, exceeds: Option<u64>) -> Result<(), Unavailable> {
        if self.row.is_none() && exceeds.is_none() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.delete_range(&FETCHED_EVENTS, &(self.room,));
        batch.delete_range(&FETCHED_FOLLOWERS, &(self.room,));
        batch.delete_range(&FETCHED_READY, &(self.room,));
        batch.delete_range(&WANTED_EVENTS, &(self.room,));
        batch.require(&FETCHED_HISTORY, &(self.room,), self.row.as_ref());
        self.row = exceeds.map(|exceeds| FetchedHistoryRow {
            exceeds: Some(exceeds),
            ..FetchedHistoryRow::default()
        });
        match &self.row {
            Some(row) => batch.put(&FETCHED_HISTORY, &(self.room,), row),
            None => batch.delete(&FETCHED_HISTORY, &(self.room,)),
        }
        self.store.commit(batch).await?;
        self.note_bytes();
        Ok(())
    }

    /// Commits with the totals changed by these numbers of events and bytes.
    async fn commit(&mut self, mut batch: Batch, (events, bytes): (i64, i64)) -> Result<(), Unavailable> {
        let before = self.row.clone();
        let row = before.clone().unwrap_or_default();
        let row = FetchedHistoryRow {
            events: row.events.saturating_add_signed(events),
            bytes: row.bytes.saturating_add_signed(bytes),
            exceeds: None,
        };
        batch.require(&FETCHED_HISTORY, &(self.room,), before.as_ref());
        batch.put(&FETCHED_HISTORY, &(self.room,), &row);
        self.store.commit(batch).await?;
        self.row = Some(row);
        self.note_bytes();
        Ok(())
    }

    /// Whether an event references only these and decided events.
    async fn follows_decided(&self, event: &Verified, these: &HashSet<OwnedEventId>) -> Result<bool, Unavailable> {
        let others = event.pdu().prev_events().iter().filter(|id| !these.contains(*id));
        let others: Vec<OwnedEventId> = others.cloned().collect();
        let decided = self.decided(&others).await?;
        Ok(others.iter().all(|id| decided.contains(id)))
    }

    /// Those of these events that have a place in the graph of the room.
    async fn decided(&self, ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>, Unavailable> {
        let keys = ids.iter().map(|id| (self.room, id));
        let rows = self.store.get_many(&EVENT_GROUP, keys).await?;
        Ok(present(ids, rows))
    }

    /// Those of these events that are fetched and not decided.
    async fn waiting(&self, ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>, Unavailable> {
        let keys = ids.iter().map(|id| (self.room, id));
        let rows = self.store.get_many(&FETCHED_EVENTS, keys).await?;
        Ok(present(ids, rows))
    }

    /// Those of these events that are to be requested.
    async fn wanted_of(&self, ids: &[OwnedEventId]) -> Result<HashSet<OwnedEventId>, Unavailable> {
        let keys = ids.iter().map(|id| (self.room, id));
        let rows = self.store.get_many(&WANTED_EVENTS, keys).await?;
        Ok(present(ids, rows))
    }

    /// The fetched events with these ids, in this order.
    async fn events(&self, ids: &[OwnedEventId]) -> Result<Vec<Verified>, Unavailable> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| (self.room, id));
        let rows = self.store.get_many(&FETCHED_EVENTS, keys).await?;
        let mut events = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(rows) {
            let Some(row) = row else { continue };
            let json = std::str::from_utf8(&row.json).map_err(|error| damaged(self.room, &error))?;
            let event = Verified::from_trusted_json(json, id.clone(), self.version, row.redacted);
            events.push(event.map_err(|error| damaged(self.room, &error))?);
        }
        Ok(events)
    }
}

/// The bytes that the events of a portion take on disk.
pub(super) struct Charges(BTreeMap<OwnedEventId, u64>);

impl Charges {
    pub(super) fn of(portion: &[Verified]) -> Self {
        let charges = portion
            .iter()
            .map(|event| (event.pdu().event_id().to_owned(), charge(event)));
        Self(charges.collect())
    }
}

/// The ids that have a row.
fn present<V>(ids: &[OwnedEventId], rows: Vec<Option<V>>) -> HashSet<OwnedEventId> {
    let found = ids.iter().zip(rows).filter(|(_, row)| row.is_some());
    found.map(|(id, _)| id.clone()).collect()
}

/// The bytes that an event takes on disk, with its index rows.
fn charge(event: &Verified) -> u64 {
    let rows = event.pdu().prev_events().len() + 2;
    let text = u64::try_from(event.pdu().json().len()).unwrap_or(u64::MAX);
    text.saturating_add(INDEX_ROW_BYTES.saturating_mul(u64::try_from(rows).unwrap_or(u64::MAX)))
}
