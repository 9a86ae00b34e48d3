//! What a worker does with a document: load, render, edit, compare (the only modules that use yrs); and with an image.
//!
//! Panics are expected and caught by the session. Recursion over a document has a limit of depth.

mod anchors;
mod canonical;
mod compare;
mod diff;
mod edit;
mod html;
mod import;
mod load;
mod markdown;
mod node;
mod normal;
mod plain;
mod render;
mod rewrite;
mod thumbnail;

use bytes::Bytes;
use weft_render::protocol::{Answer, Frame, PARTS, Task};
use weft_render::{NotRendered, PlaceError};

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// The document can't be rendered.
    NotRendered(NotRendered),
    /// A change can't be made.
    Refused { change: usize, error: PlaceError },
    /// The image has too many pixels.
    ImageTooLarge,
}

impl From<NotRendered> for EngineError {
    fn from(reason: NotRendered) -> Self {
        Self::NotRendered(reason)
    }
}

impl From<EngineError> for Answer {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NotRendered(reason) => Self::NotRendered { reason },
            EngineError::Refused { change, error } => Self::Refused { change, error },
            EngineError::ImageTooLarge => Self::ImageTooLarge,
        }
    }
}

type Parts = [Bytes; PARTS];

/// Computes the answer to a request.
pub(crate) fn perform(request: Frame<Task>) -> (Answer, Parts) {
    let Frame {
        header,
        parts: [first, second, third],
    } = request;
    let result = match header {
        Task::Render { kind, format } => render::render(kind, format, &first),
        Task::Edit {
            kind,
            changes,
            unit,
            client,
            clock,
        } => edit::edit(
            edit::Edit {
                kind,
                changes,
                unit,
                client,
                clock,
            },
            &first,
            &second,
        ),
        Task::Diff { kind } => diff::diff(kind, &first, &second),
        Task::Apply { kind, client, only } => rewrite::apply(kind, client, only.as_ref(), [&first, &second, &third]),
        Task::Thumbnail { width, height, crop } => thumbnail::thumbnail(&first, (width, height), crop),
        Task::Import { kind, source, client } => import::import(kind, source, client, &first, &second),
        Task::Restore { kind, client } => rewrite::restore(kind, client, &first, &second),
        Task::Anchor { kind, target, unit } => anchors::anchor(kind, &target, unit, &first),
        Task::Locate { kind, anchors, unit } => anchors::locate(kind, &anchors, unit, &first),
    };
    result.unwrap_or_else(|error| (error.into(), Parts::default()))
}
