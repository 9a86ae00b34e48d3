//! `/_weft/openapi.json`: the OpenAPI document of the document API. Must not describe a route itself: each has its description.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::LazyLock,
};

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use weft_http::{conditional::is_known, cors, errors::unknown_method, openapi, traffic::Uncharged};

const TITLE: &str = "Weft document API";
const ABOUT: &str = "Documents as Matrix rooms. `spec/docs/documents-api.md` defines the operations. Accounts, login, invitations and \
                     files are those of the Matrix client-server API. Fields and values may be added.";

/// The document; the same in every process of one version.
static SERVED: LazyLock<Served> = LazyLock::new(Served::make);

struct Served {
    text: Bytes,
    tag: HeaderValue,
}

impl Served {
    fn make() -> Self {
        let text = Bytes::from(document().to_string());
        let mut hash = DefaultHasher::new();
        text.hash(&mut hash);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hash.finish()));
        Self {
            text,
            tag: tag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> serde_json::Value {
    let mut routes = weft_api_documents::descriptions();
    routes.extend(weft_live::descriptions());
    openapi::document(TITLE, env!("CARGO_PKG_VERSION"), ABOUT, &routes)
}

/// The route.
pub fn router() -> Router {
    Router::new()
        .route("/_weft/openapi.json", get(show))
        .method_not_allowed_fallback(unknown_method)
        .layer(cors::layer())
}

async fn show(headers: HeaderMap) -> Response {
    let Served { text, tag } = &*SERVED;
    let mut answer = if tag.to_str().is_ok_and(|tag| is_known(&headers, tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        text.clone().into_response()
    };
    answer.extensions_mut().insert(Uncharged);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
