//! `/_weft/docs`: a page to read and try the document API, of three files in the program. It reads `/_weft/openapi.json` and
//! knows no operation itself. It must not load anything from another server, and must not store a token.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use weft_http::errors::unknown_method;

/// Nothing but the two other files, and requests to this server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files.
pub fn router() -> Router {
    let page = || file("text/html; charset=utf-8", include_str!("../page/docs.html"));
    let style = || file("text/css; charset=utf-8", include_str!("../page/docs.css"));
    let script = || file("text/javascript; charset=utf-8", include_str!("../page/docs.js"));
    Router::new()
        .route("/_weft/docs", get(async move || page()))
        .route("/_weft/docs.css", get(async move || style()))
        .route("/_weft/docs.js", get(async move || script()))
        .method_not_allowed_fallback(unknown_method)
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text)
}
