//! GET and POST /_matrix/federation/v1/publicRooms (Matrix specification, "Public Room Directory").
//!
//! Shows what this server's directory shows to anybody.

use axum::extract::State;
use ruma::{
    OwnedRoomId, UInt,
    api::federation::directory::{get_public_rooms, get_public_rooms_filtered},
    directory::{Filter, PublicRoomsChunk, PublicRoomsChunkInit},
    events::room::history_visibility::HistoryVisibility,
};
use serde::{Deserialize, de::DeserializeOwned};
use weft_dag::StateView;

use super::{ServerPorts, Signed};
use crate::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

/// Rooms on one page, whatever is asked for.
const PAGE: usize = 100;

pub(super) async fn all(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<get_public_rooms::v1::Request>,
) -> ApiResult<Answer<get_public_rooms::v1::Response>> {
    let page = page(&ports, request.limit, request.since.as_deref(), &Filter::new()).await?;
    let mut response = get_public_rooms::v1::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (page.rooms, page.next, page.previous);
    response.total_room_count_estimate = Some(page.total);
    Ok(Answer(response))
}

pub(super) async fn filtered(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<get_public_rooms_filtered::v1::Request>,
) -> ApiResult<Answer<get_public_rooms_filtered::v1::Response>> {
    let page = page(&ports, request.limit, request.since.as_deref(), &request.filter).await?;
    let mut response = get_public_rooms_filtered::v1::Response::new();
    (response.chunk, response.next_batch, response.prev_batch) = (page.rooms, page.next, page.previous);
    response.total_room_count_estimate = Some(page.total);
    Ok(Answer(response))
}

struct Page {
    rooms: Vec<PublicRoomsChunk>,
    next: Option<String>,
    previous: Option<String>,
    total: UInt,
}

/// Largest rooms first, as the specification asks. A batch token is a number of rooms to leave out.
async fn page(ports: &ServerPorts, limit: Option<UInt>, since: Option<&str>, filter: &Filter) -> ApiResult<Page> {
    let skip: usize = match since {
        Some(token) => token
            .parse()
            .map_err(|_| ApiError::invalid_param("`since` is no token of this server."))?,
        None => 0,
    };
    let limit = limit
        .and_then(|limit| usize::try_from(u64::from(limit)).ok())
        .unwrap_or(PAGE)
        .clamp(1, PAGE);
    let mut rooms = Vec::new();
    for id in ports.reader().public_rooms().await? {
        if let Some(state) = ports.reader().state(&id).await?
            && let Some(room) = describe(id, &state)
            && matches(&room, filter)
        {
            rooms.push(room);
        }
    }
    rooms.sort_by(|a, b| {
        b.num_joined_members
            .cmp(&a.num_joined_members)
            .then_with(|| a.room_id.cmp(&b.room_id))
    });
    let count = rooms.len();
    let shown: Vec<_> = rooms.into_iter().skip(skip).take(limit).collect();
    let end = skip.saturating_add(shown.len());
    Ok(Page {
        rooms: shown,
        next: (end < count).then(|| end.to_string()),
        previous: (skip > 0).then(|| skip.saturating_sub(limit).to_string()),
        total: UInt::try_from(count).unwrap_or(UInt::MAX),
    })
}

fn describe(room_id: OwnedRoomId, state: &StateView) -> Option<PublicRoomsChunk> {
    #[derive(Deserialize)]
    struct GuestAccess {
        guest_access: String,
    }
    let guests = content::<GuestAccess>(state, "m.room.guest_access");
    let joined = state.joined_members().len();
    let mut room = PublicRoomsChunk::from(PublicRoomsChunkInit {
        num_joined_members: UInt::try_from(joined).ok()?,
        room_id,
        world_readable: state.history_visibility() == HistoryVisibility::WorldReadable,
        guest_can_join: guests.is_some_and(|guests| guests.guest_access == "can_join"),
    });
    room.name = text(state, "m.room.name", "name");
    room.topic = text(state, "m.room.topic", "topic");
    room.canonical_alias = text(state, "m.room.canonical_alias", "alias").and_then(|alias| alias.try_into().ok());
    room.avatar_url = text(state, "m.room.avatar", "url").map(Into::into);
    room.room_type = text(state, "m.room.create", "type").map(Into::into);
    room.join_rule = state.join_rule();
    Some(room)
}

fn text(state: &StateView, kind: &str, field: &str) -> Option<String> {
    let content: serde_json::Value = content(state, kind)?;
    content.get(field)?.as_str().map(ToOwned::to_owned)
}

fn content<T: DeserializeOwned>(state: &StateView, kind: &str) -> Option<T> {
    state.get(kind, "")?.content_as().ok()
}

fn matches(room: &PublicRoomsChunk, filter: &Filter) -> bool {
    let has = |text: Option<&str>, term: &str| text.is_some_and(|text| text.to_lowercase().contains(term));
    let term = filter.generic_search_term.as_deref().map(str::to_lowercase);
    let named = term.is_none_or(|term| {
        has(room.name.as_deref(), &term)
            || has(room.topic.as_deref(), &term)
            || has(room.canonical_alias.as_ref().map(|alias| alias.as_str()), &term)
    });
    let types = &filter.room_types;
    let typed = types.is_empty()
        || types
            .iter()
            .any(|wanted| wanted.as_str() == room.room_type.as_ref().map(ruma::room::RoomType::as_str));
    named && typed
}
