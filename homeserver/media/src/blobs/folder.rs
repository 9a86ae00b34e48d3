//! The media store in a folder. A file is renamed into its place when its bytes are on disk, and acknowledged when the folder is
//! too. Must not follow a name out of its folder: [`BlobKey`] has none that leads there.

use std::{
    fs, io,
    io::SeekFrom,
    ops::Range,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream::try_unfold};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    task::spawn_blocking,
};
use weft_wire::limits::MEDIA_CHUNK_BYTES;

use super::{Area, BlobError, BlobKey, BlobStream, Blobs};

/// See the module.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    root: PathBuf,
}

impl FolderBlobs {
    /// The store in `root`, which is created. Files to be stored should be on the same file system.
    ///
    /// # Errors
    /// The folders can't be created.
    pub fn open(root: &Path) -> io::Result<Self> {
        for area in Area::ALL {
            fs::create_dir_all(root.join(area.name()))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(key.parts().iter().collect::<PathBuf>())
    }
}

/// Moves the file, or copies it from another file system, and makes folder and file durable.
fn store(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    if let Some(area) = folder.parent()
        && !folder.exists()
    {
        fs::create_dir_all(folder)?;
        fs::File::open(area)?.sync_all()?;
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let copy = tempfile::NamedTempFile::new_in(folder)?;
            fs::copy(from, copy.path())?;
            copy.as_file().sync_all()?;
            copy.persist(to).map_err(|error| error.error)?;
        }
        other => other?,
    }
    fs::File::open(folder)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn missing(error: io::Error, key: &BlobKey) -> BlobError {
    if error.kind() == io::ErrorKind::NotFound {
        BlobError::Missing { key: key.clone() }
    } else {
        error.into()
    }
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn put(&self, key: &BlobKey, from: &Path) -> Result<(), BlobError> {
        let (from, to) = (from.to_owned(), self.path(key));
        Ok(blocking(move || store(&from, &to)).await?)
    }

    async fn read(&self, key: &BlobKey, range: Range<u64>) -> Result<BlobStream, BlobError> {
        let mut file = File::open(self.path(key)).await.map_err(|error| missing(error, key))?;
        if range.start > range.end || range.end > file.metadata().await?.len() {
            return Err(BlobError::Range);
        }
        file.seek(SeekFrom::Start(range.start)).await?;
        let left = range.end.saturating_sub(range.start);
        let parts = try_unfold((file, left), |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let wanted = usize::try_from(left.min(MEDIA_CHUNK_BYTES)).unwrap_or(usize::MAX);
            let mut part = BytesMut::with_capacity(wanted);
            let read = (&mut file).take(wanted as u64).read_buf(&mut part).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((part.freeze(), (file, left.saturating_sub(read as u64)))))
        });
        Ok(parts.boxed())
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, BlobError> {
        match tokio::fs::metadata(self.path(key)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        match tokio::fs::remove_file(self.path(key)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
