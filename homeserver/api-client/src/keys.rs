//! End-to-end encryption keys: only enough for clients that request them to work.
//!
//! Weft's documents and chats are not end-to-end encrypted yet. Must not store keys: the reported key count is high, so
//! that clients stop uploading, and no user has device keys.

use axum::{
    Json, Router,
    routing::{get, post, put},
};
use serde_json::{Value, json};
use weft_http::authentication::Authenticated;

use super::Ports;

/// The reported number of one-time keys: as many as clients want.
pub(super) fn one_time_key_counts() -> Value {
    json!({"signed_curve25519": 50})
}

pub(super) fn routes() -> Router<Ports> {
    let mut router = Router::new();
    for prefix in ["/_matrix/client/v3", "/_matrix/client/r0"] {
        router = router
            .route(&format!("{prefix}/keys/upload"), post(upload))
            .route(&format!("{prefix}/keys/query"), post(query))
            .route(&format!("{prefix}/keys/claim"), post(claim))
            .route(&format!("{prefix}/keys/changes"), get(changes))
            .route(
                &format!("{prefix}/sendToDevice/{{event_type}}/{{txn_id}}"),
                put(send_to_device),
            );
    }
    router
}

/// POST /_matrix/client/v3/keys/upload
async fn upload(_caller: Authenticated) -> Json<Value> {
    Json(json!({"one_time_key_counts": one_time_key_counts()}))
}

/// POST /_matrix/client/v3/keys/query
async fn query(_caller: Authenticated) -> Json<Value> {
    Json(json!({"device_keys": {}, "failures": {}}))
}

/// POST /_matrix/client/v3/keys/claim
async fn claim(_caller: Authenticated) -> Json<Value> {
    Json(json!({"one_time_keys": {}, "failures": {}}))
}

/// GET /_matrix/client/v3/keys/changes
async fn changes(_caller: Authenticated) -> Json<Value> {
    Json(json!({"changed": [], "left": []}))
}

/// PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}
///
/// Without device keys there are no device messages to deliver; the request is accepted and its content dropped.
async fn send_to_device(_caller: Authenticated) -> Json<Value> {
    Json(json!({}))
}
