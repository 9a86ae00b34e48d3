//! The signed log of a document in an order in which each event follows the events that it references, for an export
//! (`spec/docs/audit.md`).
//!
//! The order is that of the timeline: the order of arrival on this server, in which an event comes after its ancestors. It
//! needs no graph in memory, as a sort would, and no number that a sender chooses, as depth and time are. Two kinds of
//! events are not at their place in it and are inserted before the first event that references them: rejected and soft-failed ones,
//! which have none, and those that filled a gap later. Must not decide who may export.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use weft_dag::{Pdu, RoomVersion, event_flags, order};
use weft_room_api::{RoomError, Unavailable};
use weft_store::tables::rooms::BACKFILL_POSITIONS;
use weft_wire::limits::{AUDIT_PAGE_EVENTS, MAX_AUDIT_EVENTS_AHEAD};

use crate::{Direction, Place, Reader, StoredEvent, Types, damaged, order_of};

/// The newest events that were exported: mostly these are referenced.
const RECENT: usize = 8_192;

/// A part of the log.
#[derive(Debug)]
pub enum AuditItem {
    /// An event.
    Event {
        /// The event.
        pdu: Arc<Pdu>,
        /// Whether the room accepted it. If not, it is exported because an accepted event follows it.
        accepted: bool,
    },
    /// An event that only states what was before a cut.
    Before(Arc<Pdu>),
    /// Events that are not exported, and the state after them: events of earlier parts.
    Cut {
        /// The absent events.
        cut: Vec<OwnedEventId>,
        /// The state.
        state: Vec<OwnedEventId>,
    },
}

/// An export under way.
#[derive(Debug)]
pub struct AuditLog {
    reader: Reader,
    room: OwnedRoomId,
    version: RoomVersion,
    /// The first and the last event to export, by their orders in the timeline.
    span: (i64, i64),
    /// Events that are backfilled after the beginning have an order above this one, and are not at their place.
    backfilled: i64,
    /// The order of the last event that was read from the timeline.
    at: Option<i64>,
    is_at_end: bool,
    recent: [HashSet<OwnedEventId>; 2],
    /// Exported before their turn.
    ahead: HashSet<OwnedEventId>,
    /// Exported, without a place in the timeline.
    unplaced: HashSet<OwnedEventId>,
    /// Stated as absent, or as what was before a cut.
    cut: HashSet<OwnedEventId>,
    before: HashSet<OwnedEventId>,
}

/// Where a referenced event is.
enum Found {
    /// Exported, or stated.
    Known,
    /// To be exported first.
    First(StoredEvent),
    /// Not exported.
    Absent(Option<StoredEvent>),
}

impl Reader {
    /// Begins an export of all events that were accepted up to now; with `from`, of that event and those that arrived
    /// after it.
    ///
    /// # Errors
    /// The room or the event is unknown, or the store can't be read.
    pub async fn audit_log(&self, room: &RoomId, from: Option<&EventId>) -> Result<AuditLog, RoomError> {
        let version = self.version(room).await?;
        let version = version.ok_or_else(|| RoomError::UnknownRoom(room.to_owned()))?;
        let first = match from {
            None => i64::MIN,
            Some(from) => {
                let order = self.order(room, from).await?;
                order.ok_or_else(|| RoomError::UnknownEvent(from.to_owned()))?
            }
        };
        Ok(AuditLog {
            span: (first, order_of(self.last_position(room).await?)),
            backfilled: self.last_backfill_position(room).await?,
            reader: self.clone(),
            room: room.to_owned(),
            version,
            at: (first > i64::MIN).then(|| first.saturating_sub(1)),
            is_at_end: false,
            recent: Default::default(),
            ahead: HashSet::new(),
            unplaced: HashSet::new(),
            cut: HashSet::new(),
            before: HashSet::new(),
        })
    }
}

impl AuditLog {
    /// The next part of the log; `None` at the end.
    ///
    /// # Errors
    /// When the store can't be read, or too many events are not at their place.
    pub async fn next(&mut self) -> Result<Option<Vec<AuditItem>>, Unavailable> {
        if self.is_at_end {
            return Ok(None);
        }
        let page = self
            .reader
            .timeline(&self.room, self.at, Direction::Forward, Types::All, AUDIT_PAGE_EVENTS)
            .await?;
        self.is_at_end = page.next.is_none();
        let mut items = Vec::with_capacity(page.events.len());
        let events = page.events.iter().map(|event| &event.pdu);
        let mut read = self.read_referenced(events).await?;
        for event in page.events {
            if event.order > self.span.1 {
                self.is_at_end = true;
                break;
            }
            self.at = Some(event.order);
            let id = event.pdu.event_id();
            if self.ahead.remove(id) || self.is_late(event.order) {
                continue;
            }
            self.place(event.pdu, &mut read, &mut items).await?;
        }
        Ok(Some(items))
    }

    /// Backfilled after the export began: exported where it is referenced.
    fn is_late(&self, order: i64) -> bool {
        order < 0 && order > self.backfilled
    }

    fn is_exported(&self, id: &EventId) -> bool {
        self.recent.iter().any(|recent| recent.contains(id)) || self.unplaced.contains(id) || self.ahead.contains(id)
    }

    /// Reads what the events of a page reference and what is not known to be exported, at once.
    async fn read_referenced<'a>(
        &self,
        events: impl Iterator<Item = &'a Arc<Pdu>>,
    ) -> Result<HashMap<OwnedEventId, StoredEvent>, Unavailable> {
        let (mut ids, mut here) = (BTreeSet::new(), HashSet::new());
        for pdu in events {
            let referenced = pdu.prev_events().iter().chain(pdu.auth_events());
            ids.extend(
                referenced
                    .filter(|id| !here.contains(*id) && !self.is_exported(id))
                    .cloned(),
            );
            here.insert(pdu.event_id().to_owned());
        }
        let ids: Vec<OwnedEventId> = ids.into_iter().collect();
        let stored = self.reader.stored_events(&self.room, &self.version, &ids).await?;
        Ok(stored
            .into_iter()
            .map(|stored| (stored.pdu.event_id().to_owned(), stored))
            .collect())
    }

    /// Exports an event of the timeline, after the events that it references.
    async fn place(
        &mut self,
        pdu: Arc<Pdu>,
        read: &mut HashMap<OwnedEventId, StoredEvent>,
        items: &mut Vec<AuditItem>,
    ) -> Result<(), Unavailable> {
        let mut open = vec![(pdu, true, true)];
        while let Some((pdu, accepted, in_turn)) = open.last().cloned() {
            let (mut first, mut cut) = (None, Vec::new());
            let references = pdu.prev_events().iter().map(|id| (id, true));
            for (id, is_prev) in references.chain(pdu.auth_events().iter().map(|id| (id, false))) {
                match self.find(id, is_prev, read).await? {
                    Found::Known => {}
                    Found::First(stored) => {
                        first = Some(stored);
                        break;
                    }
                    Found::Absent(stored) if is_prev => cut.push((id.clone(), stored)),
                    Found::Absent(_) => self.state_before(std::slice::from_ref(id), items).await?,
                }
            }
            if let Some(stored) = first {
                let accepted = stored.is_visible();
                open.push((stored.pdu, accepted, false));
                if open.len() > MAX_AUDIT_EVENTS_AHEAD {
                    return Err(damaged(
                        &self.room,
                        &"too many events are not at their place in the timeline",
                    ));
                }
                continue;
            }
            for (id, stored) in cut {
                self.cut_off(id, stored, &pdu, items).await?;
            }
            open.pop();
            self.note_exported(&pdu, accepted, in_turn)?;
            items.push(AuditItem::Event { pdu, accepted });
        }
        Ok(())
    }

    fn note_exported(&mut self, pdu: &Pdu, accepted: bool, in_turn: bool) -> Result<(), Unavailable> {
        let id = pdu.event_id().to_owned();
        if !accepted {
            self.unplaced.insert(id);
        } else if in_turn {
            if self.recent[0].len() >= RECENT {
                self.recent.swap(0, 1);
                self.recent[0].clear();
            }
            self.recent[0].insert(id);
        } else {
            self.ahead.insert(id);
        }
        if self.ahead.len() > MAX_AUDIT_EVENTS_AHEAD || self.unplaced.len() > 10 * MAX_AUDIT_EVENTS_AHEAD {
            return Err(damaged(
                &self.room,
                &"too many events are not at their place in the timeline",
            ));
        }
        Ok(())
    }

    async fn find(
        &self,
        id: &OwnedEventId,
        is_prev: bool,
        read: &mut HashMap<OwnedEventId, StoredEvent>,
    ) -> Result<Found, Unavailable> {
        // Of an event that only states what was before a cut, the state after it is not known yet.
        if self.is_exported(id) || self.cut.contains(id) || (!is_prev && self.before.contains(id)) {
            return Ok(Found::Known);
        }
        if !read.contains_key(id) {
            let stored = self.reader.stored_event(&self.room, id).await?;
            read.extend(stored.map(|stored| (id.clone(), stored)));
        }
        let Some(stored) = read.get(id).cloned() else {
            return Ok(Found::Absent(None));
        };
        if stored.flags & event_flags::OUTLIER != 0 {
            return Ok(Found::Absent(Some(stored)));
        }
        let order = match stored.place {
            Place::Stream(position) => Some(order_of(position.get())),
            Place::Unordered => {
                let place = self.reader.store().get(&BACKFILL_POSITIONS, &(&self.room, id)).await?;
                place.and_then(|place| i64::try_from(place).ok()).map(|place| -place)
            }
        };
        Ok(match order {
            Some(order) if order < self.span.0 => Found::Absent(Some(stored)),
            Some(order) if stored.is_visible() && self.at.is_some_and(|at| order < at) && !self.is_late(order) => {
                Found::Known
            }
            // Of a rejected or soft-failed event of the time before the join nothing says when it arrived.
            None if self.span.0 > i64::MIN => Found::Absent(Some(stored)),
            _ => Found::First(stored),
        })
    }

    /// States that an event is absent, and what the state after it is. That of an event that is not here is unknown; the
    /// state before the event that follows it is as near as it gets.
    async fn cut_off(
        &mut self,
        id: OwnedEventId,
        stored: Option<StoredEvent>,
        follower: &Pdu,
        items: &mut Vec<AuditItem>,
    ) -> Result<(), Unavailable> {
        if self.cut.contains(&id) {
            return Ok(());
        }
        let is_here = stored.is_some_and(|stored| stored.flags & event_flags::OUTLIER == 0);
        let group = if is_here {
            let groups = self.reader.groups_of(&self.room, &id).await?;
            groups.map(|groups| groups.after)
        } else {
            let groups = self
                .reader
                .groups_of(&self.room, &follower.event_id().to_owned())
                .await?;
            groups.map(|groups| groups.before)
        };
        let (state, _) = self.reader.group(&self.room, group.unwrap_or_default()).await?;
        let state: Vec<OwnedEventId> = state.0.values().cloned().collect();
        self.state_before(&state, items).await?;
        self.cut.insert(id.clone());
        items.push(AuditItem::Cut { cut: vec![id], state });
        Ok(())
    }

    /// States events that are not exported, with their auth chains.
    async fn state_before(&mut self, ids: &[OwnedEventId], items: &mut Vec<AuditItem>) -> Result<(), Unavailable> {
        let is_new = |id: &&OwnedEventId| !self.before.contains(*id) && !self.is_exported(id);
        let new: Vec<OwnedEventId> = ids.iter().filter(is_new).cloned().collect();
        let chain = self.reader.auth_chain(&self.room, &new).await?;
        let chain = chain.iter().map(|pdu| pdu.event_id().to_owned());
        let all: BTreeSet<OwnedEventId> = chain.chain(new).collect();
        let mut read = HashMap::new();
        let mut events = Vec::new();
        for id in all {
            if !matches!(self.find(&id, false, &mut read).await?, Found::Known) {
                events.extend(read.remove(&id).map(|stored| stored.pdu));
            }
        }
        // In version 12 nothing cites the create event.
        events.sort_by_key(|pdu| pdu.kind() != "m.room.create");
        for pdu in order::order(events, order::Links::Auth, |pdu| pdu) {
            self.before.insert(pdu.event_id().to_owned());
            items.push(AuditItem::Before(pdu));
        }
        Ok(())
    }
}
