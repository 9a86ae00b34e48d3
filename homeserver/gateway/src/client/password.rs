//! Changing the password, and proving that one knows it.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    UserId,
    api::client::{account::change_password::v3, uiaa::AuthData},
};
use serde_json::{Value, json};
use weft_accounts::Accounts;
use weft_fanout::Fanout;
use weft_room::Clock;

use super::{
    Ports,
    interactive::{Attempt, Interactive, Progress, Stage},
};
use crate::{
    authentication::Authenticated,
    errors::ApiResult,
    ruma_json::{Ruma, RumaRoutes},
};

pub(super) fn routes() -> Router<Ports> {
    Router::new().endpoint::<v3::Request, _, _>(change)
}

/// Ok when the caller has proved, for this operation, that it knows the user's password.
pub(super) async fn proved(
    accounts: &Accounts,
    interactive: &Interactive,
    clock: &Arc<dyn Clock>,
    user: &UserId,
    (operation, auth): (&str, Option<&AuthData>),
) -> ApiResult<()> {
    let auth = auth.map(serde_json::to_value).transpose()?;
    let purpose = format!("{operation} {user}");
    let now_ms = clock.now().get().into();
    let attempt = Attempt {
        auth: auth.as_ref(),
        purpose: &purpose,
        flow: &[Stage::Password],
        now_ms,
    };
    match interactive.begin(&attempt) {
        Progress::Needed(error) => Err(error),
        Progress::Check { session, stage } => {
            let right = knows_password(accounts, user, auth.as_ref()).await?;
            interactive.finish(&attempt, &session, stage, right)
        }
    }
}

async fn knows_password(accounts: &Accounts, user: &UserId, auth: Option<&Value>) -> ApiResult<bool> {
    let Some(auth) = auth else { return Ok(false) };
    let identified = auth
        .pointer("/identifier/user")
        .or_else(|| auth.get("user"))
        .and_then(Value::as_str);
    let same = identified.is_none_or(|name| accounts.user_id(name).is_ok_and(|id| id == user));
    let password = auth.get("password").and_then(Value::as_str).unwrap_or_default();
    Ok(same && accounts.check_password(user, password).await?)
}

/// POST /_matrix/client/v3/account/password
async fn change(
    State(accounts): State<Accounts>,
    State(interactive): State<Arc<Interactive>>,
    State(clock): State<Arc<dyn Clock>>,
    State(fanout): State<Fanout>,
    caller: Authenticated,
    Ruma(request): Ruma<v3::Request>,
) -> ApiResult<Json<Value>> {
    let user = &caller.user_id;
    proved(
        &accounts,
        &interactive,
        &clock,
        user,
        ("password", request.auth.as_ref()),
    )
    .await?;
    accounts.set_password(user, &request.new_password).await?;
    if request.logout_devices {
        accounts.logout_all(user, Some(&caller.device_id)).await?;
        fanout.sessions_changed(user, None);
    }
    Ok(Json(json!({})))
}
