//! GET /_matrix/client/v3/rooms/{roomId}/messages

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State};
use futures_util::future::try_join;
use ruma::{
    RoomId, UserId,
    api::{
        Direction as Dir,
        client::{
            filter::{LazyLoadOptions, RoomEventFilter},
            message::get_message_events::v3,
        },
    },
};
use serde_json::{Map, Value, value::RawValue};
use weft_accounts::Accounts;
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_api::Clock;
use weft_room_read::{Direction, Reader, TimelineEvent};
use weft_store::Lane;
use weft_wire::limits::MAX_PAGE_EVENTS;

use super::{
    Ports,
    events::{Shown, client_event, passes, types_of},
    filters::check_events,
    ignored::{Ignored, ignored_users},
    membership_check::{self, Readable},
    tokens::TimelineToken,
    unsigned::{Viewer, shown_timeline},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(messages)
}

/// Maximum rows that one request reads while it searches for events that pass the filter. The client continues
/// with the next token: a page may be empty and not be the last.
const MAX_SCANNED: usize = 4 * MAX_PAGE_EVENTS;

async fn messages(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    let (room, user) = (&*request.room_id, &*caller.user_id);
    let reader = rooms.reader();
    let (readable, ignored) = try_join(
        membership_check::readable(reader, room, user),
        ignored_users(&accounts, user),
    )
    .await?;
    let lane = reader.lane_of(room);
    let direction = match request.dir {
        Dir::Backward => Direction::Backward,
        Dir::Forward => Direction::Forward,
    };
    check_events(&request.filter)?;
    let wanted = Wanted {
        filter: &request.filter,
        only: &|_| true,
        ignored: &ignored,
        direction,
        limit: usize::try_from(u64::from(request.limit))
            .unwrap_or(MAX_PAGE_EVENTS)
            .clamp(1, MAX_PAGE_EVENTS),
        from: start(&request, lane, readable)?,
        to: request
            .to
            .as_deref()
            .map(|token| TimelineToken::parse(token, lane))
            .transpose()?
            .map(|token| token.0),
        until: match readable {
            Readable::Now => None,
            Readable::Until(position) => Some(TimelineToken::after(position).0),
        },
    };
    let page = page(&rooms, room, user, &wanted).await?;
    let shown = Shown::in_full(clock.now().get().into());
    let viewer = Viewer {
        session: &caller,
        ignored: &ignored,
    };
    let chunk = shown_timeline(reader, room, viewer, shown, &page.events).await?;
    let members = lazy_members(reader, room, readable, &request.filter, &page.events).await?;
    let state: Vec<Box<RawValue>> = members.iter().filter_map(|pdu| client_event(pdu, shown)).collect();
    let beginning = TimelineToken(wanted.from.unwrap_or(match direction {
        Direction::Backward => page.events.first().map_or(0, |event| event.order.saturating_add(1)),
        Direction::Forward => page.events.first().map_or(0, |event| event.order),
    }));
    let mut body = Map::from_iter([
        ("start".to_owned(), beginning.to_string().into()),
        ("chunk".to_owned(), serde_json::to_value(chunk)?),
    ]);
    if !state.is_empty() {
        body.insert("state".to_owned(), serde_json::to_value(state)?);
    }
    body.extend(page.end.map(|end| ("end".to_owned(), end.to_string().into())));
    Ok(Json(Value::Object(body)))
}

fn start(request: &v3::Request, lane: Lane, readable: Readable) -> ApiResult<Option<i64>> {
    let from = request
        .from
        .as_deref()
        .map(|token| TimelineToken::parse(token, lane))
        .transpose()?
        .map(|token| token.0);
    Ok(match (readable, request.dir) {
        (Readable::Until(position), Dir::Backward) => {
            let end = TimelineToken::after(position).0;
            Some(from.unwrap_or(end).min(end))
        }
        _ => from,
    })
}

/// A query on a timeline.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) filter: &'a RoomEventFilter,
    /// A condition besides the filter.
    pub(super) only: &'a (dyn Fn(&Pdu) -> bool + Sync),
    /// Users whose messages are left out.
    pub(super) ignored: &'a Ignored,
    pub(super) direction: Direction,
    pub(super) limit: usize,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    /// Forward: the last position.
    pub(super) until: Option<i64>,
}

/// The result of a query.
#[derive(Default)]
pub(super) struct Found {
    pub(super) events: Vec<TimelineEvent>,
    /// The next token; `None` if there are no more events.
    pub(super) end: Option<TimelineToken>,
}

/// How long a client that pages back waits for a backfill in progress.
const HISTORY_WAIT: Duration = Duration::from_secs(5);

/// A page. A backfill of events from before this server's join may be in progress, with gaps among them: a page that reaches
/// them waits until the backfill is complete. On timeout the page ends at the join, and the client can request more.
async fn page(rooms: &Rooms, room: &RoomId, user: &UserId, wanted: &Wanted<'_>) -> ApiResult<Found> {
    let reader = rooms.reader();
    // Checked before reading: events of a backfill that is complete now are in what is read.
    let coming = match wanted.direction {
        Direction::Backward => rooms.coming_history(room),
        Direction::Forward => None,
    };
    let Some(coming) = coming else {
        return read(reader, room, user, wanted).await;
    };
    let of_our_time = Wanted {
        to: Some(wanted.to.unwrap_or(FIRST_OF_OURS).max(FIRST_OF_OURS)),
        ..*wanted
    };
    let mut found = read(reader, room, user, &of_our_time).await?;
    if found.end.is_some() || wanted.to.is_some_and(|to| to >= FIRST_OF_OURS) {
        return Ok(found);
    }
    if tokio::time::timeout(HISTORY_WAIT, coming.over()).await.is_ok() {
        return read(reader, room, user, wanted).await;
    }
    let last = found.events.last().map(|event| event.order);
    found.end = Some(TimelineToken(last.or(wanted.from).unwrap_or(FIRST_OF_OURS)));
    Ok(found)
}

/// Stream orderings from here on are of events since this server's join.
const FIRST_OF_OURS: i64 = 1;

/// Reads until enough events pass the filter and the visibility rules (T63: many that don't must not end the search).
pub(super) async fn read(reader: &Reader, room: &RoomId, user: &UserId, wanted: &Wanted<'_>) -> ApiResult<Found> {
    let types = types_of(wanted.filter);
    let mut found = Found::default();
    // `TimelineToken` is the position before an event; the reader's `from` is exclusive. Backward they are
    // the same, forward `from` is one less.
    let mut from = wanted.from.map(|from| match wanted.direction {
        Direction::Backward => from,
        Direction::Forward => from.saturating_sub(1),
    });
    let mut scanned = 0;
    loop {
        let missing = wanted.limit - found.events.len();
        let page = reader.timeline(room, from, wanted.direction, types, missing).await?;
        scanned += page.events.len();
        let last = page.events.last().map(|event| event.order);
        let all = page.events.len();
        let within: Vec<TimelineEvent> = page
            .events
            .into_iter()
            .filter(|event| is_within(wanted, event.order))
            .collect();
        let reached_bound = within.len() < all;
        let matching = within
            .into_iter()
            .filter(|event| passes(wanted.filter, &event.pdu) && (wanted.only)(&event.pdu))
            .filter(|event| !wanted.ignored.hides(&event.pdu))
            .collect();
        found.events.extend(reader.visible_to_user(room, user, matching).await?);
        let (Some(last), Some(_), false) = (last, page.next, reached_bound) else {
            // The end of an earlier round is not the end of this page: later events are in this answer.
            found.end = None;
            return Ok(found);
        };
        found.end = Some(TimelineToken(match wanted.direction {
            Direction::Backward => last,
            Direction::Forward => last.saturating_add(1),
        }));
        if found.events.len() >= wanted.limit || scanned >= MAX_SCANNED {
            return Ok(found);
        }
        from = Some(last);
    }
}

fn is_within(wanted: &Wanted<'_>, order: i64) -> bool {
    match wanted.direction {
        Direction::Backward => wanted.to.is_none_or(|to| order >= to),
        Direction::Forward => wanted.to.is_none_or(|to| order < to) && wanted.until.is_none_or(|until| order < until),
    }
}

/// With lazy loading: the member events of the senders of these events, from the state that the user may read.
async fn lazy_members(
    reader: &Reader,
    room: &RoomId,
    readable: Readable,
    filter: &RoomEventFilter,
    events: &[TimelineEvent],
) -> ApiResult<Vec<Arc<Pdu>>> {
    if filter.lazy_load_options == LazyLoadOptions::Disabled {
        return Ok(Vec::new());
    }
    let senders: BTreeSet<&UserId> = events.iter().map(|event| event.pdu.sender()).collect();
    let keys: Vec<(&str, &str)> = senders.iter().map(|user| ("m.room.member", user.as_str())).collect();
    let state = match readable {
        Readable::Now => reader.state_entries(room, &keys).await?,
        Readable::Until(position) => reader.state_entries_at(room, position, &keys).await?,
    };
    Ok(state.iter().flat_map(|state| state.iter()).cloned().collect())
}
