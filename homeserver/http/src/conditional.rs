//! Conditional requests (RFC 9110, section 13). Must not know what a tag stands for.

use axum::http::{HeaderMap, header};

/// Whether the client has the content with this ETag already: `If-None-Match`, by weak comparison (section 8.8.3.2).
#[must_use]
pub fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let tag = opaque(tag);
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    known.any(|known| known == "*" || opaque(known) == tag)
}

/// Whether the content with this ETag is the one that the client requires: `If-Match`, by weak comparison, because the ETags of
/// texts are weak. `None`: the client requires none. A tag of the same content in a format, with a dot and the format at the
/// end, is that of the content.
#[must_use]
pub fn is_required(headers: &HeaderMap, tag: Option<&str>) -> Option<bool> {
    let values = headers.get_all(header::IF_MATCH).iter();
    let mut required = values
        .map(|value| value.to_str().unwrap_or_default())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    required.peek()?;
    Some(required.any(|required| {
        let is_it = |tag: &str| opaque(required) == opaque(tag) || content(required) == Some(content_of(tag));
        required == "*" || tag.is_some_and(is_it)
    }))
}

/// The tag in quotes, without the format.
fn content(tag: &str) -> Option<&str> {
    let quoted = opaque(tag).strip_prefix('"')?.strip_suffix('"')?;
    quoted.rsplit_once('.').map(|(content, _)| content)
}

fn content_of(tag: &str) -> &str {
    opaque(tag).trim_matches('"')
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asks(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_required_tag_is_compared_weakly_and_without_its_format() {
        let requires = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::IF_MATCH, HeaderValue::from_static(value));
            }
            is_required(&headers, Some("W/\"a\""))
        };
        assert_eq!(requires(&[]), None);
        for values in [
            &["W/\"a\""][..],
            &["\"a\""],
            &["\"b\", W/\"a.text\""],
            &["\"b\"", "\"a\""],
            &["*"],
        ] {
            assert_eq!(requires(values), Some(true), "{values:?}");
        }
        for values in [&["\"b\""][..], &["a"], &["\"a.b.c\""], &["W/\"b.a\""], &[""]] {
            assert_eq!(requires(values), Some(false), "{values:?}");
        }
        let mut any = HeaderMap::new();
        any.insert(header::IF_MATCH, HeaderValue::from_static("\"a\""));
        assert_eq!(is_required(&any, None), Some(false), "a text without a tag");
    }

    #[test]
    fn a_tag_is_known_in_any_place_weak_or_not() {
        for values in [
            &["\"a\""][..],
            &["W/\"a\""],
            &["\"b\", W/\"a\""],
            &["\"b\"", "\"a\""],
            &["*"],
        ] {
            assert!(is_known(&asks(values), "\"a\""), "{values:?}");
            assert!(is_known(&asks(values), "W/\"a\""), "{values:?}");
        }
        for values in [&[][..], &["\"b\""], &["a"], &["\"A\""], &["W/W/\"a\""]] {
            assert!(!is_known(&asks(values), "W/\"a\""), "{values:?}");
        }
    }
}
