//! `mxc` URIs in texts: in JSON of events and rendered documents, in HTML and in Markdown.
//!
//! A URI is found by its form alone, so every URI that a client could follow is found, and some text that only looks like
//! one. Must not decide whether a file exists.

use std::borrow::Cow;

/// The scheme, with its slashes.
const SCHEME: &str = "mxc://";

/// The URIs in a text, in their order, with repetitions.
pub fn uris(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, uri, after) = next(rest)?;
        rest = after;
        Some(uri)
    })
}

/// The text with other addresses for its URIs. `address` returns `None` for a URI that stays.
pub fn replaced<'a>(text: &'a str, address: impl Fn(&str) -> Option<String>) -> Cow<'a, str> {
    let (mut out, mut rest, mut found) = (String::new(), text, false);
    while let Some((before, uri, after)) = next(rest) {
        found = true;
        out.push_str(before);
        match address(uri) {
            Some(address) => out.push_str(&address),
            None => out.push_str(uri),
        }
        rest = after;
    }
    if !found {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The server name and the media id of a URI.
#[must_use]
pub fn parts(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix(SCHEME)?.split_once('/')
}

/// The first URI, with the text before and after it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find(SCHEME)?;
        let after_scheme = start + SCHEME.len();
        let server = run(text.get(after_scheme..)?, |byte| {
            byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)
        });
        let slash = after_scheme + server;
        let id = match text.get(slash..)?.strip_prefix('/') {
            Some(rest) if server > 0 => run(rest, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
            _ => 0,
        };
        if id == 0 {
            from = after_scheme;
            continue;
        }
        let end = slash + 1 + id;
        return Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?));
    }
}

/// The length of the first bytes that are allowed.
fn run(text: &str, allowed: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| allowed(*byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_found_in_json_html_and_markdown() {
        for (text, expected) in [
            ("", vec![]),
            ("mxc://", vec![]),
            ("mxc:///a mxc://a mxc://a/", vec![]),
            (
                r#"{"src":"mxc://a.example:8448/Ab_-9"}"#,
                vec!["mxc://a.example:8448/Ab_-9"],
            ),
            (
                "<img src=\"mxc://a/1\"><img src=\"mxc://b/2#x\">",
                vec!["mxc://a/1", "mxc://b/2"],
            ),
            (
                "![é](<mxc://[::1]:80/x>)mxc://mxc://c/3",
                vec!["mxc://[::1]:80/x", "mxc://c/3"],
            ),
        ] {
            assert_eq!(uris(text).collect::<Vec<_>>(), expected, "{text}");
        }
        assert_eq!(parts("mxc://a:1/b"), Some(("a:1", "b")));
    }

    #[test]
    fn addresses_are_replaced_and_the_rest_stays() {
        let address = |uri: &str| (uri == "mxc://a/1").then(|| "x".to_owned());
        for (text, expected) in [
            ("none", "none"),
            ("mxc://a/1", "x"),
            ("é mxc://a/1 mxc://a/12 mxc://a/1é", "é x mxc://a/12 xé"),
        ] {
            assert_eq!(replaced(text, address), expected);
        }
    }
}
