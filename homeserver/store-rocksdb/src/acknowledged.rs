//! The number of the last acknowledged commit, in a small file next to the database, with a checksum of its own.
//!
//! A database that recovers to a point in time can't tell which point it should have reached: a truncated log ends like
//! one that was never longer. So every commit carries a number in the database, and after its fsync the number is
//! written here, without an fsync of its own. The number here is therefore never too high: if the database has a lower
//! one, acknowledged commits are lost. After a power loss the file may be up to half a minute old, and a loss within
//! that time is not detected. Must not be written before the fsync of the commit.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const NAME: &str = "ACKNOWLEDGED";
const MAGIC: &[u8; 8] = b"weft-ack";
const RUNNING: u8 = 0;
const CLOSED: u8 = 1;
const LENGTH: usize = 21;

/// The contents of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last acknowledged commit; 0 if none is recorded.
    pub(crate) commit: u64,
    /// Whether the database was closed cleanly.
    pub(crate) closed: bool,
    /// The file has contents that were never written to it.
    pub(crate) damaged: bool,
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    file: File,
}

impl Acknowledged {
    /// Opens the file (created if it does not exist) and returns its contents.
    pub(crate) fn open(directory: &Path) -> io::Result<(Self, Found)> {
        let path = directory.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(64).read_to_end(&mut bytes)?;
        let found = parse(&bytes).unwrap_or_else(|| Found {
            damaged: !bytes.is_empty(),
            ..Found::default()
        });
        Ok((Self { file }, found))
    }

    /// Locks the store for this engine until [`Acknowledged::unlock`] is called or the file is closed.
    pub(crate) fn lock(&self) -> Result<(), TryLockError> {
        self.file.try_lock()
    }

    /// Unlocks the store.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// Writes the number of a commit whose fsync has completed.
    pub(crate) fn write(&mut self, commit: u64) -> io::Result<()> {
        self.put(commit, RUNNING)
    }

    /// Writes the last number and the mark of a clean close, durably.
    pub(crate) fn close(&mut self, commit: u64) -> io::Result<()> {
        self.put(commit, CLOSED)?;
        self.file.sync_data()
    }

    fn put(&mut self, commit: u64, state: u8) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&commit.to_be_bytes());
        bytes.push(state);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Option<Found> {
    let (bytes, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(bytes) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let rest = bytes.strip_prefix(MAGIC)?;
    let (commit, state) = rest.split_first_chunk::<8>()?;
    Some(Found {
        commit: u64::from_be_bytes(*commit),
        closed: *state.first()? == CLOSED,
        damaged: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_number_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, found) = Acknowledged::open(directory.path()).unwrap();
        assert_eq!(found, Found::default());
        file.write(7).unwrap();
        let (mut file, found) = Acknowledged::open(directory.path()).unwrap();
        assert_eq!(
            found,
            Found {
                commit: 7,
                closed: false,
                damaged: false,
            }
        );
        file.close(8).unwrap();
        let (_, found) = Acknowledged::open(directory.path()).unwrap();
        assert_eq!(
            found,
            Found {
                commit: 8,
                closed: true,
                damaged: false,
            }
        );
    }

    #[test]
    fn any_flipped_bit_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        Acknowledged::open(directory.path()).unwrap().0.write(7).unwrap();
        let path = directory.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).unwrap();
            let (_, found) = Acknowledged::open(directory.path()).unwrap();
            assert!(found.damaged && found.commit == 0, "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn a_damaged_file_has_no_number() {
        for bytes in [
            &b""[..],
            b"weft-ack",
            b"weft-ack\0\0\0\0\0\0\0\x09",
            b"something else entirely",
        ] {
            assert_eq!(parse(bytes), None);
        }
    }
}
