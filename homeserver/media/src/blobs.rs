//! The seam of the media stores: whole files under short names, written once. Must not know what a file is.

mod folder;
mod s3;

use std::{fmt, io, ops::Range, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use folder::FolderBlobs;
pub use s3::{S3Blobs, S3Settings};

/// The bytes of a file, in order. An error ends it.
pub type BlobStream = BoxStream<'static, io::Result<Bytes>>;

/// The kind of a stored file, which is the first part of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// Uploaded by users of this server.
    Content,
    /// Of other servers.
    Cache,
    /// Made of one of the others.
    Thumbnail,
}

impl Area {
    /// All areas.
    pub const ALL: [Self; 3] = [Self::Content, Self::Cache, Self::Thumbnail];

    /// The name in keys and paths. Must not change: stored files have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Cache => "cache",
            Self::Thumbnail => "thumbnail",
        }
    }
}

/// The name of a stored file. It consists of letters, digits, `-`, `_` and `.`, so it is never a path outside of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey {
    area: Area,
    name: String,
}

impl BlobKey {
    /// A name. Other characters than those above are replaced by `_`: names are made of hashes.
    #[must_use]
    pub fn new(area: Area, name: &str) -> Self {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        Self { area, name }
    }

    /// The area.
    #[must_use]
    pub const fn area(&self) -> Area {
        self.area
    }

    /// The name within the area.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Area, the first two characters of the name, and the name: folders with millions of files are slow.
    pub(crate) fn parts(&self) -> [&str; 3] {
        let first = self.name.get(..2).unwrap_or("__");
        let first = if first.contains('.') { "__" } else { first };
        [self.area.name(), first, &self.name]
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [area, first, name] = self.parts();
        write!(out, "{area}/{first}/{name}")
    }
}

/// Why a media store failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no file with this name.
    #[error("there is no file {key}")]
    Missing {
        /// The name.
        key: BlobKey,
    },
    /// The range is not within the file.
    #[error("the range is not within the file")]
    Range,
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The object store failed.
    #[error("the object store: {0}")]
    ObjectStore(#[from] object_store::Error),
}

/// A media store. A file is written as a whole, under a new name or with the bytes that it has already.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores a file that is complete and synced at `from`, and may move it. When this returns, the file is durable. A file
    /// of this name is replaced.
    async fn put(&self, key: &BlobKey, from: &Path) -> Result<(), BlobError>;

    /// Reads a part of a file. Nothing more of it is in memory than the part that the reader has not taken yet
    /// (`MEDIA_READ_BYTES` at most).
    async fn read(&self, key: &BlobKey, range: Range<u64>) -> Result<BlobStream, BlobError>;

    /// The size of a file; `None`: there is none.
    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError>;

    /// Removes a file, if it exists.
    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T82.
    #[test]
    fn a_name_stays_within_its_area() {
        for name in ["../../x", "..", "a/b", "\0", "", "é/..", "%2e%2e/"] {
            let key = BlobKey::new(Area::Content, name);
            let path = key.to_string();
            let parts: Vec<&str> = path.split('/').collect();
            assert_eq!(parts.len(), 3, "{path}");
            assert_eq!(parts.first(), Some(&"content"));
            assert_ne!(parts.get(1), Some(&".."), "{path}");
        }
        assert_eq!(BlobKey::new(Area::Cache, "abcd").to_string(), "cache/ab/abcd");
    }
}
