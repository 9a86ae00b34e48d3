//! A room that the user has joined.

use std::sync::{Arc, atomic::Ordering};

use futures_util::try_join;
use ruma::{OwnedUserId, RoomId, api::client::filter::EventFormat};
use serde_json::{Map, Value, json, value::RawValue};
use weft_accounts::AccountDataChange;
use weft_dag::Pdu;
use weft_fanout::{
    Receipt,
    unread::{Counting, UnreadCounts},
};
use weft_http::errors::{ApiError, ApiResult};
use weft_wire::limits::MAX_PRESENCE_PER_ANSWER;

use super::{
    SyncRequest,
    body::{Events, Room, Timeline},
    rooms::Span,
    states::StateToSend,
    summary::Summary,
    timeline::Recent,
};
use crate::{
    event_fields::EventFields,
    events::{Shown, client_event, passes_names, passes_room},
    ignored::Ignored,
    push_rules,
    unsigned::{Viewer, shown_timeline},
};

impl SyncRequest<'_> {
    /// `None` if nothing changed.
    pub(super) async fn joined(
        &self,
        room: &RoomId,
        span: &Span,
        account_data: &[AccountDataChange],
        ignored: &Ignored,
    ) -> ApiResult<Option<Room>> {
        let new_here = !span.was_joined();
        let from = if new_here { 0 } else { self.after(room) };
        let changes = async {
            if span.quiet && !new_here && !self.full_state {
                return Ok::<_, ApiError>((Recent::nothing(self.now_in(room)), StateToSend::default()));
            }
            self.changes(room, span, from, ignored).await
        };
        let ephemeral = self.ephemeral_of(room, if new_here { 0 } else { from });
        let is_whole = new_here || self.full_state;
        let summary = async {
            match is_whole {
                true => self.summary(room).await,
                false => Ok(Summary::default()),
            }
        };
        // At the same time as the rest where the room is likely to be in the answer.
        let early = async {
            match span.quiet && !is_whole {
                true => Ok(None),
                false => self.unread(room, ignored).await.map(Some),
            }
        };
        let ((recent, mut state), ephemeral, mut summary, unread) = try_join!(changes, ephemeral, summary, early)?;
        if !is_whole && state.members_changed {
            summary = self.summary(room).await?;
        }
        self.add_members(room, &recent, &mut state, &summary.heroes).await?;
        let mut body = self.room(room, &recent, &state.events, ignored).await?;
        body.summary = summary.fields;
        body.ephemeral = ephemeral;
        body.account_data = if new_here && self.since.is_some() {
            // The client has not received the room before, but may have received its account data.
            let now = self.now.in_lane(self.own_lane);
            let all = self.accounts.room_account_data(self.user, room, now);
            self.account_data_of(room, &all.await?)
        } else {
            self.account_data_of(room, account_data)
        };
        if body.is_empty() && !new_here {
            return Ok(None);
        }
        if self.since.is_some() {
            body.newcomers = self.newcomers(room, new_here, &recent, &state).await?;
        }
        let unread = match unread {
            Some(unread) => unread,
            None => self.unread(room, ignored).await?,
        };
        self.add_unread(unread, &mut body);
        Ok(Some(body))
    }

    /// The numbers of events that the user has not read.
    async fn unread(&self, room: &RoomId, ignored: &Ignored) -> ApiResult<UnreadCounts> {
        let counting = Counting {
            user: self.user,
            rules: self.push_rules.get_or_init(|| push_rules::of(self.user)),
            is_ignored: &|user| ignored.contains(user),
        };
        let now = self.now_in(room);
        Ok(self.unread.counts(self.reader, room, &counting, now).await?)
    }

    /// Those of threads apart, if the client asks for it.
    fn add_unread(&self, counts: UnreadCounts, body: &mut Room) {
        if self.filter.room.timeline.unread_thread_notifications {
            body.unread_notifications = Some(counts.main.into());
            let threads = counts.threads.into_iter();
            body.unread_thread_notifications = threads.map(|(root, count)| (root, count.into())).collect();
        } else {
            body.unread_notifications = Some(counts.total().into());
        }
    }

    /// Users who now share a room with the user: those who joined, or all members if the user joined.
    async fn newcomers(
        &self,
        room: &RoomId,
        new_here: bool,
        recent: &Recent,
        state: &StateToSend,
    ) -> ApiResult<Vec<OwnedUserId>> {
        let mut newcomers = if new_here {
            self.reader.joined_members(room).await?
        } else {
            let sent = recent.events.iter().map(|event| &event.pdu).chain(&state.events);
            sent.filter_map(|pdu| joined_user(pdu)).collect()
        };
        newcomers.retain(|user| user != self.user);
        newcomers.truncate(MAX_PRESENCE_PER_ANSWER);
        Ok(newcomers)
    }

    /// Timeline and state of a room with possible changes.
    async fn changes(
        &self,
        room: &RoomId,
        span: &Span,
        from: u64,
        ignored: &Ignored,
    ) -> ApiResult<(Recent, StateToSend)> {
        let recent = self.recent(room, span, (from, self.now_in(room)), ignored);
        // Read now; it is needed below.
        let end = async { Ok::<_, ApiError>(self.reader.group_at(room, self.now_in(room)).await?) };
        let (mut recent, held, _) = try_join!(recent, self.held_group(room, span), end)?;
        let known = held.filter(|_| span.was_joined() && !self.full_state);
        let state = self.state(room, &mut recent, known, held).await?;
        Ok((recent, state))
    }

    /// The state group of the newest state that the client received: at its token, or at the end of the user's last membership,
    /// from which a client with lazy loading may still have members.
    async fn held_group(&self, room: &RoomId, span: &Span) -> ApiResult<Option<u64>> {
        if self.since.is_none() {
            return Ok(None);
        }
        let position = if span.was_joined() {
            Some(self.after(room))
        } else {
            self.reader.earlier_departure(room, self.user).await?
        };
        match position {
            Some(position) => Ok(self.reader.group_at(room, position).await?),
            None => Ok(None),
        }
    }

    /// Timeline and state in the client format.
    pub(super) async fn room(
        &self,
        room: &RoomId,
        recent: &Recent,
        state: &[Arc<Pdu>],
        ignored: &Ignored,
    ) -> ApiResult<Room> {
        let shown = Shown {
            room_id: false,
            now_ms: self.now_ms,
            federation: self.filter.event_format == EventFormat::Federation,
        };
        let viewer = Viewer {
            session: self.session,
            ignored,
        };
        let events = shown_timeline(self.reader, room, viewer, shown, &recent.events).await?;
        let fields = self.filter.event_fields.as_deref().map(EventFields::new);
        let only = |event: Box<RawValue>| match &fields {
            Some(fields) => fields.only(&event),
            None => Some(event),
        };
        let timeline = Timeline {
            events: events.into_iter().filter_map(only).collect(),
            limited: recent.limited,
            prev_batch: Some(recent.before.to_string()),
        };
        let state = Events {
            events: state.iter().filter_map(|pdu| only(client_event(pdu, shown)?)).collect(),
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
            .receipts(room, from, self.now_in(room), self.user)
            .await?;
        if !receipts.is_empty() && passes_names(filter, "m.receipt", None) {
            events.extend(receipt_events(&receipts));
        }
        let (typing, serial) = self.ephemeral.typing(room);
        if !typing.is_empty() {
            self.is_typing_shown.store(true, Ordering::Relaxed);
        }
        let changed = match &self.since {
            Some(since) if from > 0 => match since.unstored {
                sent if sent.incarnation == self.incarnation => serial > sent.typing,
                // Of an earlier process: the client may show users who are not typing any more.
                sent => sent.is_typing_shown || !typing.is_empty(),
            },
            _ => !typing.is_empty(),
        };
        if changed && passes_names(filter, "m.typing", None) {
            events.push(json!({"type": "m.typing", "content": {"user_ids": typing}}));
        }
        Ok(Events::from_values(events))
    }
}

/// The user who is joined by a member event.
fn joined_user(pdu: &Pdu) -> Option<OwnedUserId> {
    let key = pdu.state_key().filter(|_| pdu.kind() == "m.room.member")?;
    (pdu.content_text("membership").as_deref() == Some("join")).then(|| OwnedUserId::try_from(key).ok())?
}

/// Receipts as events: event id, receipt type, user. An event has room for one receipt of each; a user's threaded and
/// unthreaded receipts for the same event become two events.
fn receipt_events(receipts: &[Receipt]) -> Vec<Value> {
    let mut contents: Vec<Map<String, Value>> = Vec::new();
    for receipt in receipts {
        let mut data = Map::from_iter([("ts".to_owned(), receipt.at.into())]);
        if !receipt.thread.is_empty() {
            data.insert("thread_id".to_owned(), receipt.thread.clone().into());
        }
        let path = [receipt.event.as_str(), &receipt.kind, receipt.user.as_str()];
        let [event, kind, user] = path;
        let has_place = |content: &Map<String, Value>| {
            let users = content.get(event).and_then(|kinds| kinds.get(kind));
            users.and_then(|users| users.get(user)).is_none()
        };
        let index = contents.iter().position(has_place).unwrap_or(contents.len());
        if index == contents.len() {
            contents.push(Map::new());
        }
        if let Some(content) = contents.get_mut(index) {
            put(content, path, data.into());
        }
    }
    let event = |content| json!({"type": "m.receipt", "content": Value::Object(content)});
    contents.into_iter().map(event).collect()
}

/// Sets a value in an object that is nested three levels deep.
fn put(content: &mut Map<String, Value>, [event, kind, user]: [&str; 3], data: Value) {
    let kinds = content.entry(event.to_owned()).or_insert_with(|| json!({}));
    if let Some(kinds) = kinds.as_object_mut() {
        let users = kinds.entry(kind.to_owned()).or_insert_with(|| json!({}));
        if let Some(users) = users.as_object_mut() {
            users.insert(user.to_owned(), data);
        }
    }
}
