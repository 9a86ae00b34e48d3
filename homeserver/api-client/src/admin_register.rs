//! Synapse's `/_synapse/admin/v1/register`: operators' scripts create accounts with a shared secret.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Method, StatusCode},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_accounts::{
    Accounts, NewAccount, NewDevice, Secret,
    shared_secret::{Claim, SharedSecret},
};
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    ruma_json::{json_text, read_body},
};
use weft_room_api::Clock;
use weft_wire::limits::MAX_CLIENT_REQUEST_BYTES;

use super::{Ports, session::session_body};

/// The secret, if the operator configured one.
pub(super) struct SharedSecretPort(Option<SharedSecret>);

impl SharedSecretPort {
    pub(super) fn new(secret: String) -> Self {
        Self(SharedSecret::new(secret))
    }

    fn get(&self) -> ApiResult<&SharedSecret> {
        self.0.as_ref().ok_or_else(ApiError::unrecognized)
    }
}

pub(super) fn routes() -> Router<Ports> {
    Router::new().route("/_synapse/admin/v1/register", get(nonce).post(register))
}

/// GET /_synapse/admin/v1/register
async fn nonce(
    State(secret): State<Arc<SharedSecretPort>>,
    State(clock): State<Arc<dyn Clock>>,
) -> ApiResult<Json<Value>> {
    Ok(Json(json!({"nonce": secret.get()?.nonce(clock.now().get().into())})))
}

#[derive(Deserialize)]
struct Request {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    displayname: Option<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    user_type: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    mac: String,
}

/// POST /_synapse/admin/v1/register
async fn register(
    State(accounts): State<Accounts>,
    State(secret): State<Arc<SharedSecretPort>>,
    State(clock): State<Arc<dyn Clock>>,
    address: ClientAddress,
    body: Body,
) -> ApiResult<Json<Value>> {
    let secret = secret.get()?;
    let body = read_body(body, MAX_CLIENT_REQUEST_BYTES).await?;
    let request: Request = serde_json::from_slice(json_text(&Method::POST, &body)?)?;
    let claim = Claim {
        nonce: &request.nonce,
        username: &request.username,
        password: &request.password,
        admin: request.admin,
        user_type: request.user_type.as_deref(),
        mac: &request.mac,
    };
    check(&accounts, secret, (&claim, clock.now().get().into()), address)?;
    let account = NewAccount {
        username: request.username.to_lowercase(),
        password: Some(request.password),
        admin: request.admin,
        display_name: request.displayname,
    };
    let user = accounts.register_from(account, address.network()).await?;
    tracing::info!(%user, admin = request.admin, "account registered with the shared secret");
    if request.inhibit_login {
        return Ok(Json(json!({"user_id": user, "home_server": accounts.server_name()})));
    }
    let mut body = session_body(accounts.begin_session(&user, NewDevice::default()).await?);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("home_server".to_owned(), accounts.server_name().as_str().into());
    }
    Ok(Json(body))
}

/// Checks the MAC of a request, within the rate limit of the address.
fn check(
    accounts: &Accounts,
    secret: &SharedSecret,
    (claim, now_ms): (&Claim<'_>, u64),
    address: ClientAddress,
) -> ApiResult<()> {
    let mut outcome = Ok(());
    let proof = accounts.check_secret(Secret::Shared, address.network(), || {
        outcome = secret.check(claim, now_ms);
        outcome.is_ok()
    });
    match (outcome, proof) {
        (Err(error), _) => Err(ApiError::new(StatusCode::FORBIDDEN, "M_UNKNOWN", error.to_string())),
        (Ok(()), Err(error)) => Err(error.into()),
        (Ok(()), Ok(())) => Ok(()),
    }
}
