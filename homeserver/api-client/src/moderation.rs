//! Invite, kick, ban and unban. Must not decide whether the power level suffices: `room` does.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode};
use ruma::{
    OwnedUserId, RoomId, UserId,
    api::client::membership::{
        ban_user,
        invite_user::{self, v3::InvitationRecipient},
        kick_user, unban_user,
    },
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

use super::{Ports, membership_check, remote::Remote};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<invite_user::v3::Request, _, _>(invite)
        .endpoint::<kick_user::v3::Request, _, _>(kick)
        .endpoint::<ban_user::v3::Request, _, _>(ban)
        .endpoint::<unban_user::v3::Request, _, _>(unban)
}

/// POST /_matrix/client/v3/rooms/{roomId}/invite
async fn invite(
    State(rooms): State<Rooms>,
    State(accounts): State<Accounts>,
    State(remote): State<Arc<dyn Remote>>,
    State(membership): State<MembershipLocks>,
    caller: Authenticated,
    Ruma(request): Ruma<invite_user::v3::Request>,
) -> ApiResult<Json<Value>> {
    let InvitationRecipient::UserId(recipient) = request.recipient else {
        return Err(ApiError::invalid_param(
            "Invitations by third-party id are not supported; use the Matrix user id.",
        ));
    };
    membership_check::joined(rooms.reader(), &request.room_id, &caller.user_id).await?;
    let mut content = Map::new();
    content.extend(recipient.reason.map(|reason| ("reason".to_owned(), reason.into())));
    let (inviter, invitee, room) = (caller.user_id.clone(), recipient.user_id, request.room_id);
    let lock = membership.lock(&inviter, &invitee, &room).await?;
    lock.run(async move {
        invite_user(&rooms, &accounts, &remote, &room, (&inviter, &invitee), content).await?;
        Ok(Json(json!({})))
    })
    .await
}

/// Invites a user of this server or of another one.
pub(super) async fn invite_user(
    rooms: &Rooms,
    accounts: &Accounts,
    remote: &Arc<dyn Remote>,
    room: &RoomId,
    (inviter, invitee): (&UserId, &UserId),
    content: Map<String, Value>,
) -> ApiResult<()> {
    if !accounts.is_local(invitee) {
        if has_same_content(rooms, room, (inviter, invitee), &content).await? {
            return Ok(());
        }
        return remote.invite(inviter, invitee, room, content).await;
    }
    if !accounts.exists(invitee).await? {
        return Err(ApiError::not_found(format!(
            "User {invitee} does not exist on this server."
        )));
    }
    let mut all = accounts.member_content(invitee).await?;
    all.extend(content);
    if has_same_content(rooms, room, (inviter, invitee), &all).await? {
        return Ok(());
    }
    set_membership(rooms, room, (inviter, invitee), "invite", all).await
}

/// Whether an open invitation by the same user has the same content, so that a second one would change nothing.
async fn has_same_content(
    rooms: &Rooms,
    room: &RoomId,
    (inviter, invitee): (&UserId, &UserId),
    content: &Map<String, Value>,
) -> ApiResult<bool> {
    let existing = rooms
        .reader()
        .state_event(room, "m.room.member", invitee.as_str())
        .await?;
    let Some(existing) = existing.filter(|event| event.sender() == inviter) else {
        return Ok(false);
    };
    let mut current: Map<String, Value> = existing.content_as().unwrap_or_default();
    let membership = current.remove("membership");
    Ok(membership == Some(json!("invite")) && current == *content)
}

async fn set_membership(
    rooms: &Rooms,
    room: &RoomId,
    (sender, target): (&UserId, &UserId),
    membership: &str,
    mut content: Map<String, Value>,
) -> ApiResult<()> {
    content.insert("membership".to_owned(), membership.into());
    let event = NewEvent {
        sender: sender.to_owned(),
        kind: "m.room.member".to_owned(),
        state_key: Some(target.to_string()),
        content,
        redacts: None,
        txn: None,
        timestamp: None,
    };
    rooms.send(room, event).await?;
    Ok(())
}

fn with_reason(reason: Option<String>) -> Map<String, Value> {
    reason
        .map(|reason| ("reason".to_owned(), reason.into()))
        .into_iter()
        .collect()
}

/// Checks that the target's membership is one of those that the action applies to.
async fn target_is(rooms: &Rooms, room: &RoomId, target: &OwnedUserId, fitting: &[MembershipState]) -> ApiResult<()> {
    let membership = rooms.reader().membership(room, target).await?;
    if fitting.contains(&membership) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "M_BAD_STATE",
        format!("This is not possible for {target} (membership {membership})."),
    ))
}

/// POST /_matrix/client/v3/rooms/{roomId}/kick
async fn kick(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<kick_user::v3::Request>,
) -> ApiResult<Json<Value>> {
    let people = (&*caller.user_id, &*request.user_id);
    membership_check::joined(rooms.reader(), &request.room_id, people.0).await?;
    let fitting = [MembershipState::Join, MembershipState::Invite, MembershipState::Knock];
    target_is(&rooms, &request.room_id, &request.user_id, &fitting).await?;
    set_membership(&rooms, &request.room_id, people, "leave", with_reason(request.reason)).await?;
    Ok(Json(json!({})))
}

/// POST /_matrix/client/v3/rooms/{roomId}/ban
async fn ban(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<ban_user::v3::Request>,
) -> ApiResult<Json<Value>> {
    let people = (&*caller.user_id, &*request.user_id);
    membership_check::joined(rooms.reader(), &request.room_id, people.0).await?;
    set_membership(&rooms, &request.room_id, people, "ban", with_reason(request.reason)).await?;
    Ok(Json(json!({})))
}

/// POST /_matrix/client/v3/rooms/{roomId}/unban
async fn unban(
    State(rooms): State<Rooms>,
    caller: Authenticated,
    Ruma(request): Ruma<unban_user::v3::Request>,
) -> ApiResult<Json<Value>> {
    let people = (&*caller.user_id, &*request.user_id);
    membership_check::joined(rooms.reader(), &request.room_id, people.0).await?;
    target_is(&rooms, &request.room_id, &request.user_id, &[MembershipState::Ban]).await?;
    set_membership(&rooms, &request.room_id, people, "leave", with_reason(request.reason)).await?;
    Ok(Json(json!({})))
}
