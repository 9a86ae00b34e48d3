//! GET /_matrix/client/v1/rooms/{roomId}/threads: the roots of a room's threads, ordered by the newest reply, newest
//! first.
//!
//! Read backward from the room's timeline, so a page may be short or empty and not be the last; and a thread with more
//! events between two of its replies than one request reads may be listed twice. There is no index of threads.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedEventId, RoomId, UserId,
    api::client::{
        filter::RoomEventFilter,
        threads::get_threads::v1::{IncludeThreads, Request},
    },
};
use serde_json::{Map, Value};
use weft_accounts::Accounts;
use weft_dag::Pdu;
use weft_http::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::{Direction, Reader};
use weft_wire::limits::MAX_PAGE_EVENTS;

use super::{
    Ports,
    event::seen,
    events::Shown,
    ignored::{Ignored, ignored_users},
    membership_check,
    messages::{Found, Wanted, read},
    relations::{DEFAULT_PAGE, relation},
    tokens::TimelineToken,
    unsigned::{Viewer, shown_events},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<Request, _, _>(threads)
}

async fn threads(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<Request>,
) -> ApiResult<Json<Value>> {
    let (room, user) = (&*request.room_id, &*caller.user_id);
    membership_check::readable(&reader, room, user).await?;
    let lane = reader.lane_of(&request.room_id);
    let from = request.from.as_deref().map(|token| TimelineToken::parse(token, lane));
    let from = from.transpose()?;
    let limit = request.limit.map_or(DEFAULT_PAGE, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(MAX_PAGE_EVENTS)
    });
    let ignored = ignored_users(&accounts, user).await?;
    let room = Threads {
        reader: &reader,
        room,
        user,
        ignored: &ignored,
        from: from.map(|from| from.0),
    };
    let own = match request.include {
        IncludeThreads::Participated => Some(room.own().await?),
        _ => None,
    };
    let (roots, end) = room.page(limit.clamp(1, MAX_PAGE_EVENTS), own.as_ref()).await?;
    let shown = Shown::in_full(clock.now().get().into());
    let viewer = Viewer {
        session: &caller,
        ignored: &ignored,
    };
    let chunk = shown_events(&reader, &request.room_id, viewer, shown, &roots).await?;
    let mut body = Map::from_iter([("chunk".to_owned(), serde_json::to_value(chunk)?)]);
    body.extend(end.map(|end| ("next_batch".to_owned(), end.to_string().into())));
    Ok(Json(Value::Object(body)))
}

/// The thread root that this event replies to.
fn root(pdu: &Pdu) -> Option<OwnedEventId> {
    let relation = relation(pdu)?;
    (relation.rel_type == "m.thread").then_some(relation.event_id)
}

/// The threads of one room, for one user, from a position on.
struct Threads<'a> {
    reader: &'a Reader,
    room: &'a RoomId,
    user: &'a UserId,
    ignored: &'a Ignored,
    from: Option<i64>,
}

impl Threads<'_> {
    /// Replies in threads, newest first; with a direction of forward, oldest first.
    async fn answers(&self, from: Option<i64>, direction: Direction, sender: Option<&UserId>) -> ApiResult<Found> {
        let only = |pdu: &Pdu| sender.is_none_or(|sender| sender == pdu.sender()) && root(pdu).is_some();
        let wanted = Wanted {
            filter: &RoomEventFilter::default(),
            only: &only,
            ignored: self.ignored,
            direction,
            limit: MAX_PAGE_EVENTS,
            from,
            to: None,
            until: None,
        };
        read(self.reader, self.room, self.user, &wanted).await
    }

    /// The threads that the user has replied in, as far as one request reads.
    async fn own(&self) -> ApiResult<BTreeSet<OwnedEventId>> {
        let found = self.answers(None, Direction::Backward, Some(self.user)).await?;
        Ok(found.events.iter().filter_map(|answer| root(&answer.pdu)).collect())
    }

    /// The threads that previous pages listed.
    async fn listed(&self) -> ApiResult<BTreeSet<OwnedEventId>> {
        if self.from.is_none() {
            return Ok(BTreeSet::new());
        }
        let found = self.answers(self.from, Direction::Forward, None).await?;
        Ok(found.events.iter().filter_map(|answer| root(&answer.pdu)).collect())
    }

    /// A page of roots, restricted to `own` if the client requests it, and the next token.
    async fn page(
        &self,
        limit: usize,
        own: Option<&BTreeSet<OwnedEventId>>,
    ) -> ApiResult<(Vec<Arc<Pdu>>, Option<TimelineToken>)> {
        let mut listed = self.listed().await?;
        let found = self.answers(self.from, Direction::Backward, None).await?;
        let mut roots = Vec::new();
        for answer in &found.events {
            let Some(id) = root(&answer.pdu).filter(|id| !listed.contains(id)) else {
                continue;
            };
            if roots.len() >= limit {
                return Ok((roots, Some(TimelineToken(answer.order.saturating_add(1)))));
            }
            // A root that is missing or that the user may not see is left out.
            let Ok(pdu) = seen(self.reader, self.room, &id, self.user).await else {
                continue;
            };
            if own.is_none_or(|own| own.contains(&id) || pdu.sender() == self.user) {
                roots.push(pdu);
            }
            listed.insert(id);
        }
        Ok((roots, found.end))
    }
}
