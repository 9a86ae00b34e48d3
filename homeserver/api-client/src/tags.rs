//! Room tags (Matrix specification, "Room tagging"), such as favourites. They are stored as the room's `m.tag` account
//! data; each request changes one of them.

use axum::{Json, Router, extract::State};
use ruma::{
    RoomId, UserId,
    api::client::tag::{create_tag, delete_tag, get_tags},
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

use super::{Ports, membership_check::same_user};

/// Type of the account data.
const TAGS: &str = "m.tag";
/// Maximum bytes of a tag's name (Matrix specification).
const MAX_TAG_BYTES: usize = 255;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_tags::v3::Request, _, _>(show)
        .endpoint::<create_tag::v3::Request, _, _>(put)
        .endpoint::<delete_tag::v3::Request, _, _>(remove)
}

/// GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags
async fn show(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<get_tags::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let stored = accounts
        .account_data(&caller.user_id, Some(&request.room_id), TAGS)
        .await?;
    Ok(Json(json!({"tags": tags(stored.as_ref())})))
}

/// PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}
async fn put(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<create_tag::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    if request.tag.len() > MAX_TAG_BYTES {
        return Err(ApiError::invalid_param("A tag can have at most 255 bytes."));
    }
    let info = serde_json::to_value(&request.tag_info)?;
    change(&accounts, &fanout, (&caller.user_id, &request.room_id), |tags| {
        tags.insert(request.tag.clone(), info.clone());
    })
    .await
}

/// DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}
async fn remove(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_tag::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    change(&accounts, &fanout, (&caller.user_id, &request.room_id), |tags| {
        tags.remove(&request.tag);
    })
    .await
}

fn tags(stored: Option<&Value>) -> Map<String, Value> {
    let tags = stored.and_then(|content| content.get("tags"));
    tags.and_then(Value::as_object).cloned().unwrap_or_default()
}

async fn change(
    accounts: &Accounts,
    fanout: &Fanout,
    (user, room): (&UserId, &RoomId),
    change: impl Fn(&mut Map<String, Value>) + Send + Sync,
) -> ApiResult<Json<Value>> {
    let changed = |stored: Option<&Value>| {
        let mut tags = tags(stored);
        change(&mut tags);
        json!({"tags": tags})
    };
    let position = accounts.change_account_data(user, Some(room), TAGS, changed).await?;
    fanout.wake([user], accounts.lane_of(user), position);
    Ok(Json(json!({})))
}
