//! Why a request about media failed. Must not become an HTTP status here: `weft-http` does that.

use weft_budget::Exhausted;
use weft_store::{CommitError, ReadError};

use crate::{BlobError, RemoteError, ThumbnailError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// There is no such file.
    #[error("there is no such file")]
    NotFound,
    /// The id exists, and nothing was uploaded in the time that the caller waits.
    #[error("the file is not uploaded yet")]
    NotYetUploaded,
    /// Another user created the id.
    #[error("the media id was created by another user")]
    OtherUser,
    /// Something was uploaded under the id before.
    #[error("a file was uploaded under this media id before")]
    Overwrites,
    /// The file is larger than the server accepts.
    #[error("a file may have at most {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// The user's files, or those of all users, have reached their limit.
    #[error("{what} at most {limit}")]
    QuotaExceeded {
        /// What is limited.
        what: &'static str,
        /// The limit, bytes or files.
        limit: u64,
    },
    /// The operator does not allow files of this type.
    #[error("this server does not accept files of the type {content_type}")]
    TypeNotAllowed {
        /// The media type.
        content_type: String,
    },
    /// Too many ids wait for their upload.
    #[error("too many media ids wait for their upload")]
    TooManyWaiting {
        /// When the first of them expires, in milliseconds.
        retry_after_ms: u64,
    },
    /// Earlier work on the same file took too long.
    #[error("earlier work on the same file is not finished")]
    Overdue,
    /// Too many uploads or downloads are in progress.
    #[error(transparent)]
    Busy(#[from] Exhausted),
    /// A thumbnail can't be made.
    #[error(transparent)]
    Thumbnail(#[from] ThumbnailError),
    /// Another server did not return the file.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The media store failed.
    #[error("the media store failed: {0}")]
    Blobs(#[from] BlobError),
    /// The file that is being received can't be written.
    #[error("a file can't be written: {0}")]
    Incoming(#[from] std::io::Error),
    /// The store can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}
