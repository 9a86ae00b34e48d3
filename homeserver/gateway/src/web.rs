//! The page that the server serves at `/`, built into the binary.
//!
//! Files come from the embedded folder by exact name only; nothing is read from disk. Whatever looks like a page of the
//! app gets `index.html`; what looks like an API never does.

use axum::{
    Router,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::RustEmbed;

use crate::errors::ApiError;

#[derive(RustEmbed)]
#[folder = "../../client-sdk/web/dist"]
struct Files;

/// Scripts, styles and connections from this server alone. `wss:` and `ws:` are the live socket; inline styles are
/// what the editor sets on elements.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; font-src 'self'; connect-src 'self' ws: wss:; manifest-src 'self'; worker-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Serves the page for every path that no other router has taken.
pub fn router() -> Router {
    Router::new().route("/", get(index)).fallback(file)
}

async fn index() -> Response {
    serve("index.html")
}

async fn file(method: Method, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if !matches!(method, Method::GET | Method::HEAD) {
        // There is only something to read here: whoever meant an API meant one that isn't there.
        return ApiError::unrecognized().into_response();
    }
    if Files::get(path).is_some() {
        return serve(path);
    }
    let is_api = path.starts_with("_matrix") || path.starts_with("_weft") || path.starts_with("_synapse");
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    if is_api || is_file || path.starts_with(".well-known") {
        return ApiError::unrecognized().into_response();
    }
    serve("index.html")
}

fn serve(path: &str) -> Response {
    let Some(file) = Files::get(path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Files under assets/ carry a hash of their content in their names.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = file.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "webmanifest") => "application/json",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: Method, path: &str) -> Response {
        let request = Request::builder().method(method).uri(path);
        router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn get(path: &str) -> Response {
        ask(Method::GET, path).await
    }

    #[tokio::test]
    async fn an_unknown_api_is_unknown_by_every_method() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            for path in ["/_matrix/nope", "/_weft/nope", "/_matrix/federation/v1/user/keys/query"] {
                let response = ask(method.clone(), path).await;
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
                assert_eq!(
                    response.headers()[header::CONTENT_TYPE],
                    "application/json",
                    "{method} {path}"
                );
            }
        }
    }

    #[tokio::test]
    async fn pages_of_the_app_are_the_page() {
        for path in ["/", "/index.html", "/anything"] {
            let response = get(path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
            assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
    }

    #[tokio::test]
    async fn apis_and_missing_files_are_not() {
        for path in [
            "/_matrix/nope",
            "/_weft/nope",
            "/missing.js",
            "/../Cargo.toml",
            "/assets/..%2f..%2fx.rs",
        ] {
            assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
