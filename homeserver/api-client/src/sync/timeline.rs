//! The newest events of a room for one answer: those that pass the filter and the visibility rules.
//!
//! The limit counts shown events. Must not decide which state is sent with them: [`super::states`] does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use ruma::{EventId, RoomId};
use weft_dag::{Pdu, StateMap};
use weft_http::errors::ApiResult;
use weft_room_read::TimelineEvent;
use weft_wire::limits::MAX_SYNC_TIMELINE_EVENTS;

use super::{SyncRequest, rooms::Span};
use crate::{
    events::{passes, passes_room, types_of},
    ignored::Ignored,
    tokens::TimelineToken,
};

/// Events of a room's timeline if the filter has no limit.
const DEFAULT_TIMELINE: usize = 20;
/// Maximum events of one room that are read to find those that pass the filter. Beyond them the answer is
/// `limited`, and the client may page back.
const MAX_SCANNED: usize = 500;

/// A room's new events, before they are formatted.
pub(super) struct Recent {
    /// The shown events, oldest first.
    pub(super) events: Vec<TimelineEvent>,
    /// There may be more events between the client's token and the first of them.
    pub(super) limited: bool,
    /// Where paging back starts.
    pub(super) before: TimelineToken,
    /// The end of the span.
    pub(super) to: u64,
}

impl Recent {
    /// For a room in which nothing was committed up to a position.
    pub(super) fn nothing(to: u64) -> Self {
        Self {
            events: Vec::new(),
            limited: false,
            before: TimelineToken::after(to),
            to,
        }
    }

    /// Drops the oldest events. The client finds them by paging back.
    pub(super) fn cut(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.events.drain(..count.min(self.events.len()));
        self.limited = true;
        self.before = match self.events.first() {
            Some(event) => TimelineToken(event.order),
            None => TimelineToken::after(self.to),
        };
    }

    /// How many of the oldest events must be dropped so that the state events among the rest lead to `end`: a later
    /// state event may be hidden by the filter, and of two branches the resolution may have chosen the earlier event.
    pub(super) fn contradicting(&self, end: &StateMap) -> usize {
        let mut last: BTreeMap<(&str, &str), &EventId> = BTreeMap::new();
        for event in &self.events {
            last.extend(entry(&event.pdu).map(|key| (key, event.pdu.event_id())));
        }
        let wrong: BTreeSet<(&str, &str)> = last
            .into_iter()
            .filter(|((kind, key), id)| end.get(kind, key).is_none_or(|at_end| at_end != id))
            .map(|(key, _)| key)
            .collect();
        let contradicts = |event: &TimelineEvent| entry(&event.pdu).is_some_and(|key| wrong.contains(&key));
        self.events.iter().rposition(contradicts).map_or(0, |index| index + 1)
    }

    /// The state entries that the events change.
    pub(super) fn entries(&self) -> BTreeSet<(&str, &str)> {
        self.events.iter().filter_map(|event| entry(&event.pdu)).collect()
    }
}

fn entry(pdu: &Pdu) -> Option<(&str, &str)> {
    Some((pdu.kind(), pdu.state_key()?))
}

impl SyncRequest<'_> {
    /// The newest events of a span.
    pub(super) async fn recent(
        &self,
        room: &RoomId,
        span: &Span,
        (from, to): (u64, u64),
        ignored: &Ignored,
    ) -> ApiResult<Recent> {
        let filter = &self.filter.room.timeline;
        let limit = filter.limit.map_or(DEFAULT_TIMELINE, |limit| {
            usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
        });
        let limit = limit.min(MAX_SYNC_TIMELINE_EVENTS);
        if !passes_room(filter, room) {
            return Ok(Recent::nothing(to));
        }
        let mut newest_first: Vec<TimelineEvent> = Vec::new();
        let mut before = TimelineToken::after(to);
        let (mut upper, mut scanned) = (to, 0);
        let limited = loop {
            let missing = (limit + 1).saturating_sub(newest_first.len());
            let read = self.reader.since(room, from, upper, types_of(filter), missing).await?;
            scanned += read.events.len();
            let is_spent = self.spend(scanned, read.events.len());
            let oldest = read
                .events
                .first()
                .map(|event| (event.order, event.pdu.kind() == "m.room.create"));
            newest_first.extend(self.shown_of(room, span, read.events, ignored).await?.into_iter().rev());
            if newest_first.len() > limit {
                newest_first.truncate(limit);
                break true;
            }
            let Some((order, is_create)) = oldest.filter(|_| read.limited) else {
                // A room created on another server has history from before this server's join.
                break from == 0 && !oldest.is_some_and(|(_, is_create)| is_create);
            };
            if scanned >= MAX_SCANNED || is_spent {
                before = TimelineToken(order);
                break !is_create;
            }
            upper = u64::try_from(order.saturating_sub(1)).unwrap_or(0);
        };
        newest_first.reverse();
        if let Some(first) = newest_first.first() {
            before = TimelineToken(first.order);
        }
        let mut recent = Recent {
            events: newest_first,
            limited,
            before,
            to,
        };
        if let Some(gap) = self.reader.last_gap(room, &recent.events).await? {
            // Events before a gap are found by paging back, as are the missing ones once they are here.
            recent.cut(gap);
            recent.limited = true;
        }
        Ok(recent)
    }

    /// Whether the answer has read the maximum number of events to find those that pass the filter. The first read of a
    /// room is not counted.
    fn spend(&self, scanned: usize, read: usize) -> bool {
        if scanned <= read {
            return self.scans.load(Ordering::Relaxed) == 0;
        }
        let take = |left: usize| Some(left.saturating_sub(read));
        let before = self.scans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.is_ok_and(|before| before <= read)
    }

    /// Filters events by the filter and by the user's visibility.
    async fn shown_of(
        &self,
        room: &RoomId,
        span: &Span,
        events: Vec<TimelineEvent>,
        ignored: &Ignored,
    ) -> ApiResult<Vec<TimelineEvent>> {
        let wanted =
            |event: &TimelineEvent| passes(&self.filter.room.timeline, &event.pdu) && !ignored.hides(&event.pdu);
        let events: Vec<TimelineEvent> = events.into_iter().filter(wanted).collect();
        if span.changed || !span.was_joined() {
            // The user was outside for a part of the span. A user who was joined for all of it may see all of it.
            return Ok(self.reader.visible_to_user(room, self.user, events).await?);
        }
        Ok(self.reader.without_stray_redactions(room, events).await?)
    }
}
