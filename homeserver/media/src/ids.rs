//! Media ids. The id of an uploaded file is the SHA-256 of its content, so an `mxc` URI always names the same bytes. An id that
//! was created before its upload is random and shorter. Must not accept an id that could be a path.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use weft_wire::limits::MAX_MEDIA_ID_BYTES;

/// Characters of a SHA-256 in base64 without padding.
const CONTENT_ID_CHARACTERS: usize = 43;
/// Random bytes of an id that is created before its upload: it can't be guessed, and is shorter than a content id.
const WAITING_ID_BYTES: usize = 18;

/// The id of a file: the SHA-256 of its content in URL-safe base64 without padding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(String);

impl ContentId {
    /// The id of content with this hash.
    #[must_use]
    pub fn of(hash: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(hash))
    }

    /// The id in this text. `None`: it is not a content id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != CONTENT_ID_CHARACTERS {
            return None;
        }
        let hash = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self::of(hash.try_into().ok()?)).filter(|id| id.0 == text)
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ContentId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// A new id for a file that is still to be uploaded.
pub(crate) fn waiting_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; WAITING_ID_BYTES]>())
}

/// Whether a text is a media id (Matrix specification: letters, digits, `_` and `-`).
pub(crate) fn is_media_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_MEDIA_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_id_has_one_spelling() {
        let id = ContentId::of([0xFB; 32]);
        assert_eq!(ContentId::parse(id.as_str()), Some(id.clone()));
        let mut other = id.as_str().to_owned();
        // The last character has two unused bits.
        other.pop();
        other.push('9');
        for wrong in ["", "abc", &other, &id.as_str().replace('-', "+"), &"A".repeat(44)] {
            assert_eq!(ContentId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(ContentId::parse(&waiting_id()), None);
    }

    /// T82.
    #[test]
    fn an_id_is_never_a_path() {
        for wrong in ["", "..", "a/b", "../../x", "a\0", "%2e", "a.b", "é", &"a".repeat(256)] {
            assert!(!is_media_id(wrong), "{wrong:?}");
        }
        assert!(is_media_id("Ab_-9") && is_media_id(&"a".repeat(255)) && is_media_id(&waiting_id()));
    }
}
