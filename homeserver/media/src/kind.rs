//! The media type of a file: what is accepted from a client, and what is served. The bytes of the common image formats name
//! their type, so that nobody can upload well-known bytes under a misleading type first. Must not look into a file further
//! than its first bytes.

use weft_wire::limits::{MAX_MEDIA_NAME_BYTES, MAX_MEDIA_TYPE_BYTES};

/// The type of files without one.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Types that may be shown inside a page (Matrix specification, "Serving inline content").
const INLINE: &[&str] = &[
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// What a client or another server states about a file: untrusted, within limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The media type.
    pub content_type: String,
    /// The file name.
    pub name: Option<String>,
}

impl Declared {
    /// Takes what fits the limits: a media type that is not one becomes `application/octet-stream`, and a name loses what is
    /// before its last separator, and its control characters.
    #[must_use]
    pub fn new(content_type: Option<&str>, name: Option<&str>) -> Self {
        let content_type = content_type.map(str::trim).filter(|text| is_type(text));
        Self {
            content_type: content_type.unwrap_or(UNKNOWN_TYPE).to_owned(),
            name: name.and_then(file_name),
        }
    }
}

fn is_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let parameters = |rest: &str| rest.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    let (essence, rest) = text.split_once(';').unwrap_or((text, ""));
    text.len() <= MAX_MEDIA_TYPE_BYTES
        && parameters(rest)
        && essence
            .trim_end()
            .split_once('/')
            .is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

fn file_name(text: &str) -> Option<String> {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    // Besides control characters, those that change the direction of the text, which can hide an extension (T85).
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let mut name: String = last.chars().filter(|c| !hidden(*c)).collect();
    while name.len() > MAX_MEDIA_NAME_BYTES {
        name.pop();
    }
    let name = name.trim();
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// The essence of a media type, in lower case: without parameters.
pub(crate) fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Whether a file of this type may be shown inside a page.
#[must_use]
pub fn is_inline(content_type: &str) -> bool {
    INLINE.contains(&essence(content_type).as_str())
}

/// The image format that the first bytes name.
pub(crate) fn image_type(first: &[u8]) -> Option<&'static str> {
    match first {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The type with which a file is served. A type that claims one of the recognised image formats must have its bytes.
pub(crate) fn served_type(declared: &str, first: &[u8]) -> String {
    let recognised = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    match image_type(first) {
        // Animated PNG has the signature of PNG.
        Some("image/png") if essence(declared) == "image/apng" => "image/apng".to_owned(),
        Some(image) => image.to_owned(),
        None if recognised.contains(&essence(declared).as_str()) => UNKNOWN_TYPE.to_owned(),
        None => declared.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_not_media_types_become_unknown() {
        for good in [
            "image/png",
            "text/plain; charset=utf-8",
            "application/vnd.ms-excel",
            "image/svg+xml",
        ] {
            assert_eq!(Declared::new(Some(good), None).content_type, good);
        }
        let long = format!("a/{}", "b".repeat(200));
        for wrong in [
            "",
            "png",
            "/",
            "a/",
            "text/html\r\nX: y",
            "a/b; c=\u{7}",
            "a b/c",
            &long,
        ] {
            assert_eq!(Declared::new(Some(wrong), None).content_type, UNKNOWN_TYPE, "{wrong:?}");
        }
    }

    #[test]
    fn a_name_has_no_path_and_no_hidden_characters() {
        let name = |text: &str| Declared::new(None, Some(text)).name;
        assert_eq!(name("../../etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(name("C:\\x\\a.png").as_deref(), Some("a.png"));
        assert_eq!(name("a\u{202E}gnp.exe\r\n").as_deref(), Some("agnp.exe"));
        assert_eq!(name("été.png").as_deref(), Some("été.png"));
        for none in ["", " ", "..", "x/", "\u{7}"] {
            assert_eq!(name(none), None, "{none:?}");
        }
        assert!(name(&"é".repeat(200)).unwrap().len() <= MAX_MEDIA_NAME_BYTES);
    }

    /// T77: the stated type differs from the bytes.
    #[test]
    fn images_are_served_with_the_type_of_their_bytes() {
        let png = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', 0];
        assert_eq!(served_type("text/html", &png), "image/png");
        assert_eq!(served_type("image/apng", &png), "image/apng");
        assert_eq!(served_type("image/png", b"<svg onload=x>"), UNKNOWN_TYPE);
        assert_eq!(served_type("text/plain", b"hello"), "text/plain");
        assert!(is_inline("Image/PNG") && is_inline("text/plain; charset=utf-8"));
        for not in ["text/html", "image/svg+xml", "application/pdf", UNKNOWN_TYPE] {
            assert!(!is_inline(not), "{not}");
        }
    }
}
