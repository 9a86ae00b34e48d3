//! Joined rooms and members of rooms.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedUserId, RoomId, UserId,
    api::client::membership::{get_member_events, joined_members, joined_rooms},
    events::room::member::MembershipState,
};
use serde_json::{Value, json, value::RawValue};
use weft_dag::{Pdu, StateView};
use weft_http::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;
use weft_room_read::Reader;

use super::{
    Ports,
    events::{Shown, client_event},
    membership_check::{self, Readable},
    tokens::TimelineToken,
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<joined_rooms::v3::Request, _, _>(list_rooms)
        .endpoint::<joined_members::v3::Request, _, _>(joined)
        .endpoint::<get_member_events::v3::Request, _, _>(members)
}

/// GET /_matrix/client/v3/joined_rooms
async fn list_rooms(State(reader): State<Reader>, caller: Authenticated) -> ApiResult<Json<Value>> {
    let rooms = reader.rooms_of(&caller.user_id).await?;
    let joined = rooms
        .into_iter()
        .filter(|row| row.membership == MembershipState::Join)
        .map(|row| row.room);
    Ok(Json(json!({"joined_rooms": joined.collect::<Vec<_>>()})))
}

/// GET /_matrix/client/v3/rooms/{roomId}/joined_members
async fn joined(
    State(reader): State<Reader>,
    caller: Authenticated,
    Ruma(request): Ruma<joined_members::v3::Request>,
) -> ApiResult<Json<Value>> {
    membership_check::joined(&reader, &request.room_id, &caller.user_id).await?;
    let state = reader
        .state(&request.room_id)
        .await?
        .ok_or_else(membership_check::hidden)?;
    let joined: BTreeMap<OwnedUserId, Value> = state
        .of_type("m.room.member")
        .filter_map(|pdu| {
            let user = UserId::parse(pdu.state_key()?).ok()?;
            (state.membership(&user) == MembershipState::Join).then_some(())?;
            let content: Value = pdu.content_as().unwrap_or_default();
            Some((
                user,
                json!({"display_name": content.get("displayname"), "avatar_url": content.get("avatar_url")}),
            ))
        })
        .collect();
    Ok(Json(json!({"joined": joined})))
}

/// GET /_matrix/client/v3/rooms/{roomId}/members
async fn members(
    State(reader): State<Reader>,
    State(clock): State<Arc<dyn Clock>>,
    caller: Authenticated,
    Ruma(request): Ruma<get_member_events::v3::Request>,
) -> ApiResult<Json<Value>> {
    let lane = reader.lane_of(&request.room_id);
    let at = request.at.as_deref().map(|token| TimelineToken::parse(token, lane));
    let at = at.transpose()?;
    let state = state_for(&reader, &request.room_id, &caller.user_id, at).await?;
    let shown = Shown::in_full(clock.now().get().into());
    let wanted = |membership: &MembershipState| {
        request
            .membership
            .as_ref()
            .is_none_or(|only| only.as_str() == membership.as_str())
            && request
                .not_membership
                .as_ref()
                .is_none_or(|but| but.as_str() != membership.as_str())
    };
    let chunk: Vec<Box<RawValue>> = state
        .of_type("m.room.member")
        .filter(|pdu| {
            let user = pdu.state_key().and_then(|key| UserId::parse(key).ok());
            user.is_some_and(|user| wanted(&state.membership(&user)))
        })
        .filter_map(|pdu| client_event(pdu, shown))
        .collect();
    Ok(Json(json!({"chunk": chunk})))
}

/// The state that a user may read: the current one, the one at the time of leaving, or the one at an earlier token.
pub(super) async fn state_for(
    reader: &Reader,
    room: &RoomId,
    user: &UserId,
    at: Option<TimelineToken>,
) -> ApiResult<StateView> {
    let readable = membership_check::readable(reader, room, user).await?;
    let asked = at.map(|TimelineToken(order)| u64::try_from(order.saturating_sub(1)).unwrap_or(0));
    let position = match (readable, asked) {
        (Readable::Now, None) => return reader.state(room).await?.ok_or_else(membership_check::hidden),
        (Readable::Now, Some(position)) => position,
        (Readable::Until(left), asked) => asked.unwrap_or(left).min(left),
    };
    if let Some(state) = reader.state_at_position(room, position).await? {
        return Ok(state);
    }
    // Before the room was created or received there is no state; the user's permission was checked already.
    let version = reader.version(room).await?.ok_or_else(membership_check::hidden)?;
    Ok(StateView::empty(version))
}

/// One entry of the state that a user may read, without reading the rest: a state may have thousands of entries.
pub(super) async fn entry_for(
    reader: &Reader,
    room: &RoomId,
    user: &UserId,
    (kind, key): (&str, &str),
) -> ApiResult<Option<Arc<Pdu>>> {
    Ok(match membership_check::readable(reader, room, user).await? {
        Readable::Now => reader.state_event(room, kind, key).await?,
        Readable::Until(left) => {
            let state = reader.state_entries_at(room, left, &[(kind, key)]).await?;
            state.and_then(|state| state.get(kind, key).cloned())
        }
    })
}
