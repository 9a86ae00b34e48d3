//! Changing the password, and proving knowledge of it.

use axum::{Json, Router, extract::State};
use ruma::api::client::{account::change_password::v3, uiaa::AuthData};
use serde_json::{Value, json};
use weft_accounts::{ProofError, Session};
use weft_fanout::Fanout;
use weft_http::{
    authentication::Authenticated,
    client_address::ClientAddress,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};
use weft_room_api::Clock;

use super::{
    Ports,
    interactive::{Attempt, Interactive, Progress, Stage},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(change)
}

/// Ok if the caller has proved knowledge of the user's password for this operation. The operation names the objects that it
/// changes: a session that was started for one operation must not authorise another.
pub(super) async fn proved(
    ports: &Ports,
    caller: &Session,
    address: ClientAddress,
    (operation, auth): (&Value, Option<&AuthData>),
) -> ApiResult<()> {
    let auth = auth.map(serde_json::to_value).transpose()?;
    let interactive: &Interactive = &ports.interactive;
    let clock: &dyn Clock = &*ports.clock;
    let attempt = Attempt {
        auth: auth.as_ref(),
        purpose: &json!([caller.user_id, operation]).to_string(),
        flow: &[Stage::Password],
        network: address.network(),
        now_ms: clock.now().get().into(),
    };
    match interactive.begin(&attempt) {
        Progress::Needed(error) => Err(error),
        Progress::Check { session, stage } => {
            let right = knows_password(ports, caller, address, auth.as_ref()).await?;
            interactive.finish(&attempt, &session, stage, right)
        }
    }
}

async fn knows_password(
    ports: &Ports,
    caller: &Session,
    address: ClientAddress,
    auth: Option<&Value>,
) -> ApiResult<bool> {
    let Some(auth) = auth else { return Ok(false) };
    let accounts = &ports.accounts;
    let identified = auth
        .pointer("/identifier/user")
        .or_else(|| auth.get("user"))
        .and_then(Value::as_str);
    let same = identified.is_none_or(|name| accounts.user_id(name).is_ok_and(|id| id == caller.user_id));
    let password = auth.get("password").and_then(Value::as_str).unwrap_or_default();
    if !same {
        return Ok(false);
    }
    match accounts.prove_password(caller, password, address.network()).await {
        Ok(()) => Ok(true),
        Err(ProofError::Denied) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// POST /_matrix/client/v3/account/password
async fn change(
    State(ports): State<Ports>,
    caller: Authenticated,
    address: ClientAddress,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    weft_accounts::check_new_password(&request.new_password)?;
    let operation = json!(["password", request.logout_devices]);
    proved(&ports, &caller, address, (&operation, request.auth.as_ref())).await?;
    let (user, accounts) = (&caller.user_id, &ports.accounts);
    accounts
        .set_password(user, &request.new_password, address.network())
        .await?;
    if request.logout_devices {
        accounts.logout_all(user, Some(&caller.device_id)).await?;
        let fanout: &Fanout = &ports.fanout;
        fanout.sessions_changed(user, None);
    }
    Ok(Json(json!({})))
}
