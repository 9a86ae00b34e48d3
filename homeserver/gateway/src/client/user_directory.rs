//! POST /_matrix/client/v3/user_directory/search: people to invite, among those whom the user shares a room with.
//!
//! Nobody else is told: who has an account here is not everybody's business.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, Router, extract::State};
use ruma::{OwnedUserId, api::client::user_directory::search_users, events::room::member::MembershipState};
use serde_json::{Map, Value, json};
use weft_room::Reader;

use super::Ports;
use crate::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<search_users::v3::Request, _, _>(search)
}

/// Results of one answer, at most.
const MAX_RESULTS: usize = 50;
/// People who are looked at, at most: in a room of a hundred thousand one finds people by their ids.
const MAX_LOOKED_AT: usize = 10_000;

async fn search(
    State(reader): State<Reader>,
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
    for row in reader.rooms_of(&caller.user_id).await? {
        if row.membership != MembershipState::Join || found.len() > limit || seen.len() > MAX_LOOKED_AT {
            continue;
        }
        let mut people = reader.joined_members(&row.room).await?;
        people.truncate(MAX_LOOKED_AT);
        people.retain(|user| seen.insert(user.clone()));
        for chunk in people.chunks(100) {
            let keys: Vec<(&str, &str)> = chunk.iter().map(|user| ("m.room.member", user.as_str())).collect();
            let Some(members) = reader.state_entries(&row.room, &keys).await? else {
                continue;
            };
            for user in chunk {
                let member = members.get("m.room.member", user.as_str());
                let content: Map<String, Value> = member.and_then(|pdu| pdu.content_as().ok()).unwrap_or_default();
                if matches(user, &content, term) {
                    found.insert(user.clone(), result(user, &content));
                }
            }
        }
    }
    let limited = found.len() > limit;
    let results: Vec<Value> = found.into_values().take(limit).collect();
    Ok(Json(json!({"results": results, "limited": limited})))
}

fn matches(user: &OwnedUserId, content: &Map<String, Value>, term: &str) -> bool {
    let name = content.get("displayname").and_then(Value::as_str).unwrap_or_default();
    !term.is_empty() && (user.as_str().contains(term) || name.to_lowercase().contains(term))
}

fn result(user: &OwnedUserId, content: &Map<String, Value>) -> Value {
    let text = |field: &str| content.get(field).and_then(Value::as_str);
    let mut result = Map::from_iter([("user_id".to_owned(), json!(user))]);
    result.extend(text("displayname").map(|name| ("display_name".to_owned(), name.into())));
    result.extend(text("avatar_url").map(|url| ("avatar_url".to_owned(), url.into())));
    Value::Object(result)
}
