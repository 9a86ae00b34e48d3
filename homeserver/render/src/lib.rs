//! Rendering and editing of documents in separate processes: requests and answers as data, the port [`Renderer`], the
//! frames between server and worker, and the pool of workers (`spec/docs/rendering.md`).
//!
//! A CRDT engine must not run in the server's process: hostile updates of a few dozen bytes corrupt its memory. The
//! engine is in `weft-render-worker`, which this crate must not depend on. Answers of a worker are input from outside.

mod change;
mod error;
mod figures;
mod office;
mod pool;
pub mod protocol;
mod renderer;
mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use change::{Attributes, Change, Place, PlaceError, Unit};
pub use error::{NotRendered, RenderError};
pub use figures::PoolFigures;
pub use office::{Direction, Office, OfficeError, PANDOC_MISSING, Pandoc};
pub use pool::{Pool, PoolConfig};
pub use renderer::Renderer;
pub use task::{
    AnchorRequest, Applied, ApplyRequest, Conflict, ConflictKind, DiffRequest, DiffRun, Difference, EditRequest,
    Edited, Format, ImageFormat, ImportRequest, Imported, LocateRequest, Located, LostContent, Path, Reduced,
    RenderRequest, Rendered, RestoreRequest, RunKind, Source, Target, TextHash, ThumbnailRequest,
};
