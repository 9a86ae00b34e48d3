//! A single event, and the events around it.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode};
use ruma::{
    EventId, RoomId, UserId,
    api::client::{context::get_context, filter::RoomEventFilter, room::get_room_event},
};
use serde_json::{Value, json, value::RawValue};
use weft_accounts::Accounts;
use weft_dag::{Pdu, StateView};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::{Direction, Reader, TimelineEvent};
use weft_wire::limits::MAX_PAGE_EVENTS;

use super::{
    Ports,
    events::{Shown, client_event, passes, types_of},
    filters::check_events,
    ignored::{Ignored, ignored_users},
    membership_check,
    tokens::TimelineToken,
    unsigned::{Viewer, shown_events, shown_timeline},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_room_event::v3::Request, _, _>(event)
        .endpoint::<get_context::v3::Request, _, _>(context)
}

fn unknown() -> ApiError {
    ApiError::not_found("Event not found, or you do not have permission to view it.")
}

/// The event, if it is in this room and the user may see it.
pub(super) async fn seen(reader: &Reader, room: &RoomId, id: &EventId, user: &UserId) -> ApiResult<Arc<Pdu>> {
    let readable = membership_check::readable(reader, room, user).await;
    // A failed read must not be reported as a missing event.
    readable.map_err(|error| match error.status() {
        StatusCode::FORBIDDEN => unknown(),
        _ => error,
    })?;
    let stored = reader
        .stored_event(room, id)
        .await?
        .filter(|stored| stored.is_visible())
        .ok_or_else(unknown)?;
    reader
        .visible_to_user(room, user, vec![stored.pdu])
        .await?
        .pop()
        .ok_or_else(unknown)
}

/// GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}
async fn event(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<get_room_event::v3::Request>,
) -> ApiResult<Json<Option<Box<RawValue>>>> {
    let pdu = seen(&reader, &request.room_id, &request.event_id, &caller.user_id).await?;
    let shown = Shown::in_full(clock.now().get().into());
    let viewer = Viewer {
        session: &caller,
        ignored: &ignored_users(&accounts, &caller.user_id).await?,
    };
    let mut events = shown_events(&reader, &request.room_id, viewer, shown, &[pdu]).await?;
    Ok(Json(events.pop()))
}

/// GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}
async fn context(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<get_context::v3::Request>,
) -> ApiResult<Json<Value>> {
    let (room, user) = (&*request.room_id, &*caller.user_id);
    check_events(&request.filter)?;
    let pdu = seen(&reader, room, &request.event_id, user).await?;
    let order = reader.order(room, &request.event_id).await?.ok_or_else(unknown)?;
    let limit = usize::try_from(u64::from(request.limit))
        .unwrap_or(MAX_PAGE_EVENTS)
        .min(MAX_PAGE_EVENTS);
    let ignored = ignored_users(&accounts, user).await?;
    let viewer = Viewer {
        session: &caller,
        ignored: &ignored,
    };
    let around = Around {
        reader: &reader,
        room,
        user,
        filter: &request.filter,
        ignored: &ignored,
    };
    let before = around.side(order, Direction::Backward, limit / 2).await?;
    let after = around.side(order, Direction::Forward, limit.div_ceil(2)).await?;

    let shown = Shown::in_full(clock.now().get().into());
    let last = after
        .last()
        .map_or_else(|| pdu.event_id().to_owned(), |event| event.pdu.event_id().to_owned());
    let state = reader.state_after(room, &last).await?;
    let everybody = before.iter().chain(&after).map(|event| &*event.pdu).chain([&*pdu]);
    let state = around.state(state, everybody);
    let start = before.last().map_or(order, |event| event.order);
    let end = after.last().map_or(order, |event| event.order).saturating_add(1);
    let mut event = shown_events(&reader, room, viewer, shown, &[pdu]).await?;
    Ok(Json(json!({
        "event": event.pop(),
        "events_before": shown_timeline(&reader, room, viewer, shown, &before).await?,
        "events_after": shown_timeline(&reader, room, viewer, shown, &after).await?,
        "start": TimelineToken(start).to_string(),
        "end": TimelineToken(end).to_string(),
        "state": state.iter().filter_map(|pdu| client_event(pdu, shown)).collect::<Vec<_>>(),
    })))
}

/// The events around one.
pub(super) struct Around<'a> {
    pub(super) reader: &'a Reader,
    pub(super) room: &'a RoomId,
    pub(super) user: &'a UserId,
    pub(super) filter: &'a RoomEventFilter,
    pub(super) ignored: &'a Ignored,
}

impl Around<'_> {
    pub(super) async fn side(&self, order: i64, direction: Direction, limit: usize) -> ApiResult<Vec<TimelineEvent>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = self
            .reader
            .timeline(self.room, Some(order), direction, types_of(self.filter), limit)
            .await?;
        let matching = page
            .events
            .into_iter()
            .filter(|event| passes(self.filter, &event.pdu) && !self.ignored.hides(&event.pdu))
            .collect();
        Ok(self.reader.visible_to_user(self.room, self.user, matching).await?)
    }

    /// The state after the last event; with lazy loading only the member events of the senders.
    fn state<'a>(&self, state: Option<StateView>, senders: impl Iterator<Item = &'a Pdu>) -> Vec<Arc<Pdu>> {
        let Some(state) = state else { return Vec::new() };
        if self.filter.lazy_load_options.is_disabled() {
            return state.iter().cloned().collect();
        }
        let senders: BTreeSet<&str> = senders.map(|pdu| pdu.sender().as_str()).collect();
        let wanted = |pdu: &&Arc<Pdu>| {
            pdu.kind() != "m.room.member" || pdu.state_key().is_some_and(|user| senders.contains(user))
        };
        state.iter().filter(wanted).cloned().collect()
    }
}
