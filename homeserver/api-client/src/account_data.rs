//! Account data: data that clients store on the server for their user.

use axum::{Json, Router, extract::State};
use ruma::{
    RoomId, UserId,
    api::client::config::{
        get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data,
    },
};
use serde_json::{Value, json};
use weft_accounts::Accounts;
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

use super::{Ports, membership_check::same_user};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_global_account_data::v3::Request, _, _>(show_global)
        .endpoint::<set_global_account_data::v3::Request, _, _>(set_global)
        .endpoint::<get_room_account_data::v3::Request, _, _>(show_room)
        .endpoint::<set_room_account_data::v3::Request, _, _>(set_room)
}

/// Types that only the server writes (Matrix specification, "Account data").
const OURS: [&str; 2] = ["m.fully_read", "m.push_rules"];

/// GET /_matrix/client/v3/user/{userId}/account_data/{type}
async fn show_global(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<get_global_account_data::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    show(&accounts, &caller.user_id, None, &request.event_type.to_string()).await
}

/// GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}
async fn show_room(
    State(accounts): State<Accounts>,
    caller: Authenticated,
    Ruma(request): Ruma<get_room_account_data::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    show(
        &accounts,
        &caller.user_id,
        Some(&request.room_id),
        &request.event_type.to_string(),
    )
    .await
}

async fn show(accounts: &Accounts, user: &UserId, room: Option<&RoomId>, kind: &str) -> ApiResult<Json<Value>> {
    let content = accounts.account_data(user, room, kind).await?;
    content
        .map(Json)
        .ok_or_else(|| ApiError::not_found("Account data not found."))
}

/// PUT /_matrix/client/v3/user/{userId}/account_data/{type}
async fn set_global(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<set_global_account_data::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let content = serde_json::from_str(request.data.json().get())?;
    set(
        &accounts,
        &fanout,
        &caller.user_id,
        None,
        (&request.event_type.to_string(), content),
    )
    .await
}

/// PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}
async fn set_room(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<set_room_account_data::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let content = serde_json::from_str(request.data.json().get())?;
    let room = Some(&*request.room_id);
    set(
        &accounts,
        &fanout,
        &caller.user_id,
        room,
        (&request.event_type.to_string(), content),
    )
    .await
}

async fn set(
    accounts: &Accounts,
    fanout: &Fanout,
    user: &UserId,
    room: Option<&RoomId>,
    (kind, content): (&str, Value),
) -> ApiResult<Json<Value>> {
    if OURS.contains(&kind) {
        return Err(ApiError::new(
            axum::http::StatusCode::METHOD_NOT_ALLOWED,
            "M_BAD_JSON",
            format!("{kind} must be set through its own endpoint."),
        ));
    }
    if !content.is_object() {
        return Err(ApiError::bad_json("Account data must be an object."));
    }
    let position = accounts.set_account_data(user, room, kind, content).await?;
    fanout.wake([user], accounts.lane_of(user), position);
    Ok(Json(json!({})))
}
