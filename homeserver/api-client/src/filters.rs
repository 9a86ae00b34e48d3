//! Stored filters.

use axum::{Json, Router, extract::State};
use ruma::{
    UserId,
    api::client::filter::{FilterDefinition, RoomEventFilter, create_filter, get_filter},
};
use serde_json::{Value, json};
use weft_accounts::Accounts;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_wire::limits::{MAX_EVENT_FIELD_BYTES, MAX_FILTER_IDS, MAX_FILTER_PATTERNS, MAX_FILTER_WILDCARDS};

use super::{Ports, membership_check::same_user};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<create_filter::v3::Request, _, _>(create)
        .endpoint::<get_filter::v3::Request, _, _>(show)
}

/// POST /_matrix/client/v3/user/{userId}/filter
async fn create(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<create_filter::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let filter = checked(request.filter)?;
    let id = accounts
        .store_filter(&caller.user_id, serde_json::to_string(&filter)?)
        .await?;
    Ok(Json(json!({"filter_id": id.to_string()})))
}

/// GET /_matrix/client/v3/user/{userId}/filter/{filterId}
async fn show(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<get_filter::v3::Request>,
) -> ApiResult<Json<FilterDefinition>> {
    same_user(&caller.user_id, &request.user_id)?;
    Ok(Json(stored(&accounts, &caller.user_id, &request.filter_id).await?))
}

/// The stored filter with the id that a client sent.
pub(super) async fn stored(accounts: &Accounts, user: &UserId, id: &str) -> ApiResult<FilterDefinition> {
    let unknown = || ApiError::not_found("Filter not found.");
    let id: u64 = id.parse().map_err(|_| unknown())?;
    let text = accounts.filter(user, id).await?.ok_or_else(unknown)?;
    checked(serde_json::from_str(&text)?)
}

/// Checks that a filter's work is bounded: each event of an answer is matched against each of its patterns.
///
/// # Errors
/// If it has too many entries, or a pattern is too long or has too many wildcards.
pub(super) fn checked(filter: FilterDefinition) -> ApiResult<FilterDefinition> {
    let room = &filter.room;
    for events in [&filter.presence, &filter.account_data] {
        check(&[events.types.as_deref().unwrap_or_default(), &events.not_types])?;
        check_ids(events.senders.as_deref().map_or(0, <[_]>::len) + events.not_senders.len())?;
    }
    for events in [&room.account_data, &room.ephemeral, &room.state, &room.timeline] {
        check_events(events)?;
    }
    check_ids(room.rooms.as_deref().map_or(0, <[_]>::len) + room.not_rooms.len())?;
    check(&[filter.event_fields.as_deref().unwrap_or_default()])?;
    Ok(filter)
}

/// The same check for the filter of one list of events.
///
/// # Errors
/// As [`checked`].
pub(super) fn check_events(filter: &RoomEventFilter) -> ApiResult<()> {
    check(&[filter.types.as_deref().unwrap_or_default(), &filter.not_types])?;
    check_ids(filter.senders.as_deref().map_or(0, <[_]>::len) + filter.not_senders.len())?;
    check_ids(filter.rooms.as_deref().map_or(0, <[_]>::len) + filter.not_rooms.len())
}

fn check(lists: &[&[String]]) -> ApiResult<()> {
    let patterns = || lists.iter().flat_map(|list| list.iter());
    if patterns().count() > MAX_FILTER_PATTERNS {
        let message = format!("A filter can have at most {MAX_FILTER_PATTERNS} types in one list.");
        return Err(ApiError::invalid_param(message));
    }
    let is_bad =
        |pattern: &String| pattern.len() > MAX_EVENT_FIELD_BYTES || pattern.matches('*').count() > MAX_FILTER_WILDCARDS;
    match patterns().any(is_bad) {
        true => Err(ApiError::invalid_param(
            "A type in the filter is too long or has too many wildcards.",
        )),
        false => Ok(()),
    }
}

fn check_ids(count: usize) -> ApiResult<()> {
    if count > MAX_FILTER_IDS {
        let message = format!("A filter can have at most {MAX_FILTER_IDS} rooms or senders.");
        return Err(ApiError::invalid_param(message));
    }
    Ok(())
}
