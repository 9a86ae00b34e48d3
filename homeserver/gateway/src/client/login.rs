//! Signing in.

use axum::{Json, Router, extract::State};
use ruma::api::client::{
    session::{
        get_login_types,
        login::v3::{self, LoginInfo, Password},
    },
    uiaa::UserIdentifier,
};
use serde_json::{Value, json};
use weft_accounts::{Accounts, LoginRequest, NewDevice};

use super::{Ports, session::session_body};
use crate::{
    authentication::PeerAddress,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_login_types::v3::Request, _, _>(flows)
        .endpoint::<v3::Request, _, _>(login)
}

/// GET /_matrix/client/v3/login
async fn flows() -> Json<Value> {
    Json(json!({"flows": [{"type": "m.login.password"}]}))
}

/// POST /_matrix/client/v3/login
async fn login(
    State(accounts): State<Accounts>,
    PeerAddress(address): PeerAddress,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    let LoginInfo::Password(proof) = request.login_info else {
        return Err(ApiError::invalid_param("This server takes m.login.password."));
    };
    let user = user(&proof)?;
    let device = NewDevice {
        id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshable: request.refresh_token,
    };
    let session = accounts
        .login(LoginRequest {
            user,
            password: proof.password,
            device,
            address,
        })
        .await?;
    Ok(Json(session_body(session)))
}

fn user(proof: &Password) -> ApiResult<String> {
    match &proof.identifier {
        Some(UserIdentifier::Matrix(id)) => Ok(id.user.clone()),
        Some(_) => Err(ApiError::invalid_param("Sign in with your user name.")),
        None => {
            // Deprecated, and still sent by scripts.
            #[expect(deprecated)]
            let user = proof.user.clone();
            user.ok_or_else(|| ApiError::missing_param("The user name is missing."))
        }
    }
}
