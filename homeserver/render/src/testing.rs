//! A renderer without workers, for tests of servers. Must not render anything: tests of rendering start real workers.

use async_trait::async_trait;
use bytes::Bytes;
use weft_wire::anchor::Anchor;

use crate::error::RenderError;
use crate::office::{Direction, Office, OfficeError};
use crate::renderer::Renderer;
use crate::task::{
    AnchorRequest, Applied, ApplyRequest, DiffRequest, Difference, EditRequest, Edited, ImportRequest, Imported,
    LocateRequest, Located, RenderRequest, Rendered, RestoreRequest,
};

/// Refuses every request, as if no worker could be started.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRenderer;

fn refused<T>() -> Result<T, RenderError> {
    Err(RenderError::Unavailable {
        reason: "this server has no render workers".to_owned(),
    })
}

#[async_trait]
impl Renderer for NoRenderer {
    async fn render(&self, _: &str, _: RenderRequest) -> Result<Rendered, RenderError> {
        refused()
    }

    async fn edit(&self, _: &str, _: EditRequest) -> Result<Edited, RenderError> {
        refused()
    }

    async fn diff(&self, _: &str, _: DiffRequest) -> Result<Difference, RenderError> {
        refused()
    }

    async fn apply(&self, _: &str, _: ApplyRequest) -> Result<Applied, RenderError> {
        refused()
    }

    async fn restore(&self, _: &str, _: RestoreRequest) -> Result<Edited, RenderError> {
        refused()
    }

    async fn anchor(&self, _: &str, _: AnchorRequest) -> Result<Anchor, RenderError> {
        refused()
    }

    async fn locate(&self, _: &str, _: LocateRequest) -> Result<Vec<Located>, RenderError> {
        refused()
    }

    async fn import(&self, _: &str, _: ImportRequest) -> Result<Imported, RenderError> {
        refused()
    }
}

/// Has no converter of office documents.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOffice;

#[async_trait]
impl Office for NoOffice {
    async fn convert(&self, _: Direction, _: Bytes) -> Result<Bytes, OfficeError> {
        Err(OfficeError::NotInstalled)
    }
}
