//! `GET /presence/{userId}`: whether a user is online, for users who share a room with them.

use axum::{Json, extract::State};
use ruma::UserId;
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    openapi::{Operation, Routes},
    path::InPath,
};
use weft_wire::{rest::UserPresence, schema};

use super::{DocumentPorts, failures::no_user};

pub(super) fn routes() -> Routes<DocumentPorts> {
    Routes::new("Chat and presence").get(
        "/_weft/client/v1/presence/{user}",
        show,
        Operation::new("getPresence", "Whether a user is online")
            .path::<schema::UserId>("user", "The user.")
            .refuses(403, "The caller shares no room with the user."),
    )
}

/// The presence, as in Matrix. 403 if the caller shares no room with the user, whether they exist or not.
async fn show(
    State(ports): State<DocumentPorts>,
    Authenticated(session): Authenticated,
    InPath(user): InPath<String>,
) -> ApiResult<Json<UserPresence>> {
    let user = UserId::parse(user).map_err(|_| no_user())?;
    let seen = ports.presence.get(&session.user_id, &user).await;
    let seen = seen.ok_or_else(|| ApiError::forbidden("The user does not exist or shares no room with you."))?;
    Ok(Json(UserPresence {
        user_id: user,
        presence: seen.presence,
        last_active_at: seen.last_active,
        status: seen.status,
    }))
}
