//! Presence: taken and forgotten. Who is live in a document is told by its cursors, not here.

use axum::{Json, Router};
use ruma::api::client::presence::{get_presence, set_presence};
use serde_json::{Value, json};

use super::{Ports, standing::same_user};
use crate::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_presence::v3::Request, _, _>(show)
        .endpoint::<set_presence::v3::Request, _, _>(set)
}

/// GET /_matrix/client/v3/presence/{userId}/status
async fn show(_caller: Authenticated) -> Json<Value> {
    Json(json!({"presence": "offline"}))
}

/// PUT /_matrix/client/v3/presence/{userId}/status
async fn set(caller: Authenticated, Ruma(request): Ruma<set_presence::v3::Request>) -> ApiResult<Json<Value>> {
    same_user(&caller.user_id, &request.user_id)?;
    Ok(Json(json!({})))
}
