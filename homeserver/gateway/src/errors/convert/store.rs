//! Failures of the store. Those of the disk are 503: another server, or this one later, can give the answer.

use weft_store::{CommitError, ReadError};

use crate::errors::ApiError;

/// What can't be read may be readable later, or from a backup.
const UNREADABLE: &str = "The server can't read its data at the moment.";
/// After a failed write nothing is taken, so that nothing is acknowledged that isn't on disk.
const UNWRITABLE: &str =
    "The server can't write to its disk, which is full or broken, and takes nothing until it is started again.";

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Engine { .. } | ReadError::Closed => Self::store(UNREADABLE, &error),
            ReadError::Corrupt { .. } | ReadError::NoScope { .. } => Self::internal("store", &error),
        }
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Fence { .. } => Self::unavailable("Others changed the same at that moment: try again."),
            CommitError::Poisoned { .. } => Self::store(UNWRITABLE, &error),
            CommitError::Closed => Self::store(UNREADABLE, &error),
            CommitError::Invalid { .. } => Self::internal("store", &error),
        }
    }
}
