//! GET /_matrix/client/v3/notifications: the unread events of all rooms that notify the user, newest first.
//!
//! Events that were read are not listed: nothing is stored for each notification, and what is unread follows from receipts and push
//! rules, as the numbers in `/sync` do.

use std::{cmp::Reverse, sync::Arc};

use axum::{Json, Router, extract::State};
use futures_util::future::try_join_all;
use ruma::{OwnedRoomId, api::client::push::get_notifications::v3::Request, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_fanout::{
    Unread,
    unread::{Counting, Notification},
};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ignored::ignored_users,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::Reader;
use weft_wire::limits::MAX_PAGE_EVENTS;

use super::{
    Ports,
    events::Shown,
    push_rules,
    relations::DEFAULT_PAGE,
    unsigned::{Viewer, shown_events},
};

/// Rooms that are counted at a time.
const COUNTED_AT_ONCE: usize = 16;

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<Request, _, _>(list)
}

/// The place of a notification in the list: descending by time, then by event id.
type Place = (Reverse<u64>, String);

async fn list(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(unread): State<Unread>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<Request>,
) -> ApiResult<Json<Value>> {
    let reader = &reader.for_request();
    let from = request.from.as_deref().map(parse).transpose()?;
    let limit = request.limit.map_or(DEFAULT_PAGE, |limit| {
        usize::try_from(u64::from(limit)).unwrap_or(MAX_PAGE_EVENTS)
    });
    let limit = limit.clamp(1, MAX_PAGE_EVENTS);
    let only_highlights = request.only.as_deref() == Some("highlight");
    let ignored = ignored_users(&accounts, &caller.user_id).await?;
    let rules = push_rules::of(&caller.user_id);
    let counting = Counting {
        user: &caller.user_id,
        rules: &rules,
        is_ignored: &|user| ignored.contains(user),
    };
    let mut found = unread_of_all(reader, &unread, &counting).await?;
    found.retain(|(_, one)| {
        let is_wanted = one.is_highlight || !only_highlights;
        is_wanted && from.as_ref().is_none_or(|from| place(one) > *from)
    });
    found.sort_by_cached_key(|(_, one)| place(one));
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(_, last)| token(last));
    let viewer = Viewer {
        session: &caller,
        ignored: &ignored,
    };
    let shown = Shown::in_full(clock.now().get().into());
    let reads = found.iter().map(|(room, one)| async {
        let Some(pdu) = reader.event(Some(room), &one.event).await? else {
            return Ok(None);
        };
        let event = shown_events(reader, room, viewer, shown, &[pdu]).await?.pop();
        ApiResult::Ok(event.map(|event| body(room, one, &event)))
    });
    let notifications = try_join_all(reads.collect::<Vec<_>>()).await?;
    let notifications: Vec<Value> = notifications.into_iter().flatten().collect();
    let mut answer = Map::from_iter([("notifications".to_owned(), json!(notifications))]);
    answer.extend(next.map(|next| ("next_token".to_owned(), next.into())));
    Ok(Json(Value::Object(answer)))
}

async fn unread_of_all(
    reader: &Reader,
    unread: &Unread,
    counting: &Counting<'_>,
) -> ApiResult<Vec<(OwnedRoomId, Notification)>> {
    let mut rooms = reader.rooms_of(counting.user).await?;
    rooms.retain(|entry| entry.membership == MembershipState::Join);
    let (now, mut found) = (reader.visible_positions(), Vec::new());
    for some in rooms.chunks(COUNTED_AT_ONCE) {
        let counts = some.iter().map(|entry| {
            let through = now.in_lane(reader.lane_of(&entry.room));
            unread.notifications(reader, &entry.room, counting, through)
        });
        let counted = try_join_all(counts.collect::<Vec<_>>()).await?;
        for (entry, events) in some.iter().zip(counted) {
            found.extend(events.into_iter().map(|one| (entry.room.clone(), one)));
        }
    }
    Ok(found)
}

fn body(room: &OwnedRoomId, one: &Notification, event: &serde_json::value::RawValue) -> Value {
    let mut actions = vec![json!("notify")];
    if one.is_highlight {
        actions.push(json!({"set_tweak": "highlight"}));
    }
    json!({"actions": actions, "event": event, "read": false, "room_id": room, "ts": one.at})
}

fn place(one: &Notification) -> Place {
    (Reverse(one.at), one.event.to_string())
}

/// `next_token` after this notification.
fn token(last: &Notification) -> String {
    format!("{}_{}", last.at, last.event)
}

fn parse(token: &str) -> ApiResult<Place> {
    let parts = token
        .split_once('_')
        .and_then(|(at, event)| Some((at.parse().ok()?, event)));
    let (at, event) =
        parts.ok_or_else(|| ApiError::invalid_param("from must be the next_token of an earlier answer."))?;
    Ok((Reverse(at), event.to_owned()))
}
