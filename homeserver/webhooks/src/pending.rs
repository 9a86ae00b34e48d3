//! Which events a webhook has to deliver, and how they are divided into deliveries: the edits of a document are one, each
//! other event is one. Must not decide whether a user may see an event: that is decided when it is delivered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use weft_dag::Pdu;
use weft_room_api::Unavailable;
use weft_room_read::{Direction, EDIT, Reader, ShownEvent, Types, order_of};
use weft_store::Lane;
use weft_wire::{event_types, limits::MAX_WEBHOOK_SPAN_EVENTS};

use crate::Owner;

/// A delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The stream position of its first event.
    pub(crate) first: u64,
    pub(crate) name: &'static str,
    pub(crate) room: OwnedRoomId,
    /// In their order; of several only if they are edits.
    pub(crate) events: Vec<OwnedEventId>,
}

/// What is due after a position.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Everything up to this position was read.
    pub(crate) through: u64,
    /// More may follow.
    pub(crate) is_full: bool,
    /// In the order of their first events.
    pub(crate) deliveries: Vec<Pending>,
}

/// Where the events of a webhook come from.
pub(crate) struct Source<'a> {
    pub(crate) reader: &'a Reader,
    pub(crate) owner: &'a Owner,
    /// The names of events; empty: all.
    pub(crate) names: &'a [String],
}

/// An event with its stream position.
type Placed = (u64, OwnedRoomId, Arc<Pdu>);

impl Source<'_> {
    /// The events of a lane after `from` and up to `to`, as far as one page has them.
    pub(crate) async fn page(&self, lane: Lane, (from, to): (u64, u64)) -> Result<Page, Unavailable> {
        let (events, last) = match self.owner {
            Owner::Document(room) => self.of_document(room, (from, to)).await?,
            Owner::User(user) => self.of_user(user, lane, (from, to)).await?,
        };
        Ok(Page {
            through: last.unwrap_or(to),
            is_full: last.is_some(),
            deliveries: divided(events, self.names),
        })
    }

    /// The events, and the last position if there may be more.
    async fn of_document(
        &self,
        room: &RoomId,
        (from, to): (u64, u64),
    ) -> Result<(Vec<Placed>, Option<u64>), Unavailable> {
        let from = Some(order_of(from));
        let page = self
            .reader
            .timeline(room, from, Direction::Forward, Types::All, MAX_WEBHOOK_SPAN_EVENTS)
            .await?;
        let mut events: Vec<Placed> = Vec::with_capacity(page.events.len());
        for event in page.events {
            let position = u64::try_from(event.order).unwrap_or_default();
            if position > to {
                // Not settled yet.
                return Ok((events, None));
            }
            events.push((position, room.to_owned(), event.pdu));
        }
        let last = page.next.and_then(|_| events.last().map(|(position, ..)| *position));
        Ok((events, last))
    }

    /// The same of all documents that the user has joined.
    async fn of_user(
        &self,
        user: &UserId,
        lane: Lane,
        span: (u64, u64),
    ) -> Result<(Vec<Placed>, Option<u64>), Unavailable> {
        let rows = self.reader.stream(lane, span, MAX_WEBHOOK_SPAN_EVENTS).await?;
        let is_full = rows.len() >= MAX_WEBHOOK_SPAN_EVENTS;
        let last = rows.last().filter(|_| is_full).map(|(position, ..)| *position);
        let mut by_room: BTreeMap<OwnedRoomId, Vec<(OwnedEventId, u64)>> = BTreeMap::new();
        for (position, room, event) in rows {
            by_room.entry(room).or_default().push((event, position));
        }
        let mut events: Vec<Placed> = Vec::new();
        for (room, placed) in by_room {
            if !self.reader.is_document(&room).await?
                || self.reader.membership(&room, user).await? != MembershipState::Join
            {
                continue;
            }
            let ids: Vec<OwnedEventId> = placed.iter().map(|(id, _)| id.clone()).collect();
            let positions: BTreeMap<OwnedEventId, u64> = placed.into_iter().collect();
            for stored in self.reader.events(&room, &ids).await? {
                if let Some(position) = positions.get(stored.pdu.event_id())
                    && stored.is_visible()
                {
                    events.push((*position, room.clone(), stored.pdu));
                }
            }
        }
        events.sort_by_key(|(position, ..)| *position);
        Ok((events, last))
    }
}

/// The name of an event; `None` if it is not delivered.
fn name_of(pdu: &Pdu) -> Option<&'static str> {
    if pdu.kind() == event_types::UPDATE {
        return Some(EDIT);
    }
    ShownEvent::of(pdu).shown().map(|(name, _)| name)
}

fn divided(events: Vec<Placed>, names: &[String]) -> Vec<Pending> {
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut deliveries: Vec<Pending> = Vec::new();
    let mut edits: BTreeMap<OwnedRoomId, usize> = BTreeMap::new();
    for (position, room, pdu) in events {
        let Some(name) = name_of(&pdu) else { continue };
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        let id = pdu.event_id().to_owned();
        let earlier = edits.get(&room).filter(|_| name == EDIT);
        if let Some(earlier) = earlier.and_then(|index| deliveries.get_mut(*index)) {
            earlier.events.push(id);
            continue;
        }
        if name == EDIT {
            edits.insert(room.clone(), deliveries.len());
        }
        deliveries.push(Pending {
            first: position,
            name,
            room,
            events: vec![id],
        });
    }
    deliveries
}
