//! Discovery: supported versions, capabilities and well-known files.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use ruma::api::client::discovery::get_capabilities;
use serde_json::{Value, json};
use weft_http::{
    authentication::Authenticated,
    errors::{ApiError, ApiResult},
    ruma_json::RumaRoutes,
};

use super::{ClientSettings, Ports};

pub(super) fn routes() -> Router<Ports> {
    Router::new()
        .route("/_matrix/client/versions", get(versions))
        .route("/.well-known/matrix/client", get(well_known_client))
        .route("/.well-known/matrix/server", get(well_known_server))
        .endpoint::<get_capabilities::v3::Request, _, _>(capabilities)
}

/// GET /_matrix/client/versions
async fn versions() -> Json<Value> {
    // Clients use the features of the newest version they support, so every version up to it must be listed.
    let mut versions = vec!["r0.6.1".to_owned()];
    versions.extend((1..=19).map(|minor| format!("v1.{minor}")));
    Json(json!({"versions": versions, "unstable_features": {}}))
}

/// GET /.well-known/matrix/client
async fn well_known_client(State(settings): State<Arc<ClientSettings>>) -> ApiResult<Json<Value>> {
    let base_url = settings
        .client_base_url
        .as_ref()
        .ok_or_else(|| ApiError::not_found("No client base URL is configured. Use the server name."))?;
    Ok(Json(json!({"m.homeserver": {"base_url": base_url}})))
}

/// GET /.well-known/matrix/server
async fn well_known_server(State(settings): State<Arc<ClientSettings>>) -> ApiResult<Json<Value>> {
    let address = settings
        .federation_address
        .as_ref()
        .ok_or_else(|| ApiError::not_found("No federation address is configured. Use the server name."))?;
    Ok(Json(json!({"m.server": address})))
}

/// GET /_matrix/client/v3/capabilities
async fn capabilities(_caller: Authenticated) -> Json<Value> {
    let available: serde_json::Map<String, Value> = (6..=12)
        .map(|version| (version.to_string(), Value::from("stable")))
        .collect();
    Json(json!({"capabilities": {
        "m.room_versions": {"default": "12", "available": available},
        "m.change_password": {"enabled": true},
        "m.set_displayname": {"enabled": true},
        "m.set_avatar_url": {"enabled": true},
        "m.profile_fields": {"enabled": true},
        "m.3pid_changes": {"enabled": false},
        "m.get_login_token": {"enabled": false},
        "m.account_moderation": {"suspend": false, "lock": false},
    }}))
}
