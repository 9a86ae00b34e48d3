//! GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}: replies to an event, its thread, its edits, its reactions.
//!
//! Read from the room's timeline, so a page may be empty and not be the last. Must not return indirect relations.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, UInt,
    api::{
        Direction as Dir, IncomingRequest,
        client::{
            filter::RoomEventFilter,
            relations::{
                get_relating_events, get_relating_events_with_rel_type,
                get_relating_events_with_rel_type_and_event_type,
            },
        },
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
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
    ignored::ignored_users,
    messages::{Wanted, read},
    tokens::TimelineToken,
    unsigned::{Viewer, shown_timeline},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_relating_events::v1::Request, _, _>(relations::<get_relating_events::v1::Request>)
        .endpoint::<get_relating_events_with_rel_type::v1::Request, _, _>(
            relations::<get_relating_events_with_rel_type::v1::Request>,
        )
        .endpoint::<get_relating_events_with_rel_type_and_event_type::v1::Request, _, _>(
            relations::<get_relating_events_with_rel_type_and_event_type::v1::Request>,
        )
}

/// Relations of a page if the client requests no limit.
pub(super) const DEFAULT_PAGE: usize = 30;

/// The query, from any of the three paths.
struct Asked {
    room: OwnedRoomId,
    event: OwnedEventId,
    relation: Option<String>,
    kind: Option<String>,
    direction: Dir,
    from: Option<String>,
    to: Option<String>,
    limit: Option<UInt>,
}

impl From<get_relating_events::v1::Request> for Asked {
    fn from(request: get_relating_events::v1::Request) -> Self {
        Self {
            room: request.room_id,
            event: request.event_id,
            relation: None,
            kind: None,
            direction: request.dir,
            from: request.from,
            to: request.to,
            limit: request.limit,
        }
    }
}

impl From<get_relating_events_with_rel_type::v1::Request> for Asked {
    fn from(request: get_relating_events_with_rel_type::v1::Request) -> Self {
        Self {
            room: request.room_id,
            event: request.event_id,
            relation: Some(request.rel_type.to_string()),
            kind: None,
            direction: request.dir,
            from: request.from,
            to: request.to,
            limit: request.limit,
        }
    }
}

impl From<get_relating_events_with_rel_type_and_event_type::v1::Request> for Asked {
    fn from(request: get_relating_events_with_rel_type_and_event_type::v1::Request) -> Self {
        Self {
            room: request.room_id,
            event: request.event_id,
            relation: Some(request.rel_type.to_string()),
            kind: Some(request.event_type.to_string()),
            direction: request.dir,
            from: request.from,
            to: request.to,
            limit: request.limit,
        }
    }
}

/// The handler of all three paths.
async fn relations<R: IncomingRequest + Into<Asked> + Send>(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<R>,
) -> ApiResult<Json<Value>> {
    answer(&reader, &accounts, &clock, &caller, &request.into()).await
}

async fn answer(
    reader: &Reader,
    accounts: &Accounts,
    clock: &Arc<dyn Clock>,
    caller: &Authenticated,
    asked: &Asked,
) -> ApiResult<Json<Value>> {
    // The relations of an event that the user may not see are hidden too.
    seen(reader, &asked.room, &asked.event, &caller.user_id).await?;
    let lane = reader.lane_of(&asked.room);
    let place = |token: &Option<String>| -> ApiResult<Option<i64>> {
        let token = token
            .as_deref()
            .map(|token| TimelineToken::parse(token, lane))
            .transpose()?;
        Ok(token.map(|token| token.0))
    };
    let ignored = ignored_users(accounts, &caller.user_id).await?;
    let wanted = Wanted {
        filter: &RoomEventFilter::default(),
        only: &|pdu| relates(pdu, &asked.event, asked.relation.as_deref(), asked.kind.as_deref()),
        ignored: &ignored,
        direction: match asked.direction {
            Dir::Backward => Direction::Backward,
            Dir::Forward => Direction::Forward,
        },
        limit: asked
            .limit
            .map_or(DEFAULT_PAGE, |limit| {
                usize::try_from(u64::from(limit)).unwrap_or(MAX_PAGE_EVENTS)
            })
            .clamp(1, MAX_PAGE_EVENTS),
        from: place(&asked.from)?,
        to: place(&asked.to)?,
        until: None,
    };
    let found = read(reader, &asked.room, &caller.user_id, &wanted).await?;
    let shown = Shown::in_full(clock.now().get().into());
    let viewer = Viewer {
        session: caller,
        ignored: &ignored,
    };
    let mut body = json!({
        "chunk": shown_timeline(reader, &asked.room, viewer, shown, &found.events).await?,
    });
    if let (Some(end), Some(body)) = (found.end, body.as_object_mut()) {
        body.insert("next_batch".to_owned(), end.to_string().into());
    }
    if let (Some(from), Some(body)) = (&asked.from, body.as_object_mut()) {
        body.insert("prev_batch".to_owned(), from.as_str().into());
    }
    Ok(Json(body))
}

/// The relation in an event's content.
#[derive(Deserialize)]
pub(super) struct Relation {
    pub(super) rel_type: String,
    pub(super) event_id: OwnedEventId,
}

/// The relation of this event to another one (Matrix specification, "Forming relationships between events").
pub(super) fn relation(pdu: &Pdu) -> Option<Relation> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: Relation,
    }
    // State events have no relations.
    if pdu.state_key().is_some() {
        return None;
    }
    Some(pdu.content_as::<Content>().ok()?.relates_to)
}

fn relates(pdu: &Pdu, target: &EventId, named: Option<&str>, kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| kind == pdu.kind())
        && relation(pdu)
            .is_some_and(|relation| relation.event_id == target && named.is_none_or(|named| named == relation.rel_type))
}
