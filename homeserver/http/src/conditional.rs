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
