//! Profiles: display name, avatar, other fields. A change updates the member events in all rooms that the user has joined.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    UserId,
    api::client::profile::{delete_profile_field, get_profile, get_profile_field, set_profile_field},
    events::room::member::MembershipState,
};
use serde_json::{Map, Value, json};
use weft_accounts::Accounts;
use weft_http::membership_lock::MembershipLocks;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room::Rooms;
use weft_room_api::NewEvent;

use super::{Ports, initiator::UnverifiedInitiator, membership_check::same_user, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_profile::v3::Request, _, _>(show)
        .endpoint::<get_profile_field::v3::Request, _, _>(show_field)
        .endpoint::<set_profile_field::v3::Request, _, _>(set_field)
        .endpoint::<delete_profile_field::v3::Request, _, _>(delete_field)
}

async fn fields(
    accounts: &Accounts,
    remote: &Arc<dyn Remote>,
    initiator: UnverifiedInitiator,
    user: &UserId,
) -> ApiResult<Map<String, Value>> {
    if !accounts.is_local(user) {
        return remote.profile(&initiator.verify(accounts).await, user).await;
    }
    let profile = accounts.profile(user).await?;
    Ok(profile
        .ok_or_else(|| ApiError::not_found(format!("User {user} not found.")))?
        .fields)
}

/// GET /_matrix/client/v3/profile/{userId}
async fn show(
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    initiator: UnverifiedInitiator,
    Ruma(request): Ruma<get_profile::v3::Request>,
) -> ApiResult<Json<Map<String, Value>>> {
    Ok(Json(fields(&accounts, &remote, initiator, &request.user_id).await?))
}

/// GET /_matrix/client/v3/profile/{userId}/{keyName}
async fn show_field(
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    initiator: UnverifiedInitiator,
    Ruma(request): Ruma<get_profile_field::v3::Request>,
) -> ApiResult<Json<Value>> {
    let name = request.field.as_str();
    let mut fields = fields(&accounts, &remote, initiator, &request.user_id).await?;
    match fields.remove(name) {
        Some(value) => Ok(Json(json!({ name: value }))),
        // The two oldest fields answer with an empty object if they are unset; clients rely on it.
        None if matches!(name, "displayname" | "avatar_url") => Ok(Json(json!({}))),
        None => Err(ApiError::not_found("The profile does not have this field.")),
    }
}

/// PUT /_matrix/client/v3/profile/{userId}/{keyName}
async fn set_field(
    State(accounts): State<Accounts>,
    State(rooms): State<Rooms>,
    State(membership): State<MembershipLocks>,
    caller: Authenticated,
    Ruma(request): Ruma<set_profile_field::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let name = request.value.field_name().as_str().to_owned();
    let value = request.value.value().into_owned();
    // Older clients remove the avatar by setting it to the empty string.
    let value = Some(value).filter(|value| !(name == "avatar_url" && value.as_str() == Some("")));
    change(&accounts, (&rooms, &membership), &caller.user_id, &name, value).await
}

/// DELETE /_matrix/client/v3/profile/{userId}/{keyName}
async fn delete_field(
    State(accounts): State<Accounts>,
    State(rooms): State<Rooms>,
    State(membership): State<MembershipLocks>,
    caller: Authenticated,
    Ruma(request): Ruma<delete_profile_field::v3::Request>,
) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    let rooms = (&rooms, &membership);
    change(&accounts, rooms, &caller.user_id, request.field.as_str(), None).await
}

async fn change(
    accounts: &Accounts,
    (rooms, membership): (&Rooms, &MembershipLocks),
    user: &UserId,
    field: &str,
    value: Option<Value>,
) -> ApiResult<Json<Value>> {
    let changed = accounts.set_profile_field(user, field, value.clone()).await?;
    if changed && matches!(field, "displayname" | "avatar_url") {
        propagate(rooms, membership, user, field, value).await?;
    }
    Ok(Json(json!({})))
}

/// Sends new member events to all rooms. A failure in one room does not stop the rest.
async fn propagate(
    rooms: &Rooms,
    membership: &MembershipLocks,
    user: &UserId,
    field: &str,
    value: Option<Value>,
) -> ApiResult<()> {
    for entry in rooms.reader().rooms_of(user).await? {
        if entry.membership != MembershipState::Join {
            continue;
        }
        // The lock prevents that a user who leaves meanwhile is joined again with the new name.
        let _lock = membership.lock(user, user, &entry.room).await?;
        if rooms.reader().membership(&entry.room, user).await? != MembershipState::Join {
            continue;
        }
        let Some(member) = rooms
            .reader()
            .state_event(&entry.room, "m.room.member", user.as_str())
            .await?
        else {
            continue;
        };
        let Ok(mut content) = member.content_as::<Map<String, Value>>() else {
            continue;
        };
        // It authorised the join and must not be part of a profile change.
        content.remove("join_authorised_via_users_server");
        match value.clone() {
            Some(value) => content.insert(field.to_owned(), value),
            None => content.remove(field),
        };
        let event = NewEvent {
            sender: user.to_owned(),
            kind: "m.room.member".to_owned(),
            state_key: Some(user.to_string()),
            content,
            redacts: None,
            txn: None,
            timestamp: None,
        };
        if let Err(error) = rooms.send(&entry.room, event).await {
            tracing::warn!(
                event = "profile.not_sent", room = %entry.room, %user, %error,
                "cannot send a profile change to a room"
            );
        }
    }
    Ok(())
}
