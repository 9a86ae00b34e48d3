//! Cross-origin headers of the client APIs (Matrix specification, "Web browser clients").
//!
//! The server-server API gets none: no browser has business there.

use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use tower_http::cors::{Any, CorsLayer};

/// The headers that the specification asks for on every client route. Credentials are tokens in a header, never
/// cookies, so any origin may ask.
pub fn layer() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            HeaderName::from_static("x-requested-with"),
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_MATCH,
        ])
        .max_age(Duration::from_secs(86_400))
}
