//! `GET /documents/{id}?format=`: what a person sees of the document, as text, Markdown, HTML or JSON
//! (`spec/docs/rendering.md`).
//!
//! A render worker makes it, which may take long or fail for a hostile document. Must not run without limit: a request
//! counts as one for a whole text.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ruma::{RoomId, UserId};
use schemars::JsonSchema;
use serde::Deserialize;
use weft_http::{
    conditional::is_known,
    errors::{ApiError, ApiResult},
};
use weft_render::{Format, RenderRequest, Rendered};
use weft_wire::{rest::Document, schema};

use super::{
    DocumentPorts, Read,
    point::{self, PastContent, Point},
};

/// The query of `GET /documents/{id}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Query {
    /// The form; without it the answer describes the document.
    #[schemars(extend("enum" = ["text", "markdown", "html", "json"]))]
    format: Option<String>,
    /// A version, an event id or a time: the content at that point. The present content without it.
    #[schemars(with = "Option<schema::Point>")]
    at: Option<String>,
}

/// What is to be rendered.
pub(super) struct Wanted {
    format: Format,
    at: Option<Point>,
}

impl Query {
    /// The content that is asked for; `None` if the query asks for none.
    ///
    /// # Errors
    /// When a value is unknown, or `at` has no format.
    pub(super) fn wanted(&self) -> ApiResult<Option<Wanted>> {
        let Some(format) = &self.format else {
            return match &self.at {
                None => Ok(None),
                Some(_) => Err(ApiError::missing_param("The parameter at needs a format.")),
            };
        };
        let format = Format::from_name(format);
        let format = format.ok_or_else(|| ApiError::invalid_param("format is text, markdown, html or json."))?;
        let at = self.at.as_deref().map(Point::parse).transpose()?;
        Ok(Some(Wanted { format, at }))
    }
}

/// A text and its state hash, if that identifies it.
struct Source {
    state: Bytes,
    hash: Option<String>,
    /// The version of a content of the past.
    version: Option<u64>,
}

/// Answers with a document in the wanted form, or with 304 if the caller has it.
pub(super) async fn answer(
    ports: &DocumentPorts,
    user: &UserId,
    document: &Document,
    wanted: &Wanted,
    asked: &HeaderMap,
) -> ApiResult<Response> {
    let _permit = ports.content_reads.permit(user).await?;
    let source = source(ports, &document.doc_id, user, wanted).await?;
    let tag = source.hash.map(|hash| format!("W/\"{hash}.{}\"", wanted.format.name()));
    let mut answer = if tag.as_ref().is_some_and(|tag| is_known(asked, tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let answer = rendered(ports, document, source.state, wanted.format).await?;
        ports.access.note(user, &document.doc_id, Read::Rendered);
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    if let Some(version) = source.version {
        headers.insert("weft-version", HeaderValue::from(version));
    }
    Ok(answer)
}

async fn source(ports: &DocumentPorts, room: &RoomId, user: &UserId, wanted: &Wanted) -> ApiResult<Source> {
    if let Some(at) = &wanted.at {
        let PastContent { state, version } = point::content(ports, room, user, at).await?;
        let hash = None;
        return Ok(Source { state, hash, version });
    }
    let text = ports.rooms.current_text(room).await?;
    let hash = text.state_hash().map(|hash| URL_SAFE_NO_PAD.encode(hash.as_bytes()));
    Ok(Source {
        state: text.update(),
        hash,
        version: None,
    })
}

async fn rendered(ports: &DocumentPorts, document: &Document, state: Bytes, format: Format) -> ApiResult<Response> {
    let kind = document.kind;
    let request = RenderRequest { kind, state, format };
    let Rendered { content, text_hash } = ports.renderer.render(document.doc_id.as_str(), request).await?;
    let headers = [
        (header::CONTENT_TYPE, content_type(format)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Shown by itself in a browser, the content of a document runs nothing and loads nothing.
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ];
    let mut answer = (headers, content).into_response();
    if let Ok(hash) = HeaderValue::try_from(format!("{text_hash:?}")) {
        answer.headers_mut().insert("weft-text-hash", hash);
    }
    Ok(answer)
}

const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => "text/plain; charset=utf-8",
        Format::Markdown => "text/markdown; charset=utf-8",
        Format::Html => "text/html; charset=utf-8",
        Format::Json => "application/json",
    }
}
