//! Login.

use axum::{Json, Router, body::Body, extract::State, http::Method};
use ruma::{
    OwnedDeviceId,
    api::client::{
        session::{get_login_types, login::v3},
        uiaa::UserIdentifier,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_accounts::{Accounts, LoginRequest, NewDevice};
use weft_fanout::Fanout;
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    ruma_json::{RumaRoutes, json_text, read_body},
};
use weft_wire::limits::MAX_CLIENT_REQUEST_BYTES;

use super::{Ports, session::session_body};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_login_types::v3::Request, _, _>(flows)
        .endpoint::<v3::Request, _, _>(login)
}

/// GET /_matrix/client/v3/login
async fn flows() -> Json<Value> {
    Json(json!({"flows": [{"type": "m.login.password"}]}))
}

/// Not ruma's type, which panics if the type is missing.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<UserIdentifier>,
    /// Deprecated, and still sent by scripts.
    user: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

/// POST /_matrix/client/v3/login
async fn login(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    address: ClientAddress,
    body: Body,
) -> ApiResult<Json<Value>> {
    let body = read_body(body, MAX_CLIENT_REQUEST_BYTES).await?;
    let request: Request = serde_json::from_slice(json_text(&Method::POST, &body)?)?;
    if request.kind != "m.login.password" {
        return Err(ApiError::invalid_param("Unsupported login type. Use m.login.password."));
    }
    let user = user(request.identifier, request.user)?;
    let device = NewDevice {
        id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshable: request.refresh_token,
    };
    let session = accounts
        .login(LoginRequest {
            user,
            password: request
                .password
                .ok_or_else(|| ApiError::missing_param("The password is missing."))?,
            device,
            network: address.network(),
        })
        .await?;
    // A device that was already logged in now has new tokens: pending requests of its old session end.
    fanout.sessions_changed(&session.user_id, Some(&session.device_id));
    Ok(Json(session_body(session)))
}

fn user(identifier: Option<UserIdentifier>, user: Option<String>) -> ApiResult<String> {
    match identifier {
        Some(UserIdentifier::Matrix(id)) => Ok(id.user),
        Some(_) => Err(ApiError::invalid_param("Unsupported identifier type. Use m.id.user.")),
        None => user.ok_or_else(|| ApiError::missing_param("The user name is missing.")),
    }
}
