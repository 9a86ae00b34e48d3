//! A document in a requested format, with its text hash.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use weft_render::protocol::Answer;
use weft_render::{Format, TextHash};
use weft_wire::document::DocumentKind;
use yrs::Transact as _;

use super::load::Loaded;
use super::{EngineError, Parts, canonical::canonical, html, markdown, normal, plain};

/// Renders a document.
pub(crate) fn render(kind: DocumentKind, format: Format, state: &[u8]) -> Result<(Answer, Parts), EngineError> {
    let loaded = Loaded::read(kind, state)?;
    let document = normal::document(&loaded.root, &loaded.doc.transact())?;
    let json = canonical(&document);
    let text_hash = TextHash(Sha256::digest(json.as_bytes()).into());
    let content = match format {
        Format::Json => json,
        Format::Text => plain::text(&document),
        Format::Markdown => markdown::markdown(&document),
        Format::Html => html::html(&document),
    };
    let parts = [Bytes::from(content), Bytes::new(), Bytes::new()];
    Ok((Answer::Rendered { text_hash }, parts))
}
