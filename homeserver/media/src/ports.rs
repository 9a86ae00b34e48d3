//! What media needs of other parts: thumbnails, and the files of other servers. Must not name a process or a protocol.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{OwnedServerName, ServerName, UserId};

use crate::{BlobStream, thumbnails::ThumbnailSize};

/// An image of reduced size.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its media type.
    pub content_type: &'static str,
}

/// Why there is no thumbnail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThumbnailError {
    /// The file is not an image of a format that is decoded.
    #[error("thumbnails are made of PNG, JPEG, GIF and WebP images only")]
    NotAnImage,
    /// The image has too many bytes or pixels.
    #[error("the image is too large for a thumbnail")]
    TooLarge,
    /// The image can't be decoded, or not within the limits of time and memory.
    #[error("the image can't be decoded")]
    Undecodable,
    /// All workers are in use.
    #[error("all workers are in use")]
    Busy {
        /// When a new attempt may succeed.
        retry_after: Duration,
    },
    /// No worker can be started; the cause is logged.
    #[error("thumbnails can't be made now")]
    Unavailable,
}

/// Makes thumbnails, isolated from the server: images are hostile input.
#[async_trait]
pub trait Thumbnailer: Send + Sync + 'static {
    /// A thumbnail of an image. `name` names the image for pauses after failures.
    async fn thumbnail(&self, name: &str, image: Bytes, size: ThumbnailSize) -> Result<Thumbnail, ThumbnailError>;
}

/// A file of another server that is being received.
pub struct RemoteFile {
    /// The media type that the server states.
    pub content_type: Option<String>,
    /// The file name that it states.
    pub name: Option<String>,
    /// The bytes. An error ends it.
    pub body: BlobStream,
}

/// Why another server did not return a file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// It has no such file.
    #[error("the server has no such file")]
    NotFound,
    /// The file is not uploaded yet.
    #[error("the file is not uploaded yet")]
    NotYetUploaded,
    /// It could not be found or reached, or did not answer in time.
    #[error("the server {server} could not be reached")]
    Unreachable {
        /// The server.
        server: OwnedServerName,
    },
    /// Its answer can't be used.
    #[error("the server gave no usable answer")]
    Unusable,
    /// Too many requests to other servers are in flight.
    #[error("too many requests to other servers are in flight")]
    Busy,
}

/// The files of other servers.
#[async_trait]
pub trait RemoteMedia: Send + Sync + 'static {
    /// Requests a file from its server, on behalf of `user`. `id` is a valid media id. The body has its own deadlines.
    async fn open(&self, user: &UserId, server: &ServerName, id: &str) -> Result<RemoteFile, RemoteError>;
}
