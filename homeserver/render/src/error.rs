//! Why a document was not rendered or edited. Must not contain text of a document.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::PlaceError;

/// A failed request to a [`Renderer`](crate::Renderer).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// All workers are in use and the queue is full, or no worker became free in time.
    #[error("all render workers are in use")]
    Busy {
        /// When a new attempt may succeed.
        retry_after: Duration,
    },
    /// The worker did not answer in time. It was ended.
    #[error("the document was not rendered within {after:?}")]
    TimedOut {
        /// The deadline.
        after: Duration,
    },
    /// The engine can't render this document. Its events are kept, and it can be edited.
    #[error("the document can't be rendered: {reason}")]
    NotRendered {
        /// The cause.
        reason: NotRendered,
        /// Until then the document is not tried again. Zero: the next attempt is made at once.
        retry_after: Duration,
    },
    /// The input or the result exceeds a limit.
    #[error("{what} has {bytes} bytes; at most {limit} are rendered")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The image has too many pixels.
    #[error("the image has too many pixels")]
    ImageTooLarge,
    /// A change of an edit can't be made: the request is wrong.
    #[error("change {change}: {error}")]
    Refused {
        /// The index of the change in the list.
        change: usize,
        /// What is wrong with it.
        error: PlaceError,
    },
    /// No worker can be started.
    #[error("no render worker can be started: {reason}")]
    Unavailable {
        /// The cause, for the operator.
        reason: String,
    },
}

/// Why the engine can't render a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NotRendered {
    /// The state is not a Yjs v1 update that the engine accepts.
    #[error("the state is not a valid update")]
    Malformed,
    /// The state refers to blocks that it does not contain.
    #[error("the state is incomplete")]
    Incomplete,
    /// Types or values are nested too deeply.
    #[error("the content is nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// The engine panicked.
    #[error("the engine failed at {place}")]
    Panicked {
        /// File and line.
        place: String,
    },
    /// The worker died, twice: it was out of memory or processor time, or its memory was corrupted.
    #[error("the worker ended with {status}")]
    Died {
        /// Exit code or signal.
        status: String,
    },
    /// The worker sent an answer that is not one.
    #[error("the worker's answer is invalid")]
    InvalidAnswer,
}

impl NotRendered {
    /// Whether the engine reported this, in contrast to a worker that was lost.
    #[must_use]
    pub const fn is_diagnosed(&self) -> bool {
        matches!(self, Self::Malformed | Self::Incomplete | Self::TooDeep { .. })
    }
}
