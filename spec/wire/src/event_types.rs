//! The names of Weft's own event types, room type and EDUs (`spec/docs/events.md`).
//!
//! Must not repeat types of the Matrix specification: ruma defines those.

/// `type` in the content of `m.room.create` of a document. Source: MSC1840, `spec/docs/events.md`.
pub const DOCUMENT_ROOM: &str = "dev.weft.document";
/// State event, state key empty: the kind of the document and its format. Content: [`crate::document::DocumentContent`].
pub const DOCUMENT: &str = "dev.weft.document";
/// Message event: an update of the document. Content: [`crate::update::UpdateContent`].
pub const UPDATE: &str = "dev.weft.update";
/// Message event: a name for the content at the event's ancestors. Content: [`crate::document::VersionContent`].
pub const VERSION: &str = "dev.weft.version";
/// Message event: a proposed update that is not part of the text. Content: [`crate::suggestion::SuggestionContent`].
pub const SUGGESTION: &str = "dev.weft.suggestion";
/// Message event: a comment is resolved or open again, a suggestion is accepted, rejected or withdrawn. Content:
/// [`crate::resolution::ResolutionContent`].
pub const RESOLUTION: &str = "dev.weft.resolution";
/// Message event: a server confirms all ancestors of the event. Content: [`crate::witness::WitnessContent`].
pub const WITNESS: &str = "dev.weft.witness";
/// State event, state key empty: whether the document is in the bin. Content: [`crate::document::BinContent`].
pub const BIN: &str = "dev.weft.bin";
/// State event, state key empty: whether the document is a template. Content: [`crate::document::TemplateContent`].
pub const TEMPLATE: &str = "dev.weft.template";
/// State event, state key empty: the request that created the document. Content: [`crate::document::RequestContent`].
pub const REQUEST: &str = "dev.weft.request";
/// State event, state key empty: the document of another server that was imported as this one. Content:
/// [`crate::archive::ImportedContent`].
pub const IMPORTED: &str = "dev.weft.imported";
/// State event, state key empty: no update is accepted until the lock is lifted. Content: [`crate::lock::LockContent`].
pub const LOCK: &str = "dev.weft.lock";
/// State event; the state key is the id of the [`LOCK`] that it lifts. The content is not read.
pub const UNLOCK: &str = "dev.weft.unlock";
/// State event, the state key is the sender: a user approves a text. Content: [`crate::lock::ApprovalContent`].
pub const APPROVAL: &str = "dev.weft.approval";
/// Field in the content of [`UPDATE`] and [`WITNESS`]: the updates that stand among rivals ([`crate::witness::stands`]).
pub const STANDS: &str = "dev.weft.stands";
/// Message events of a document that timelines omit unless the request's filter names the type.
pub const LEFT_OUT_OF_TIMELINES: [&str; 2] = [UPDATE, WITNESS];
/// EDU: the awareness state of one client (cursor, name, colour). Content: [`crate::awareness::AwarenessEdu`].
pub const AWARENESS_EDU: &str = "dev.weft.awareness";
/// Field in the content of a comment (`m.room.message`): what it is about ([`crate::anchor::Anchor`]).
pub const ANCHOR: &str = "dev.weft.anchor";
