//! Stored filters.

use axum::{Json, Router, extract::State};
use ruma::{
    UserId,
    api::client::filter::{FilterDefinition, create_filter, get_filter},
};
use serde_json::{Value, json};
use weft_accounts::Accounts;

use super::{Ports, standing::same_user};
use crate::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

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
    let id = accounts
        .store_filter(&caller.user_id, serde_json::to_string(&request.filter)?)
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

/// A stored filter by the id that a client names.
pub(super) async fn stored(accounts: &Accounts, user: &UserId, id: &str) -> ApiResult<FilterDefinition> {
    let unknown = || ApiError::not_found("You have no such filter.");
    let id: u64 = id.parse().map_err(|_| unknown())?;
    let text = accounts.filter(user, id).await?.ok_or_else(unknown)?;
    Ok(serde_json::from_str(&text)?)
}
