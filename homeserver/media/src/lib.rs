//! Media: files that users upload, and the cache of other servers' files (`spec/docs/documents-api.md`, "Attachments").
//!
//! The bytes are in a media store ([`Blobs`]): a folder or an S3 bucket. The rows say what of it counts: bytes without a row
//! are removed by a job. An uploaded file is acknowledged when both are on disk. Must not decode a file: thumbnails are made
//! through the port [`Thumbnailer`], in a process of their own.

mod blobs;
mod cache;
#[cfg(feature = "testing")]
pub mod contract;
mod error;
mod files;
mod ids;
mod incoming;
mod jobs;
mod kind;
mod ledger;
mod locks;
mod names;
mod ports;
mod service;
#[cfg(feature = "testing")]
pub mod testing;
mod thumbnails;
mod unnamed;

pub use blobs::{Area, BlobError, BlobKey, BlobStream, Blobs, FolderBlobs, S3Blobs, S3Settings};
pub use error::MediaError;
pub use files::{OwnMedia, OwnMediaPage};
pub use ids::ContentId;
pub use incoming::Upload;
pub use kind::{Declared, is_inline};
pub use ports::{RemoteError, RemoteFile, RemoteMedia, Thumbnail, ThumbnailError, Thumbnailer};
pub use service::{Found, Media, MediaPorts, MediaSettings, Wait};
pub use thumbnails::{ThumbnailMethod, ThumbnailSize};
