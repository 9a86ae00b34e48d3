//! POST /_matrix/client/v3/user_directory/search: searches the users who share a room with the caller and the members of
//! public rooms, which are those in the public directory and those with the join rule `public`.
//!
//! Must not reveal other users (the list of accounts is not public), nor a display name that a user of this server has in a
//! single room.

mod open_rooms;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedUserId, RoomId, UserId, api::client::user_directory::search_users, events::room::member::MembershipState,
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_http::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_read::Reader;

pub(super) use open_rooms::OpenRooms;

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<search_users::v3::Request, _, _>(search)
}

/// Maximum number of results.
const MAX_RESULTS: usize = 50;
/// Maximum number of users examined: in a room of a hundred thousand members users are found by their ids.
const MAX_LOOKED_AT: usize = 10_000;

async fn search(
    State(reader): State<Reader>,
    State(accounts): State<Accounts>,
    State(open_rooms): State<Arc<OpenRooms>>,
    caller: Authenticated,
    Ruma(request): Ruma<search_users::v3::Request>,
) -> ApiResult<Json<Value>> {
    let term = request.search_term.to_lowercase();
    let term = term.trim();
    let limit = usize::try_from(u64::from(request.limit))
        .unwrap_or(MAX_RESULTS)
        .clamp(1, MAX_RESULTS);
    let mut found: BTreeMap<OwnedUserId, Value> = BTreeMap::new();
    let mut seen: BTreeSet<OwnedUserId> = BTreeSet::from([caller.user_id.clone()]);
    let own = reader.rooms_of(&caller.user_id).await?.into_iter();
    let own = own
        .filter(|row| row.membership == MembershipState::Join)
        .map(|row| row.room);
    let public = reader.public_rooms().await?.into_iter();
    let rooms = own.chain(public).chain(open_rooms.list(&reader).await?);
    for room in rooms {
        if term.is_empty() || found.len() > limit || seen.len() > MAX_LOOKED_AT {
            break;
        }
        let mut people = reader.joined_members(&room).await?;
        if !people.iter().any(|user| accounts.is_local(user)) {
            // The stored membership of a room that this server has left may be out of date.
            continue;
        }
        people.truncate(MAX_LOOKED_AT);
        people.retain(|user| seen.insert(user.clone()));
        for user in people {
            let profile = profile(&reader, &accounts, &room, &user).await?;
            if matches(&user, &profile, term) {
                let result = result(&user, &profile);
                found.insert(user, result);
            }
        }
    }
    let limited = found.len() > limit;
    let results: Vec<Value> = found.into_values().take(limit).collect();
    Ok(Json(json!({"results": results, "limited": limited})))
}

/// A user's display name and avatar: for a user of this server those of the profile, never those of a single room. For users of
/// other servers only their member events are known.
async fn profile(reader: &Reader, accounts: &Accounts, room: &RoomId, user: &UserId) -> ApiResult<Map<String, Value>> {
    if accounts.is_local(user) {
        let profile = accounts.profile(user).await?;
        return Ok(profile.map(|profile| profile.for_member_event()).unwrap_or_default());
    }
    let member = reader.state_event(room, "m.room.member", user.as_str()).await?;
    Ok(member.and_then(|pdu| pdu.content_as().ok()).unwrap_or_default())
}

fn matches(user: &UserId, content: &Map<String, Value>, term: &str) -> bool {
    let name = content.get("displayname").and_then(Value::as_str).unwrap_or_default();
    user.as_str().contains(term) || name.to_lowercase().contains(term)
}

fn result(user: &UserId, content: &Map<String, Value>) -> Value {
    let text = |field: &str| content.get(field).and_then(Value::as_str);
    let mut result = Map::from_iter([("user_id".to_owned(), json!(user))]);
    result.extend(text("displayname").map(|name| ("display_name".to_owned(), name.into())));
    result.extend(text("avatar_url").map(|url| ("avatar_url".to_owned(), url.into())));
    Value::Object(result)
}
