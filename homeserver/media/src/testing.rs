//! Media for the tests of other crates: a folder that removes itself, no thumbnails, no other servers. Must only be compiled for
//! tests.

use std::{io, ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use ruma::{ServerName, UserId};
use tempfile::TempDir;
use weft_clock::Clock;
use weft_store::Store;

use crate::{
    BlobError, BlobKey, BlobStream, Blobs, FolderBlobs, Media, MediaPorts, MediaSettings, RemoteError, RemoteFile,
    RemoteMedia, Thumbnail, ThumbnailError, ThumbnailSize, Thumbnailer,
};

/// A media store in a folder that is removed with it.
#[derive(Debug)]
pub struct TemporaryBlobs {
    blobs: FolderBlobs,
    folder: TempDir,
}

impl TemporaryBlobs {
    /// An empty store.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            blobs: FolderBlobs::open(&folder.path().join("media"))?,
            folder,
        })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[async_trait]
impl Blobs for TemporaryBlobs {
    async fn put(&self, key: &BlobKey, from: &Path) -> Result<(), BlobError> {
        self.blobs.put(key, from).await
    }

    async fn read(&self, key: &BlobKey, range: Range<u64>) -> Result<BlobStream, BlobError> {
        self.blobs.read(key, range).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        self.blobs.size(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        self.blobs.delete(key).await
    }
}

/// Makes no thumbnails.
#[derive(Debug)]
pub struct NoThumbnails;

#[async_trait]
impl Thumbnailer for NoThumbnails {
    async fn thumbnail(&self, _: &str, _: Bytes, _: ThumbnailSize) -> Result<Thumbnail, ThumbnailError> {
        Err(ThumbnailError::Unavailable)
    }
}

/// Reaches no other server.
#[derive(Debug)]
pub struct NoRemote;

#[async_trait]
impl RemoteMedia for NoRemote {
    async fn open(&self, _: &UserId, server: &ServerName, _: &str) -> Result<RemoteFile, RemoteError> {
        Err(RemoteError::Unreachable {
            server: server.to_owned(),
        })
    }
}

/// Media of a server in memory.
///
/// # Errors
/// The folder can't be created.
pub fn media(server_name: &ServerName, store: Store, clock: Arc<dyn Clock>) -> io::Result<Media> {
    let blobs = TemporaryBlobs::new()?;
    Media::open(MediaPorts {
        server_name: server_name.to_owned(),
        store,
        incoming: blobs.folder().join("incoming"),
        blobs: Arc::new(blobs),
        clock,
        thumbnails: Arc::new(NoThumbnails),
        remote: Arc::new(NoRemote),
        settings: MediaSettings::default(),
    })
}
