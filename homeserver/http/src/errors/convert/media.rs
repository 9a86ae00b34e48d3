//! The errors of media.

use std::time::Duration;

use axum::http::StatusCode;
use weft_media::{BlobError, MediaError, RemoteError, ThumbnailError};

use crate::errors::ApiError;

/// When a request that waits for other servers may be repeated.
const BUSY: Duration = Duration::from_secs(5);

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let message = error.to_string();
        match error {
            MediaError::NotFound => Self::not_found("There is no such file."),
            MediaError::NotYetUploaded => not_yet_uploaded(),
            MediaError::OtherUser => Self::forbidden("The media id was created by another user."),
            MediaError::Overwrites => Self::new(
                StatusCode::CONFLICT,
                "M_CANNOT_OVERWRITE_MEDIA",
                "A file was uploaded under this media id before.",
            ),
            MediaError::TooLarge { limit } => Self::too_large(format!("A file may have at most {limit} bytes.")),
            MediaError::QuotaExceeded { .. } => Self::too_large(format!("The quota is exceeded: {message}.")),
            MediaError::TypeNotAllowed { .. } => Self::forbidden(format!("Not allowed: {message}.")),
            MediaError::TooManyWaiting { retry_after_ms } => {
                Self::limit_exceeded(Duration::from_millis(retry_after_ms))
            }
            MediaError::Overdue => Self::unavailable("Earlier work on the same file is not finished."),
            MediaError::Busy(exhausted) => exhausted.into(),
            MediaError::Thumbnail(error) => error.into(),
            MediaError::Remote(error) => error.into(),
            // It was removed from the cache in between.
            MediaError::Blobs(BlobError::Missing { .. }) => Self::not_found("There is no such file."),
            MediaError::Blobs(error) => Self::store("Files can't be stored or read now.", &error),
            MediaError::Incoming(error) => Self::store("Files can't be received now.", &error),
            MediaError::Read(error) => error.into(),
            MediaError::Commit(error) => error.into(),
        }
    }
}

impl From<ThumbnailError> for ApiError {
    fn from(error: ThumbnailError) -> Self {
        let not_possible = |message: &str| Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message);
        match error {
            ThumbnailError::NotAnImage => {
                not_possible("Thumbnails are made of PNG, JPEG, GIF and WebP images only. Download the file.")
            }
            ThumbnailError::Undecodable => not_possible("The image can't be decoded. Download the file."),
            ThumbnailError::TooLarge => Self::too_large("The image is too large for a thumbnail. Download the file."),
            ThumbnailError::Busy { retry_after } => Self::overloaded("All workers are in use.", retry_after),
            ThumbnailError::Unavailable => Self::unavailable("Thumbnails can't be made on this server now."),
        }
    }
}

impl From<RemoteError> for ApiError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::NotFound => Self::not_found("There is no such file."),
            RemoteError::NotYetUploaded => not_yet_uploaded(),
            RemoteError::Unreachable { server } => Self::unreachable(&server),
            RemoteError::Unusable => Self::bad_gateway("The other server did not return the file."),
            RemoteError::Busy => Self::limit_exceeded(BUSY),
        }
    }
}

fn not_yet_uploaded() -> ApiError {
    ApiError::new(
        StatusCode::GATEWAY_TIMEOUT,
        "M_NOT_YET_UPLOADED",
        "The file is not uploaded yet.",
    )
}
