//! Errors of the store. Disk errors are 503: the request may succeed on another server, or on this one later.

use weft_store::{CommitError, ReadError};

use crate::errors::ApiError;

/// Unreadable data may be readable later, or from a backup.
pub(super) const UNREADABLE: &str = "The server cannot read its data at the moment.";
/// After a failed write no commit is accepted, so that nothing is acknowledged that isn't on disk.
pub(super) const UNWRITABLE: &str =
    "The server cannot write to its disk, which is full or broken. It accepts no changes until it is restarted.";

/// Another request changed the same rows first.
pub(super) const CONFLICT: &str = "A concurrent request changed the same data. Try again.";

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
            CommitError::Fence { .. } => Self::unavailable(CONFLICT),
            CommitError::LaneLost { .. } | CommitError::InDoubt { .. } => {
                Self::unavailable("The data is moving to another process of this server. Try again.")
            }
            CommitError::Poisoned { .. } => Self::store(UNWRITABLE, &error),
            CommitError::Closed => Self::store(UNREADABLE, &error),
            CommitError::Invalid { .. } => Self::internal("store", &error),
        }
    }
}
