//! The kind of a document, from its state. Must not read anything.

use weft_dag::StateView;
use weft_wire::{
    document::{DocumentContent, DocumentKind},
    event_types,
};

/// The kind that the state event `dev.weft.document` says; text where that is missing or not valid.
#[must_use]
pub fn kind_of(state: &StateView) -> DocumentKind {
    let content = state.get(event_types::DOCUMENT, "");
    let content = content.and_then(|pdu| pdu.content_as::<DocumentContent>().ok());
    content.map_or(DocumentKind::Text, |content| content.kind)
}
