//! placeholder
use super::ServeError;
use crate::config::{Area, Config};
use axum::Router;
pub(super) struct Parts;
impl Parts {
    pub(super) async fn start(config: &Config) -> Result<Self, ServeError> {
        let _ = (
            &config.registration.tokens,
            &config.registration.shared_secret,
            config.documents.seal_idle,
            config.documents.seal_max,
            config.limits.rate_limit,
            &config.federation.allow_addresses,
            &config.federation.notaries,
        );
        Ok(Self)
    }
    pub(super) fn area(&self, _: Area) -> Router {
        Router::new()
    }
    pub(super) fn close_live_sockets(&self) {}
    pub(super) async fn stop(self) {}
}
