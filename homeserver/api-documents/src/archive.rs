//! Reads zip archives: those of documents (`spec/docs/archive.md`), and office files, which are zip archives too.
//!
//! Every file is inflated up to a limit, and names are only names: nothing is written to a path. Must not believe sizes that
//! the archive states.

mod chunks;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::{self, Cursor, Read as _, Write},
};

use bytes::Bytes;
use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive, ZipArchiveEntryWayfinder};
use weft_wire::{
    archive::{MANIFEST, Manifest},
    limits::{MAX_ARCHIVE_FILES, MAX_MANIFEST_BYTES},
};

pub use chunks::{ChunkWriter, chunks};

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no zip archive, or it is damaged.
    #[error("the zip archive can't be read: {0}")]
    Zip(#[from] rawzip::Error),
    /// A file can't be inflated, or the archive can't be read.
    #[error("the file {name:?} of the archive can't be read: {source}")]
    Damaged {
        /// The file.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// It has too many files.
    #[error("the archive has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// Two files have the same name.
    #[error("two files of the archive have the name {name:?}")]
    TwoFiles {
        /// The name.
        name: String,
    },
    /// A file is packed in a way that is not supported.
    #[error("the file {name:?} of the archive is neither stored nor deflated")]
    Method {
        /// The file.
        name: String,
    },
    /// A file is too large.
    #[error("the file {name:?} of the archive has more than {limit} bytes")]
    TooLarge {
        /// The file.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// A file is missing.
    #[error("the archive has no file {name:?}")]
    Missing {
        /// The file.
        name: String,
    },
    /// The manifest has another form.
    #[error("the manifest of the archive can't be read: {0}")]
    Manifest(serde_json::Error),
}

/// The place of a file.
struct Place {
    at: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
}

/// An archive, and where its files are.
pub struct ArchiveReader<R> {
    archive: ZipArchive<R>,
    files: BTreeMap<String, Place>,
}

impl ArchiveReader<Cursor<Bytes>> {
    /// An archive in memory.
    ///
    /// # Errors
    /// It is no zip archive, or has too many files.
    pub fn of_bytes(bytes: Bytes) -> Result<Self, ArchiveError> {
        Self::over(ZipArchive::from_slice(bytes)?.into_cursor_archive())
    }
}

/// An archive on disk.
pub type ArchiveFile = ArchiveReader<FileReader>;

impl ArchiveFile {
    /// An archive on disk.
    ///
    /// # Errors
    /// It is no zip archive, or has too many files.
    pub fn of_file(file: File) -> Result<Self, ArchiveError> {
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        Self::over(ZipArchive::from_file(file, &mut buffer)?)
    }
}

impl<R: ReaderAt> ArchiveReader<R> {
    fn over(archive: ZipArchive<R>) -> Result<Self, ArchiveError> {
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let mut files = BTreeMap::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry()? {
            if files.len() >= MAX_ARCHIVE_FILES {
                return Err(ArchiveError::TooManyFiles {
                    limit: MAX_ARCHIVE_FILES,
                });
            }
            if entry.is_dir() {
                continue;
            }
            // A name that has no normal form is none that is looked for.
            let Ok(name) = entry.file_path().try_normalize().map(|name| name.as_ref().to_owned()) else {
                continue;
            };
            let place = Place {
                at: entry.wayfinder(),
                method: entry.compression_method(),
            };
            match files.entry(name) {
                Entry::Vacant(free) => drop(free.insert(place)),
                Entry::Occupied(taken) => {
                    let name = taken.key().clone();
                    return Err(ArchiveError::TwoFiles { name });
                }
            }
        }
        Ok(Self { archive, files })
    }

    /// The names of the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Writes a file of at most `limit` bytes. Returns its size.
    ///
    /// # Errors
    /// It is missing, damaged or too large, or `to` fails.
    pub fn copy(&self, name: &str, limit: u64, to: &mut impl Write) -> Result<u64, ArchiveError> {
        let missing = || ArchiveError::Missing { name: name.to_owned() };
        let place = self.files.get(name).ok_or_else(missing)?;
        let entry = self.archive.get_entry(place.at)?;
        let damaged = |source| ArchiveError::Damaged {
            name: name.to_owned(),
            source,
        };
        let most = limit.saturating_add(1);
        let copied = match place.method {
            CompressionMethod::STORE => io::copy(&mut entry.verifying_reader(entry.reader()).take(most), to),
            CompressionMethod::DEFLATE => {
                let inflated = DeflateDecoder::new(entry.reader());
                io::copy(&mut entry.verifying_reader(inflated).take(most), to)
            }
            _ => return Err(ArchiveError::Method { name: name.to_owned() }),
        };
        let copied = copied.map_err(damaged)?;
        if copied > limit {
            return Err(ArchiveError::TooLarge {
                name: name.to_owned(),
                limit,
            });
        }
        Ok(copied)
    }

    /// A file of at most `limit` bytes.
    ///
    /// # Errors
    /// It is missing, damaged or too large.
    pub fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        self.copy(name, u64::try_from(limit).unwrap_or(u64::MAX), &mut bytes)?;
        Ok(bytes)
    }

    /// The manifest of a document's archive.
    ///
    /// # Errors
    /// It is missing, damaged or too large.
    pub fn manifest(&self) -> Result<Manifest, ArchiveError> {
        let manifest = self.read(MANIFEST, MAX_MANIFEST_BYTES)?;
        serde_json::from_slice(&manifest).map_err(ArchiveError::Manifest)
    }
}
