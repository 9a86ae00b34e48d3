//! GET /_matrix/client/v3/sync

use axum::Router;

use super::Ports;

pub(super) fn routes() -> Router<Ports> {
    Router::new()
}
