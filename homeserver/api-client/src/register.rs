//! Self-registration of users.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::api::client::account::{
    check_registration_token_validity, get_username_availability,
    register::{RegistrationKind, v3},
};
use serde_json::{Map, Value, json};
use weft_accounts::{Accounts, NewAccount, NewDevice, ProofError, Secret, check_new_password};
use weft_http::{
    client_address::ClientAddress,
    errors::{ApiError, ApiResult},
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;

use super::{
    ClientSettings, Ports, Registration,
    interactive::{Attempt, Interactive, Progress, Stage},
    session::session_body,
};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<v3::Request, _, _>(register)
        .endpoint::<get_username_availability::v3::Request, _, _>(available)
        .endpoint::<check_registration_token_validity::v1::Request, _, _>(token_validity)
}

/// POST /_matrix/client/v3/register
async fn register(
    State(accounts): State<Accounts>,
    State(settings): State<Arc<ClientSettings>>,
    State(interactive): State<Arc<Interactive>>,
    State(clock): State<Arc<dyn Clock>>,
    address: ClientAddress,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    if request.kind != RegistrationKind::User {
        return Err(ApiError::forbidden(
            "Guests come by a share link: POST /_weft/client/v1/links/{secret}/guest.",
        ));
    }
    let flow = flow(&settings.registration)?;
    // The name is checked first, so that nobody completes the stages for a name that is not available.
    let username = request.username.clone().unwrap_or_else(random_name);
    let username = username.to_lowercase();
    accounts.check_available(&username).await?;
    let device = NewDevice {
        id: request.device_id,
        display_name: request.initial_device_display_name,
        refreshable: request.refresh_token,
    };
    device.check()?;
    let password = request.password;
    password.as_deref().map_or(Ok(()), check_new_password)?;

    let auth = request.auth.as_ref().map(serde_json::to_value).transpose()?;
    let attempt = Attempt {
        auth: auth.as_ref(),
        purpose: "register",
        flow,
        network: address.network(),
        now_ms: clock.now().get().into(),
    };
    match interactive.begin(&attempt) {
        Progress::Needed(error) => return Err(error),
        Progress::Check { session, stage } => {
            if password.is_none() {
                return Err(ApiError::missing_param("A password is required."));
            }
            let right = stage != Stage::RegistrationToken
                || token_is_right(&accounts, &settings, address, token_of(auth.as_ref()))?;
            interactive.finish(&attempt, &session, stage, right)?;
        }
    }
    let account = NewAccount {
        username,
        password,
        admin: false,
        display_name: None,
    };
    let user = accounts.register_from(account, address.network()).await?;
    tracing::info!(%user, "registered");
    if request.inhibit_login {
        return Ok(Json(json!({"user_id": user})));
    }
    Ok(Json(session_body(accounts.begin_session(&user, device).await?)))
}

fn flow(registration: &Registration) -> ApiResult<&'static [Stage]> {
    match registration {
        Registration::Closed => Err(ApiError::forbidden(
            "Registration is disabled. Ask the operator for an account.",
        )),
        Registration::Token(_) => Ok(&[Stage::RegistrationToken]),
        Registration::Open => Ok(&[Stage::Dummy]),
    }
}

fn token_of(auth: Option<&Value>) -> &str {
    let given = auth.and_then(|auth| auth.get("token")).and_then(Value::as_str);
    given.unwrap_or_default()
}

/// Whether it is one of the registration tokens.
///
/// # Errors
/// 429 after too many wrong tokens from this address.
fn token_is_right(
    accounts: &Accounts,
    settings: &ClientSettings,
    address: ClientAddress,
    given: &str,
) -> ApiResult<bool> {
    let Registration::Token(tokens) = &settings.registration else {
        return Ok(false);
    };
    let is_right = || tokens.iter().any(|token| same_secret(token, given));
    match accounts.check_secret(Secret::RegistrationToken, address.network(), is_right) {
        Ok(()) => Ok(true),
        Err(ProofError::Denied) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Constant-time comparison.
fn same_secret(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && differences == 0 && !a.is_empty()
}

fn random_name() -> String {
    format!("u{:016x}", rand::random::<u64>())
}

/// GET /_matrix/client/v3/register/available
async fn available(
    State(accounts): State<Accounts>,
    State(settings): State<Arc<ClientSettings>>,
    Ruma(request): Ruma<get_username_availability::v3::Request>,
) -> ApiResult<Json<Value>> {
    // If registration is closed, the existence of accounts must not be revealed.
    flow(&settings.registration)?;
    accounts.check_available(&request.username).await?;
    Ok(Json(json!({"available": true})))
}

/// GET /_matrix/client/v1/register/m.login.registration_token/validity
async fn token_validity(
    State(accounts): State<Accounts>,
    State(settings): State<Arc<ClientSettings>>,
    address: ClientAddress,
    Ruma(request): Ruma<check_registration_token_validity::v1::Request>,
) -> ApiResult<Json<Map<String, Value>>> {
    flow(&settings.registration)?;
    let valid = token_is_right(&accounts, &settings, address, &request.token)?;
    Ok(Json(Map::from_iter([("valid".to_owned(), valid.into())])))
}
