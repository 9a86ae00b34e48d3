//! Push rules: the specification's defaults, the same for all users. Push notifications are not implemented yet.

use axum::{Json, Router};
use ruma::{
    UserId,
    api::client::push::{get_pushers, get_pushrules_all, get_pushrules_global_scope},
    push::Ruleset,
};
use serde_json::{Value, json};
use weft_http::{authentication::Authenticated, ruma_json::RumaRoutes};

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .endpoint::<get_pushrules_all::v3::Request, _, _>(all)
        .endpoint::<get_pushrules_global_scope::v3::Request, _, _>(global)
        .endpoint::<get_pushers::v3::Request, _, _>(pushers)
}

/// A user's push rules.
pub(super) fn of(user: &UserId) -> Ruleset {
    Ruleset::server_default(user)
}

/// Content of `m.push_rules`.
pub(super) fn default_rules(user: &UserId) -> Value {
    json!({"global": of(user)})
}

/// GET /_matrix/client/v3/pushrules/
async fn all(caller: Authenticated) -> Json<Value> {
    Json(default_rules(&caller.user_id))
}

/// GET /_matrix/client/v3/pushrules/global/
async fn global(caller: Authenticated) -> Json<Ruleset> {
    Json(of(&caller.user_id))
}

/// GET /_matrix/client/v3/pushers
async fn pushers(_caller: Authenticated) -> Json<Value> {
    Json(json!({"pushers": []}))
}
