//! The names of Weft's own event types, room type and EDUs (`spec/docs/events.md`).
//!
//! Types that the Matrix specification defines are not repeated here: they are ruma's.

/// `type` in the content of `m.room.create` of a document. Source: MSC1840, `spec/docs/events.md`.
pub const DOCUMENT_ROOM: &str = "dev.weft.document";
/// State event, state key empty: what kind of document the room holds. Content: [`crate::document::DocumentContent`].
pub const DOCUMENT: &str = "dev.weft.document";
/// Message event: a piece of the document's text. Content: [`crate::update::UpdateContent`].
pub const UPDATE: &str = "dev.weft.update";
/// Message event: a name for the content at the event's ancestors. Content: [`crate::document::VersionContent`].
pub const VERSION: &str = "dev.weft.version";
/// Message event: a server confirms all that its event follows. Content: [`crate::witness::WitnessContent`].
pub const WITNESS: &str = "dev.weft.witness";
/// Field in the content of [`UPDATE`] and [`WITNESS`]: the updates that stand among rivals ([`crate::witness::stands`]).
pub const STANDS: &str = "dev.weft.stands";
/// Message events of a document that timelines leave out unless they are asked for by name.
pub const LEFT_OUT_OF_TIMELINES: [&str; 2] = [UPDATE, WITNESS];
/// EDU: where somebody's cursor is. Content: [`crate::awareness::AwarenessEdu`].
pub const AWARENESS_EDU: &str = "dev.weft.awareness";
/// Field in the content of a comment (`m.room.message`): the two relative positions that it is anchored to.
pub const ANCHOR: &str = "dev.weft.anchor";
