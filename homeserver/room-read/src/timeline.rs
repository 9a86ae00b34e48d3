//! The visible events of a room in stream ordering. Must not decide who may see an event.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::try_join;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_store::{
    Lane, LimitedQuery, Table, VisiblePositions,
    tables::rooms::{BACKFILL_POSITIONS, STREAM, TIMELINE, TIMELINE_WITHOUT_UPDATES},
};
use weft_wire::{event_types, limits::MAX_PAGE_EVENTS};

use crate::{Place, Reader, damaged};

/// Which events of a timeline are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// All.
    All,
    /// All but updates of the text.
    WithoutUpdates,
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To newer events.
    Forward,
    /// To older events.
    Backward,
}

/// An event with its stream ordering.
#[derive(Debug, Clone)]
pub struct TimelineEvent {
    /// The stream ordering; negative for backfilled events.
    pub order: i64,
    /// The event.
    pub pdu: Arc<Pdu>,
}

impl AsRef<Pdu> for TimelineEvent {
    fn as_ref(&self) -> &Pdu {
        &self.pdu
    }
}

/// A page of a timeline.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In the direction of reading.
    pub events: Vec<TimelineEvent>,
    /// Where the next page begins (pass it as `from`); `None` at the end of what this server has.
    pub next: Option<i64>,
}

/// New events of a room.
#[derive(Debug, Clone, Default)]
pub struct Since {
    /// Oldest first.
    pub events: Vec<TimelineEvent>,
    /// There were more events; these are the newest.
    pub limited: bool,
}

/// Events that are read at a time to find one that is not a witness event. Mostly the first one is not. A server sends
/// one witness event in ten minutes, so a few reads suffice.
const NEWEST_PAGES: [usize; 4] = [2, 50, 200, 200];

type Index = Table<(OwnedRoomId, i64), OwnedEventId>;

fn index(types: Types) -> &'static Index {
    match types {
        Types::All => &TIMELINE,
        Types::WithoutUpdates => &TIMELINE_WITHOUT_UPDATES,
    }
}

impl Reader {
    /// Events after `from` (Forward) or before it (Backward), without the one at `from`; `None` begins at the end.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn timeline(
        &self,
        room: &RoomId,
        from: Option<i64>,
        direction: Direction,
        types: Types,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let limit = limit.clamp(1, MAX_PAGE_EVENTS);
        let query = index(types).under(&(room,));
        let query = match (direction, from) {
            (Direction::Forward, None) => query,
            (Direction::Forward, Some(from)) => query.after(&(room, from)),
            (Direction::Backward, None) => query.reversed(),
            (Direction::Backward, Some(from)) => query.before(&(room, from)).reversed(),
        };
        let mut rows: Vec<(i64, OwnedEventId)> = self
            .rows_of(room, query.limit(limit + 1))
            .await?
            .into_iter()
            .map(|((_, order), id)| (order, id))
            .collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(order, _)| *order);
        Ok(Page {
            events: self.persisted_events(room, rows).await?,
            next,
        })
    }

    /// Rows of a timeline, and at the same time the room's row, by which their events are read.
    async fn rows_of(
        &self,
        room: &RoomId,
        query: LimitedQuery<(OwnedRoomId, i64), OwnedEventId>,
    ) -> Result<Vec<((OwnedRoomId, i64), OwnedEventId)>, Unavailable> {
        let rows = async { Ok(self.store.scan(query).await?) };
        let (rows, _) = try_join(rows, self.room(room)).await?;
        Ok(rows)
    }

    /// The newest event that is not a witness event; servers send those automatically. A limited number is skipped; if
    /// all of these are witness events, the last of them is returned.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn newest_change(&self, room: &RoomId) -> Result<Option<TimelineEvent>, Unavailable> {
        let (mut from, mut last) = (None, None);
        for limit in NEWEST_PAGES {
            let page = self
                .timeline(room, from, Direction::Backward, Types::All, limit)
                .await?;
            for event in page.events {
                if event.pdu.kind() != event_types::WITNESS {
                    return Ok(Some(event));
                }
                last = Some(event);
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        Ok(last)
    }

    /// The newest events after position `from` and up to `to`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn since(
        &self,
        room: &RoomId,
        from: u64,
        to: u64,
        types: Types,
        limit: usize,
    ) -> Result<Since, Unavailable> {
        let limit = limit.min(MAX_PAGE_EVENTS);
        let query = index(types)
            .under(&(room,))
            .after(&(room, order_of(from)))
            .through(&(room, order_of(to)))
            .reversed()
            .limit(limit + 1);
        let mut rows: Vec<(i64, OwnedEventId)> = self
            .rows_of(room, query)
            .await?
            .into_iter()
            .map(|((_, order), id)| (order, id))
            .collect();
        let limited = rows.len() > limit;
        rows.truncate(limit);
        rows.reverse();
        Ok(Since {
            events: self.persisted_events(room, rows).await?,
            limited,
        })
    }

    /// The lane of a room.
    #[must_use]
    pub fn lane_of(&self, room: &RoomId) -> Lane {
        self.store.lane_of(room)
    }

    /// Everything committed at or below these positions can be read.
    #[must_use]
    pub fn visible_positions(&self) -> VisiblePositions {
        self.store.positions().visible()
    }

    /// The events of a lane with stream positions after `from` and up to `to`, the first `most` of them, with their positions and
    /// rooms. They need not be visible.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn stream(
        &self,
        lane: Lane,
        (from, to): (u64, u64),
        most: usize,
    ) -> Result<Vec<(u64, OwnedRoomId, OwnedEventId)>, Unavailable> {
        let query = STREAM.under(&(lane,)).after(&(lane, from)).through(&(lane, to));
        let rows = self.store.scan(query.limit(most)).await?;
        Ok(rows
            .into_iter()
            .map(|((_, position), row)| (position, row.room, row.event))
            .collect())
    }

    /// Rooms with commits after `from` and up to `to`, a pair of each lane, and their events, oldest first; `None` if these
    /// are more than `most` events.
    ///
    /// A timeline event or state group with a stream position has its row here, written in the same commit: a room that
    /// is not returned has neither.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn moved(
        &self,
        spans: Vec<(Lane, u64, u64)>,
        most: usize,
    ) -> Result<Option<BTreeMap<OwnedRoomId, Vec<OwnedEventId>>>, Unavailable> {
        let mut moved: BTreeMap<OwnedRoomId, Vec<OwnedEventId>> = BTreeMap::new();
        let mut read = 0_usize;
        for (lane, from, to) in spans.into_iter().filter(|(_, from, to)| from < to) {
            let query = STREAM
                .under(&(lane,))
                .after(&(lane, from))
                .through(&(lane, to))
                .limit(most.saturating_sub(read).saturating_add(1));
            let rows = self.store.scan(query).await?;
            read = read.saturating_add(rows.len());
            if read > most {
                return Ok(None);
            }
            for (_, row) in rows {
                moved.entry(row.room).or_default().push(row.event);
            }
        }
        Ok(Some(moved))
    }

    /// The stream ordering of an event in its room's timeline; `None` if it is not in it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn order(&self, room: &RoomId, event: &EventId) -> Result<Option<i64>, Unavailable> {
        let stored = self.stored_event(room, event).await?;
        match stored.filter(crate::StoredEvent::is_visible).map(|stored| stored.place) {
            Some(Place::Stream(position)) => Ok(Some(order_of(position.get()))),
            Some(Place::Unordered) => {
                let place = self.store.get(&BACKFILL_POSITIONS, &(room, event)).await?;
                Ok(place.and_then(|place| i64::try_from(place).ok()).map(|place| -place))
            }
            None => Ok(None),
        }
    }

    async fn persisted_events(
        &self,
        room: &RoomId,
        rows: Vec<(i64, OwnedEventId)>,
    ) -> Result<Vec<TimelineEvent>, Unavailable> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (orders, ids): (Vec<i64>, Vec<OwnedEventId>) = rows.into_iter().unzip();
        let events = self.events(room, &ids).await?;
        if events.len() != ids.len() {
            return Err(damaged(room, &"an event of the timeline is missing"));
        }
        let placed = orders.into_iter().zip(events);
        Ok(placed
            .map(|(order, event)| TimelineEvent { order, pdu: event.pdu })
            .collect())
    }
}

/// A stream position as a stream ordering of the timeline.
pub fn order_of(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}
