//! A room that the user is in.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{RoomId, UserId, api::client::filter::LazyLoadOptions};
use serde_json::{Value, json};
use weft_accounts::AccountDataChange;
use weft_dag::{Pdu, StateMap};
use weft_fanout::Receipt;
use weft_room::TimelineEvent;
use weft_wire::limits::MAX_SYNC_TIMELINE_EVENTS;

use super::{
    Turn,
    body::{Events, Room, Timeline},
    rooms::Span,
};
use crate::{
    client::{
        beside::shown_timeline,
        events::{Shown, client_event, passes, passes_names, passes_room, types_of},
        messages::visible,
        tokens::TimelineToken,
    },
    errors::ApiResult,
};

/// Events of a room's timeline where the filter asks for no number.
const DEFAULT_TIMELINE: usize = 20;

/// A room's new events, before they are formatted.
pub(super) struct Recent {
    /// What is shown.
    pub(super) events: Vec<TimelineEvent>,
    /// The first event of the span that was read, shown or not: the state is told as of just before it.
    pub(super) first: Option<(i64, Arc<Pdu>)>,
    /// There are more between the client's token and the first.
    limited: bool,
    /// The end of the span.
    pub(super) to: u64,
}

impl Recent {
    /// Of a room in which nothing was said up to a position.
    fn nothing(to: u64) -> Self {
        Self {
            events: Vec::new(),
            first: None,
            limited: false,
            to,
        }
    }
}

impl Turn<'_> {
    /// None where nothing is new.
    pub(super) async fn joined(
        &self,
        room: &RoomId,
        span: &Span,
        account_data: &[AccountDataChange],
    ) -> ApiResult<Option<Room>> {
        let new_here = !span.was_joined();
        let from = if new_here { 0 } else { self.after() };
        let (recent, state) = if span.quiet && !new_here && !self.full_state {
            (Recent::nothing(self.now.position), Vec::new())
        } else {
            self.news(room, span, from).await?
        };
        let members_changed = recent
            .events
            .iter()
            .map(|event| &event.pdu)
            .chain(&state)
            .any(|pdu| pdu.kind() == "m.room.member");

        let mut told = self.room(room, &recent, &state).await?;
        told.ephemeral = self.ephemeral_of(room, if new_here { 0 } else { from }).await?;
        told.account_data = if new_here && self.since.is_some() {
            // The room is new to the client, its account data need not be.
            let all = self.accounts.room_account_data(self.user, room, self.now.position);
            self.account_data_of(room, &all.await?)
        } else {
            self.account_data_of(room, account_data)
        };
        if told.is_empty() && !new_here {
            return Ok(None);
        }
        if new_here || self.full_state || members_changed {
            told.summary = self.summary(room).await?;
        }
        told.unread_notifications = Some(json!({"highlight_count": 0, "notification_count": 0}));
        Ok(Some(told))
    }

    /// Timeline and state of a room in which something may have happened.
    async fn news(&self, room: &RoomId, span: &Span, from: u64) -> ApiResult<(Recent, Vec<Arc<Pdu>>)> {
        let recent = self.recent(room, span, from, self.now.position).await?;
        let known = if !span.was_joined() || self.full_state {
            None
        } else {
            self.reader.group_at(room, from).await?
        };
        let state = self.state(room, &recent, known).await?;
        Ok((recent, state))
    }

    /// The newest events of a span.
    pub(super) async fn recent(&self, room: &RoomId, span: &Span, from: u64, to: u64) -> ApiResult<Recent> {
        let filter = &self.filter.room.timeline;
        let limit = filter.limit.map_or(DEFAULT_TIMELINE, |limit| {
            usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
        });
        let limit = limit.clamp(1, MAX_SYNC_TIMELINE_EVENTS);
        let read = self.reader.since(room, from, to, types_of(filter), limit).await?;
        let first = read.events.first().map(|event| (event.order, Arc::clone(&event.pdu)));
        let whole = read
            .events
            .first()
            .is_some_and(|event| event.pdu.kind() == "m.room.create");
        let limited = read.limited || (from == 0 && !whole);
        let wanted = |event: &TimelineEvent| passes_room(filter, room) && passes(filter, &event.pdu);
        let mut events: Vec<TimelineEvent> = read.events.into_iter().filter(wanted).collect();
        if span.changed || !span.was_joined() {
            // The user was outside for a part of the span. Whoever was in all the time may see all of it.
            events = visible(self.reader, room, self.user, events).await?;
        }
        Ok(Recent {
            events,
            first,
            limited,
            to,
        })
    }

    /// State events to tell besides the timeline: what is not in the group that the client knows; all of them where it
    /// knows no state of the room.
    pub(super) async fn state(&self, room: &RoomId, recent: &Recent, known: Option<u64>) -> ApiResult<Vec<Arc<Pdu>>> {
        if known.is_some() && recent.first.is_none() {
            return Ok(Vec::new());
        }
        let filter = &self.filter.room.state;
        let lazy = filter.lazy_load_options != LazyLoadOptions::Disabled;
        let group = self.group_told(room, recent).await?;
        // Most messages change no state, and equal groups need not be read to be equal states.
        let unchanged = known.is_some() && known == group;
        if unchanged && !lazy {
            return Ok(Vec::new());
        }
        let ids = self.ids_told(room, recent, group).await?;
        let mut told = match known {
            Some(_) if unchanged => StateMap::default(),
            Some(known) => Self::difference(&self.reader.group(room, known).await?.0, &ids),
            None => ids.clone(),
        };
        if lazy {
            let mut seen: BTreeSet<&UserId> = recent.events.iter().map(|event| event.pdu.sender()).collect();
            if known.is_none() {
                seen.insert(self.user);
            }
            // Those who speak are told even where nothing changed: the client may never have been told of them.
            let speakers = seen.iter().filter_map(|user| {
                let key = ("m.room.member".to_owned(), user.to_string());
                ids.0.get(&key).map(|id| (key.clone(), id.clone()))
            });
            told = Self::without_strangers(&told, &seen);
            for (key, id) in speakers {
                told.insert(key, id);
            }
        }
        let events = self.load(room, &told).await?;
        Ok(events
            .into_iter()
            .filter(|pdu| passes_room(filter, room) && passes(filter, pdu))
            .collect())
    }

    /// Timeline and state in the client's form.
    pub(super) async fn room(&self, room: &RoomId, recent: &Recent, state: &[Arc<Pdu>]) -> ApiResult<Room> {
        let shown = Shown {
            room_id: false,
            now_ms: self.now_ms,
        };
        let events = shown_timeline(self.reader, room, self.session, shown, &recent.events).await?;
        let before = recent.first.as_ref().map(|(order, _)| TimelineToken(*order));
        let before = before.unwrap_or_else(|| TimelineToken::after(recent.to));
        let timeline = Timeline {
            events,
            limited: recent.limited,
            prev_batch: Some(before.to_string()),
        };
        let state = Events {
            events: state.iter().filter_map(|pdu| client_event(pdu, shown)).collect(),
        };
        Ok(Room::new(timeline, state, self.state_after))
    }

    fn account_data_of(&self, room: &RoomId, changes: &[AccountDataChange]) -> Events {
        let filter = &self.filter.room.account_data;
        let changed = changes.iter().filter(|change| change.room.as_deref() == Some(room));
        let wanted = changed.filter(|change| passes_room(filter, room) && passes_names(filter, &change.kind, None));
        Events::from_values(
            wanted
                .map(|change| json!({"type": change.kind, "content": change.content}))
                .collect(),
        )
    }

    async fn ephemeral_of(&self, room: &RoomId, from: u64) -> ApiResult<Events> {
        let filter = &self.filter.room.ephemeral;
        let mut events: Vec<Value> = Vec::new();
        if !passes_room(filter, room) {
            return Ok(Events::default());
        }
        let receipts = self
            .ephemeral
            .receipts(room, from, self.now.position, self.user)
            .await?;
        if !receipts.is_empty() && passes_names(filter, "m.receipt", None) {
            events.push(receipt_event(&receipts));
        }
        let (typing, serial) = self.ephemeral.typing(room);
        let changed = match self.since {
            // Serials begin anew with the process: a token with a higher one than there is knows nothing of this one's.
            Some(since) if from > 0 && since.typing <= self.now.typing => serial > since.typing,
            _ => !typing.is_empty(),
        };
        if changed && passes_names(filter, "m.typing", None) {
            events.push(json!({"type": "m.typing", "content": {"user_ids": typing}}));
        }
        Ok(Events::from_values(events))
    }
}

/// Receipts as one event: event id, kind, user.
fn receipt_event(receipts: &[Receipt]) -> Value {
    let mut content = json!({});
    for receipt in receipts {
        let mut data = json!({"ts": receipt.at});
        if let (false, Some(fields)) = (receipt.thread.is_empty(), data.as_object_mut()) {
            fields.insert("thread_id".to_owned(), receipt.thread.clone().into());
        }
        let by_event = entry(&mut content, receipt.event.as_str());
        let by_kind = entry(by_event, &receipt.kind);
        *entry(by_kind, receipt.user.as_str()) = data;
    }
    json!({"type": "m.receipt", "content": content})
}

/// The value of a field, which is made an empty object where it is not there.
fn entry<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    if !object.is_object() {
        *object = json!({});
    }
    match object {
        Value::Object(fields) => fields.entry(field.to_owned()).or_insert_with(|| json!({})),
        other => other,
    }
}
