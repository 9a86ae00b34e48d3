//! Files that are being received: written to a temporary file and hashed, so that their name is known when they are complete.
//! A file whose transfer ends early is removed with the value, and those of an earlier run at the start. Must not hold more
//! of a file in memory than what arrives at once.

use std::{fs, io, path::Path, path::PathBuf};

use ruma::OwnedUserId;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::{fs::File, io::AsyncWriteExt as _, task::spawn_blocking};
use weft_budget::KeyedShare;

use crate::{ContentId, Declared, Media, MediaError};

/// First bytes of a file that are kept, to recognise its format.
const FIRST_BYTES: usize = 16;

/// The folder of temporary files.
#[derive(Debug, Clone)]
pub(crate) struct Incoming(PathBuf);

impl Incoming {
    /// Creates the folder, and removes what an earlier run left in it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self(folder.to_owned()))
    }

    /// A new file of at most `limit` bytes.
    pub(crate) async fn create(&self, limit: u64) -> Result<Spool, MediaError> {
        let folder = self.0.clone();
        let made = spawn_blocking(move || tempfile::NamedTempFile::new_in(folder));
        let (file, path) = made.await.map_err(io::Error::other)??.into_parts();
        Ok(Spool {
            file: File::from_std(file),
            path,
            hash: Sha256::new(),
            size: 0,
            first: Vec::with_capacity(FIRST_BYTES),
            limit,
        })
    }
}

/// A file that is being received.
pub(crate) struct Spool {
    file: File,
    path: TempPath,
    hash: Sha256,
    size: u64,
    first: Vec<u8>,
    limit: u64,
}

/// A file that is complete and on disk.
pub(crate) struct Complete {
    pub(crate) path: TempPath,
    pub(crate) id: ContentId,
    pub(crate) size: u64,
    pub(crate) first: Vec<u8>,
}

impl Spool {
    /// Appends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.limit {
            return Err(MediaError::TooLarge { limit: self.limit });
        }
        self.size = size;
        let wanted = FIRST_BYTES.saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(wanted));
        self.hash.update(bytes);
        Ok(self.file.write_all(bytes).await?)
    }

    /// Ends the file.
    pub(crate) async fn finish(mut self) -> Result<Complete, MediaError> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(Complete {
            path: self.path,
            id: ContentId::of(self.hash.finalize().into()),
            size: self.size,
            first: self.first,
        })
    }
}

/// An upload of a user. If it is dropped before [`Upload::finish`], nothing is left of it.
pub struct Upload {
    pub(crate) media: Media,
    pub(crate) user: OwnedUserId,
    pub(crate) declared: Declared,
    /// The media id that was created for it.
    pub(crate) waiting_id: Option<String>,
    pub(crate) spool: Spool,
    pub(crate) _share: KeyedShare<OwnedUserId>,
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    /// The file becomes too large, or can't be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        self.spool.write(bytes).await
    }

    /// Ends the upload: when this returns, the file is durable and counted. Returns its id.
    ///
    /// # Errors
    /// A quota is exceeded, or a store failed; then nothing counts.
    pub async fn finish(self) -> Result<ContentId, MediaError> {
        let Self {
            media,
            user,
            declared,
            waiting_id,
            spool,
            _share,
        } = self;
        let complete = spool.finish().await?;
        media.keep(&user, complete, declared, waiting_id).await
    }
}
