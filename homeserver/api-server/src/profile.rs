//! GET /_matrix/federation/v1/query/profile (Matrix specification, "Querying for information"): local users only.

use axum::extract::State;
use ruma::api::federation::query::get_profile_information::v1::{Request, Response};
use weft_http::{
    errors::{ApiError, ApiResult},
    ruma_json::Answer,
};

use super::{ServerPorts, Signed};

pub(super) async fn profile(
    State(ports): State<ServerPorts>,
    Signed { request, .. }: Signed<Request>,
) -> ApiResult<Answer<Response>> {
    if !ports.accounts.is_local(&request.user_id) {
        return Err(ApiError::invalid_param("The user does not belong to this server."));
    }
    let profile = ports.accounts.profile(&request.user_id).await?;
    let profile = profile.ok_or_else(|| ApiError::not_found("User not found."))?;
    let wanted = |name: &str| request.field.as_ref().is_none_or(|field| field.as_str() == name);
    let mut response = Response::new();
    for (name, value) in profile.fields {
        if wanted(&name) {
            response.set(name, value);
        }
    }
    Ok(Answer(response))
}
