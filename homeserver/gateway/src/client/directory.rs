//! The public room directory, ours and those of other servers.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedServerName, RoomId,
    api::client::{
        directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility},
        room::Visibility,
    },
    events::room::history_visibility::HistoryVisibility,
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_room::{Reader, Rooms};

use super::{
    Ports,
    aliases::may_name,
    events::text_of,
    remote::{PublicRoomsQuery, Remote},
};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_public_rooms::v3::Request, _, _>(list)
        .endpoint::<get_public_rooms_filtered::v3::Request, _, _>(search)
        .endpoint::<get_room_visibility::v3::Request, _, _>(visibility)
        .endpoint::<set_room_visibility::v3::Request, _, _>(set_visibility)
}

/// Entries of one page.
const PAGE: usize = 100;

/// GET /_matrix/client/v3/publicRooms
async fn list(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    Ruma(request): Ruma<get_public_rooms::v3::Request>,
) -> ApiResult<Json<Value>> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        search: None,
    };
    answer(&reader, &accounts, &remote, request.server, query).await
}

/// POST /_matrix/client/v3/publicRooms
async fn search(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    _caller: Authenticated,
    Ruma(request): Ruma<get_public_rooms_filtered::v3::Request>,
) -> ApiResult<Json<Value>> {
    let search = request
        .filter
        .generic_search_term
        .filter(|term| !term.trim().is_empty());
    let query = PublicRoomsQuery {
        limit: request.limit.map(u64::from),
        since: request.since,
        search,
    };
    answer(&reader, &accounts, &remote, request.server, query).await
}

async fn answer(
    reader: &Reader,
    accounts: &Accounts,
    remote: &Arc<dyn Remote>,
    server: Option<OwnedServerName>,
    query: PublicRoomsQuery,
) -> ApiResult<Json<Value>> {
    match server.filter(|server| *server != accounts.server_name()) {
        Some(server) => Ok(Json(remote.public_rooms(&server, query).await?)),
        None => Ok(Json(public_rooms(reader, &query).await?)),
    }
}

/// A page of this server's directory, the rooms with most members first. Also what other servers get.
///
/// # Errors
/// When `since` is no token of this server, or the store fails.
pub async fn public_rooms(reader: &Reader, query: &PublicRoomsQuery) -> ApiResult<Value> {
    let offset: usize = match &query.since {
        Some(since) => since
            .parse()
            .map_err(|_| ApiError::invalid_param("This is no token of this server."))?,
        None => 0,
    };
    let mut entries = Vec::new();
    for room in reader.public_rooms().await? {
        entries.extend(entry(reader, &room).await?);
    }
    if let Some(term) = query.search.as_ref().map(|term| term.to_lowercase()) {
        entries.retain(|entry| found(entry, &term));
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.get("num_joined_members").and_then(Value::as_u64)));
    let total = entries.len();
    let limit = usize::try_from(query.limit.unwrap_or(u64::MAX))
        .unwrap_or(PAGE)
        .clamp(1, PAGE);
    let chunk: Vec<Value> = entries.into_iter().skip(offset).take(limit).collect();
    let end = offset.saturating_add(chunk.len());
    let mut body = Map::from_iter([
        ("chunk".to_owned(), Value::from(chunk)),
        ("total_room_count_estimate".to_owned(), total.into()),
    ]);
    body.extend((end < total).then(|| ("next_batch".to_owned(), end.to_string().into())));
    body.extend((offset > 0).then(|| ("prev_batch".to_owned(), offset.saturating_sub(limit).to_string().into())));
    Ok(Value::Object(body))
}

/// What the directory says of a room; None where it is not known or empty.
async fn entry(reader: &Reader, room: &RoomId) -> ApiResult<Option<Value>> {
    const SHOWN: [(&str, &str, &str); 6] = [
        ("m.room.name", "name", "name"),
        ("m.room.topic", "topic", "topic"),
        ("m.room.canonical_alias", "alias", "canonical_alias"),
        ("m.room.avatar", "url", "avatar_url"),
        ("m.room.join_rules", "join_rule", "join_rule"),
        ("m.room.create", "type", "room_type"),
    ];
    let keys: Vec<(&str, &str)> = SHOWN
        .iter()
        .map(|(kind, ..)| (*kind, ""))
        .chain([("m.room.history_visibility", ""), ("m.room.guest_access", "")])
        .collect();
    let members = reader.joined_members(room).await?.len();
    let Some(state) = reader.state_entries(room, &keys).await? else {
        return Ok(None);
    };
    if members == 0 {
        return Ok(None);
    }
    let field = |kind: &str, name: &str| text_of(state.get(kind, "")?, name);
    let world_readable = state.history_visibility() == HistoryVisibility::WorldReadable;
    let mut entry = Map::from_iter([
        ("room_id".to_owned(), json!(room)),
        ("num_joined_members".to_owned(), json!(members)),
        ("world_readable".to_owned(), json!(world_readable)),
        ("guest_can_join".to_owned(), json!(false)),
    ]);
    for (kind, name, shown_as) in SHOWN {
        entry.extend(field(kind, name).map(|value| (shown_as.to_owned(), value.into())));
    }
    Ok(Some(Value::Object(entry)))
}

fn found(entry: &Value, term: &str) -> bool {
    ["name", "topic", "canonical_alias"]
        .iter()
        .filter_map(|field| entry.get(*field).and_then(Value::as_str))
        .any(|text| text.to_lowercase().contains(term))
}

/// GET /_matrix/client/v3/directory/list/room/{roomId}
async fn visibility(
    State(reader): State<Reader>,
    Ruma(request): Ruma<get_room_visibility::v3::Request>,
) -> ApiResult<Json<Value>> {
    if reader.version(&request.room_id).await?.is_none() {
        return Err(ApiError::not_found("There is no such room."));
    }
    let public = reader.is_public(&request.room_id).await?;
    Ok(Json(json!({"visibility": if public { "public" } else { "private" }})))
}

/// PUT /_matrix/client/v3/directory/list/room/{roomId}
async fn set_visibility(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<set_room_visibility::v3::Request>,
) -> ApiResult<Json<Value>> {
    if !may_name(rooms.reader(), &request.room_id, &caller.user_id).await? {
        return Err(ApiError::forbidden(
            "Your power in this room does not reach to list it.",
        ));
    }
    rooms
        .set_public(&request.room_id, request.visibility == Visibility::Public)
        .await?;
    Ok(Json(json!({})))
}
