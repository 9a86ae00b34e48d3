//! The web page that the server serves at `/`, embedded in the binary in three forms: uncompressed, brotli and gzip.
//!
//! Files are found in the embedded folder by exact name only. Must not read from disk or compress at run time. The page keeps
//! its own location in the fragment (`#/d/...`), which is not sent to the server, so `/` is its only address and every path that
//! is not a file is unknown.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;

use weft_http::{conditional::is_known, errors::ApiError, traffic::Uncharged};

/// A file of the page.
struct File {
    path: &'static str,
    /// The ETag; changes with the content.
    tag: &'static str,
    identity: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

mod embedded {
    use super::File;

    include!(concat!(env!("OUT_DIR"), "/page.rs"));
}

const INDEX: &str = "index.html";

/// Scripts, styles and connections from this server only. `wss:` and `ws:` are for the live socket; the editor sets inline
/// styles on elements.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; font-src 'self'; connect-src 'self' ws: wss:; manifest-src 'self'; worker-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Whether the page existed when the program was built.
#[must_use]
pub fn has_page() -> bool {
    find(INDEX).is_some()
}

/// Serves the files of the page, and answers 404 for every path that no other router has.
pub fn router() -> Router {
    Router::new().route("/", get(index)).fallback(file)
}

async fn index(headers: HeaderMap) -> Response {
    find(INDEX).map_or_else(no_page, |file| serve(file, &headers))
}

async fn file(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if matches!(method, Method::GET | Method::HEAD)
        && let Some(file) = find(uri.path().trim_start_matches('/'))
    {
        return serve(file, &headers);
    }
    ApiError::unrecognized().into_response()
}

fn find(path: &str) -> Option<&'static File> {
    embedded::FILES.iter().find(|file| file.path == path)
}

fn no_page() -> Response {
    let note =
        "This server was built without its page. Use any Matrix client or editor, or build it with `make web build`.\n";
    (StatusCode::NOT_FOUND, note).into_response()
}

fn serve(file: &'static File, headers: &HeaderMap) -> Response {
    let (encoding, bytes) = choose(file, headers);
    let tag = format!("\"{}-{}\"", file.tag, encoding.unwrap_or("identity"));
    let mut response = if is_known(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Body::from(Bytes::from_static(bytes)).into_response()
    };
    response.extensions_mut().insert(Uncharged);
    // Names of files under assets/ contain a hash of their content.
    let caching = if file.path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The smallest form that the client accepts, and its encoding.
fn choose(file: &'static File, headers: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
    let forms = [("br", file.brotli), ("gzip", file.gzip)];
    forms
        .into_iter()
        .filter(|(name, _)| accepts(headers, name))
        .find_map(|(name, bytes)| bytes.map(|bytes| (Some(name), bytes)))
        .unwrap_or((None, file.identity))
}

/// Whether a client accepts an encoding (RFC 9110, section 12.5.3); a weight of zero excludes it.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let offers = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    offers.map(|offer| offer.split(';').map(str::trim)).any(|mut offer| {
        let named = offer.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let weight = offer.find_map(|parameter| parameter.strip_prefix("q=").map(str::parse::<f32>));
        named && weight.is_none_or(|weight| weight.is_ok_and(|weight| weight > 0.0))
    })
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
    async fn an_unknown_path_is_unknown_with_every_method() {
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
    async fn the_page_is_served_only_at_its_address() {
        for path in ["/", "/index.html"] {
            let response = get(path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
            assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
        for path in [
            "/anything",
            "/metrics",
            "/d/!room:example.org",
            "/_matrix/nope",
            "/_weft/nope",
            "/missing.js",
            "/../Cargo.toml",
            "/assets/..%2f..%2fx.rs",
        ] {
            assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    async fn ask_with(path: &str, name: header::HeaderName, value: &str) -> Response {
        let request = Request::get(path).header(name, value);
        router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn script() -> &'static File {
        let scripts = embedded::FILES
            .iter()
            .filter(|file| file.path.starts_with("assets/") && file.path.ends_with(".js"));
        scripts.max_by_key(|file| file.identity.len()).unwrap()
    }

    #[tokio::test]
    async fn files_are_compressed_for_clients_that_accept_it() {
        use std::io::Read as _;
        let script = script();
        let path = format!("/{}", script.path);
        for (accepted, encoding) in [
            ("gzip, deflate, br", Some("br")),
            ("gzip", Some("gzip")),
            ("br;q=0, GZIP;q=0.5", Some("gzip")),
            ("br; q=0", None),
            ("identity", None),
        ] {
            let response = ask_with(&path, header::ACCEPT_ENCODING, accepted).await;
            let headers = response.headers().clone();
            let found = headers
                .get(header::CONTENT_ENCODING)
                .map(|value| value.to_str().unwrap());
            assert_eq!(found, encoding, "{accepted}");
            assert_eq!(headers[header::VARY], "accept-encoding");
            assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
            let sent = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let mut whole = Vec::new();
            match encoding {
                Some("br") => brotli::Decompressor::new(&sent[..], 4096)
                    .read_to_end(&mut whole)
                    .unwrap(),
                Some(_) => flate2::read::GzDecoder::new(&sent[..]).read_to_end(&mut whole).unwrap(),
                None => (&sent[..]).read_to_end(&mut whole).unwrap(),
            };
            assert!(whole == script.identity, "{accepted}");
            assert!(encoding.is_none() || sent.len() * 2 < whole.len(), "{accepted}");
        }
    }

    #[tokio::test]
    async fn a_file_that_the_client_has_is_not_sent_again() {
        for path in ["/".to_owned(), format!("/{}", script().path)] {
            let first = ask_with(&path, header::ACCEPT_ENCODING, "br").await;
            let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
            let request = Request::get(&path).header(header::ACCEPT_ENCODING, "br");
            let request = request.header(header::IF_NONE_MATCH, format!("\"other\", W/{tag}"));
            let again = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
            let other = ask_with(&path, header::IF_NONE_MATCH, &tag).await;
            assert_eq!(other.status(), StatusCode::OK, "{path}: the ETag of another form");
        }
    }
}
