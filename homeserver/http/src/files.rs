//! A stored file as an answer: the headers that keep a hostile file harmless in a browser, ranges, and conditional requests
//! (Matrix specification, "Content repository"; RFC 9110, sections 13 and 14). Must not decide who may have the file.

use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use http_range_header::parse_range_header;
use ruma::http_headers::{ContentDisposition, ContentDispositionType};
use weft_media::{BlobStream, Found, Media, is_inline};
use weft_wire::limits::MEDIA_READ_BYTES;

use crate::{
    conditional,
    errors::{ApiError, ApiResult},
    traffic::Requester,
};

/// The policy that the Matrix specification recommends: nothing in a file runs or loads anything.
const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; \
     object-src 'self';",
);
/// A file never changes under its id. Only the caller's own cache may keep it, because others need a token.
const CACHING: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// The part of a file that is requested.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Of(Range<u64>),
    /// No byte of the file is in the range.
    Nothing,
}

/// Answers with a file, or a part of it. `name` replaces the name that it was uploaded with.
///
/// # Errors
/// 416 if the range is not within the file, 429 if the requester holds too much; or the media store failed.
pub async fn answer(
    media: &Media,
    file: &Found,
    name: Option<String>,
    headers: &HeaderMap,
    requester: &Requester,
) -> ApiResult<Response> {
    let tag = format!("\"{}\"", file.tag);
    if conditional::is_known(headers, &tag) {
        let mut answer = StatusCode::NOT_MODIFIED.into_response();
        describe(answer.headers_mut(), file, name, &tag);
        return Ok(answer);
    }
    let (status, range) = match part(headers, file.size, &tag) {
        Part::Whole => (StatusCode::OK, 0..file.size),
        Part::Of(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Nothing => return Ok(not_satisfiable(file.size)),
    };
    let bytes = content(media, file, range.clone(), requester).await?;
    let mut answer = (status, Body::from_stream(bytes)).into_response();
    let headers = answer.headers_mut();
    describe(headers, file, name, &tag);
    let length = range.end.saturating_sub(range.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let last = range.end.saturating_sub(1);
        set(
            headers,
            header::CONTENT_RANGE,
            &format!("bytes {}-{last}/{}", range.start, file.size),
        );
    }
    Ok(answer)
}

/// The bytes of a part of a file, whose memory is charged to the requester until they are sent.
///
/// # Errors
/// 429 if the requester holds too much; or the media store failed.
pub async fn content(media: &Media, file: &Found, range: Range<u64>, requester: &Requester) -> ApiResult<BlobStream> {
    let length = range.end.saturating_sub(range.start);
    let held = requester.hold(length.min(MEDIA_READ_BYTES))?;
    let bytes = media.read(file, range).await?;
    Ok(bytes
        .map(move |part| {
            let _held = &held;
            part
        })
        .boxed())
}

/// How a browser shows a file of this type: inside the page only if nothing in it can run.
#[must_use]
pub fn disposition(content_type: &str, name: Option<String>) -> ContentDisposition {
    let kind = if is_inline(content_type) {
        ContentDispositionType::Inline
    } else {
        ContentDispositionType::Attachment
    };
    ContentDisposition::new(kind).with_filename(name)
}

fn describe(headers: &mut HeaderMap, file: &Found, name: Option<String>, tag: &str) {
    set(headers, header::CONTENT_TYPE, &file.content_type);
    let disposition = disposition(&file.content_type, name.or_else(|| file.name.clone()));
    set(headers, header::CONTENT_DISPOSITION, &disposition.to_string());
    set(headers, header::ETAG, tag);
    for (name, value) in [
        (header::CACHE_CONTROL, CACHING),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        ),
    ] {
        headers.insert(name, value);
    }
}

/// Names and types are checked when they are stored; a value that is no header all the same is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Several ranges, and ranges that can't be parsed, get the whole file, as the standard allows.
fn part(headers: &HeaderMap, size: u64, tag: &str) -> Part {
    let Some(asked) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Part::Whole;
    };
    // The client has a part of another file.
    if headers.get(header::IF_RANGE).is_some_and(|known| known != tag) {
        return Part::Whole;
    }
    let Ok(ranges) = parse_range_header(asked) else {
        return Part::Whole;
    };
    match ranges.validate(size).as_deref() {
        Ok([range]) => Part::Of(*range.start()..range.end().saturating_add(1)),
        Ok(_) => Part::Whole,
        Err(_) => Part::Nothing,
    }
}

fn not_satisfiable(size: u64) -> Response {
    let error = ApiError::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "M_INVALID_PARAM",
        "The range is not within the file.",
    );
    let mut answer = error.into_response();
    set(answer.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, if_range: Option<&str>, size: u64) -> Part {
        let mut headers = HeaderMap::new();
        set(&mut headers, header::RANGE, range);
        if let Some(known) = if_range {
            set(&mut headers, header::IF_RANGE, known);
        }
        part(&headers, size, "\"a\"")
    }

    #[test]
    fn one_range_is_a_part_and_others_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Part::Of(0..1)),
            ("bytes=2-", Part::Of(2..10)),
            ("bytes=-3", Part::Of(7..10)),
            ("bytes=5-999", Part::Of(5..10)),
            ("bytes=0-9", Part::Of(0..10)),
            ("bytes=10-", Part::Nothing),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=x", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(asked(range, None, 10), expected, "{range}");
        }
        assert_eq!(asked("bytes=0-", None, 0), Part::Nothing);
        assert_eq!(asked("bytes=0-0", Some("\"a\""), 10), Part::Of(0..1));
        assert_eq!(asked("bytes=0-0", Some("\"b\""), 10), Part::Whole);
    }

    #[test]
    fn only_harmless_types_are_shown_inside_a_page() {
        let shown = |kind: &str, name: &str| disposition(kind, Some(name.to_owned())).to_string();
        assert_eq!(shown("image/png", "a.png"), "inline; filename=a.png");
        assert_eq!(shown("image/svg+xml", "a b.svg"), "attachment; filename=\"a b.svg\"");
        assert_eq!(shown("text/html", "é.html"), "attachment; filename*=utf-8''%C3%A9.html");
    }
}
