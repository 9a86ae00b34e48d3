//! The session of a device: whoami, refresh, logout.

use axum::{Json, Router, extract::State};
use ruma::api::client::{
    account::whoami,
    session::{logout, logout_all, refresh_token},
};
use serde_json::{Value, json};
use weft_accounts::{Accounts, NewSession};
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    client_address::ClientAddress,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<whoami::v3::Request, _, _>(who_am_i)
        .endpoint::<refresh_token::v3::Request, _, _>(refresh)
        .endpoint::<logout::v3::Request, _, _>(sign_out)
        .endpoint::<logout_all::v3::Request, _, _>(sign_out_everywhere)
}

/// The body that a client receives when a session starts.
pub(super) fn session_body(session: NewSession) -> Value {
    let mut body = json!({
        "user_id": session.user_id,
        "device_id": session.device_id,
        "access_token": session.access_token,
    });
    if let Some(fields) = body.as_object_mut() {
        let expiry = session.expires_in.and_then(|time| u64::try_from(time.as_millis()).ok());
        fields.extend(
            session
                .refresh_token
                .map(|token| ("refresh_token".to_owned(), token.into())),
        );
        fields.extend(expiry.map(|millis| ("expires_in_ms".to_owned(), millis.into())));
    }
    body
}

/// GET /_matrix/client/v3/account/whoami
async fn who_am_i(caller: Authenticated) -> Json<Value> {
    Json(json!({"user_id": caller.user_id, "device_id": caller.device_id, "is_guest": caller.guest}))
}

/// POST /_matrix/client/v3/refresh
async fn refresh(
    State(accounts): State<Accounts>,
    address: ClientAddress,
    Ruma(request): Ruma<refresh_token::v3::Request>,
) -> ApiResult<Json<Value>> {
    let session = accounts.refresh(&request.refresh_token).await?;
    accounts.note_network(&session.user_id, address.network());
    Ok(Json(session_body(session)))
}

/// POST /_matrix/client/v3/logout
async fn sign_out(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
) -> ApiResult<Json<Value>> {
    accounts.logout(&caller.user_id, &caller.device_id).await?;
    fanout.sessions_changed(&caller.user_id, Some(&caller.device_id));
    Ok(Json(json!({})))
}

/// POST /_matrix/client/v3/logout/all
async fn sign_out_everywhere(
    State(accounts): State<Accounts>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
) -> ApiResult<Json<Value>> {
    accounts.logout_all(&caller.user_id, None).await?;
    fanout.sessions_changed(&caller.user_id, None);
    Ok(Json(json!({})))
}
