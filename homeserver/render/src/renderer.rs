//! The port through which the server renders and edits documents. Must not expose processes.

use async_trait::async_trait;
use weft_wire::anchor::Anchor;

use crate::error::RenderError;
use crate::task::{
    AnchorRequest, Applied, ApplyRequest, DiffRequest, Difference, EditRequest, Edited, ImportRequest, Imported,
    LocateRequest, Located, RenderRequest, Rendered, RestoreRequest,
};

/// Renders and edits documents. `document` names the document (its room id): limits and pauses after failures are per
/// document. A suggestion needs a name of its own, so that a hostile one pauses only itself.
#[async_trait]
pub trait Renderer: Send + Sync + 'static {
    /// Renders a document.
    async fn render(&self, document: &str, request: RenderRequest) -> Result<Rendered, RenderError>;

    /// Turns changes into an update.
    async fn edit(&self, document: &str, request: EditRequest) -> Result<Edited, RenderError>;

    /// Compares two versions.
    async fn diff(&self, document: &str, request: DiffRequest) -> Result<Difference, RenderError>;

    /// Applies a suggestion to a copy of the document.
    async fn apply(&self, document: &str, request: ApplyRequest) -> Result<Applied, RenderError>;

    /// Makes the edit that restores an earlier version.
    async fn restore(&self, document: &str, request: RestoreRequest) -> Result<Edited, RenderError>;

    /// Makes an anchor of a place, with a quotation.
    async fn anchor(&self, document: &str, request: AnchorRequest) -> Result<Anchor, RenderError>;

    /// Finds the places of anchors, in their order.
    async fn locate(&self, document: &str, request: LocateRequest) -> Result<Vec<Located>, RenderError>;

    /// Makes the edit that appends foreign text.
    async fn import(&self, document: &str, request: ImportRequest) -> Result<Imported, RenderError>;
}
