//! The logs to be recovered, checked before RocksDB opens them: whether they can contain every acknowledged commit, and
//! where a truncated write begins. The remains of a crash are cut off; any other defect is reported.
//!
//! Must be called with the store's lock held. Must not touch a table; it changes a log only in [`Logs::cut`] and
//! [`Logs::drop_unreadable`], and the latter keeps a copy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::framing::{self, BLOCK, End, HEADER, Log};
use crate::open::COMMIT_KEY;

/// The folder, next to the database, for copies of dropped logs.
const GIVEN_UP: &str = "given-up";

/// A log that does not end as it should.
#[derive(Debug)]
struct Wrong {
    path: PathBuf,
    whole: u64,
}

/// The contents of a database's logs.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    /// The last complete commit before the first defect; `None` if there is none in the logs.
    pub(crate) last_commit: Option<u64>,
    /// The first log that doesn't end with a complete record.
    wrong: Option<Wrong>,
    /// Whether records follow the defect.
    damaged: bool,
}

impl Logs {
    /// Reads all logs of a database; none if there is no database.
    pub(crate) fn read(database: &Path) -> io::Result<Self> {
        let mut logs = Self::default();
        for path in paths(database)? {
            let log = framing::read(BufReader::with_capacity(BLOCK, File::open(&path)?))?;
            logs.add(path, &log);
        }
        Ok(logs)
    }

    fn add(&mut self, path: PathBuf, log: &Log) {
        if self.wrong.is_some() {
            self.damaged |= log.records > 0 || log.end == End::Damaged;
            return;
        }
        self.last_commit = commit_number(&log.tail).or(self.last_commit);
        if log.end != End::Whole {
            self.damaged = log.end == End::Damaged;
            self.wrong = Some(Wrong { path, whole: log.whole });
        }
    }

    /// The reason, in words, why an acknowledged commit is certainly lost; `None` if none is.
    pub(crate) fn loss(&self, acknowledged: u64) -> Option<String> {
        if let Some(wrong) = self.wrong.as_ref().filter(|_| self.damaged) {
            return Some(format!(
                "the log {} can't be read at byte {}, and commits follow there",
                wrong.path.display(),
                wrong.whole
            ));
        }
        let last = self.last_commit.filter(|last| *last < acknowledged)?;
        Some(ends_early(last, acknowledged))
    }

    /// Cuts off an unfinished record that a crash left: RocksDB would drop it, or never finish reading it.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let Some(wrong) = &self.wrong else { return Ok(()) };
        let log = OpenOptions::new().write(true).open(&wrong.path)?;
        log.set_len(wrong.whole)?;
        log.sync_all()
    }

    /// Drops everything from the first unreadable record on, and keeps a copy of its log next to the database.
    ///
    /// The log then ends with a record that RocksDB certainly recognises as invalid, so that it does not continue with
    /// later logs as if nothing was missing.
    pub(crate) fn drop_unreadable(&self, directory: &Path) -> io::Result<()> {
        let Some(wrong) = &self.wrong else { return Ok(()) };
        let copies = directory.join(GIVEN_UP);
        fs::create_dir_all(&copies)?;
        if let Some(name) = wrong.path.file_name() {
            fs::copy(&wrong.path, copies.join(name))?;
        }
        let mut log = OpenOptions::new().append(true).open(&wrong.path)?;
        log.set_len(wrong.whole)?;
        log.write_all(&invalid_fragment(wrong.whole))?;
        log.sync_all()
    }
}

/// A fragment with a wrong checksum, preceded by filler if the block has no room for it.
fn invalid_fragment(at: u64) -> Vec<u8> {
    let in_block = usize::try_from(at % BLOCK as u64).unwrap_or(0);
    let filler = (BLOCK - in_block) % BLOCK;
    let mut bytes = vec![0; if filler < HEADER { filler } else { 0 }];
    let wrong = !framing::masked(crc32c::crc32c(&[1]));
    bytes.extend_from_slice(&wrong.to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 1]);
    bytes
}

/// What is unreadable in RocksDB's manifest, in words; `None` if it can be read. It has the framing of the logs.
pub(crate) fn damaged_manifest(database: &Path) -> io::Result<Option<String>> {
    let current = match fs::read_to_string(database.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // RocksDB reports what is wrong with it.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        other => other?,
    };
    let path = database.join(current.trim_end());
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let log = framing::read(BufReader::with_capacity(BLOCK, file))?;
    let damaged = log.unreadable || log.end == End::Damaged;
    Ok(damaged.then(|| format!("Corruption: {} can't be read at byte {}", path.display(), log.whole)))
}

pub(crate) fn ends_early(last: u64, acknowledged: u64) -> String {
    format!("it ends with commit {last}, and commit {acknowledged} was acknowledged")
}

/// The logs in the order in which they were written; they are numbered.
fn paths(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs: Vec<(u64, PathBuf)> = Vec::new();
    let entries = match fs::read_dir(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            logs.push((number, path));
        }
    }
    logs.sort_unstable();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// Each commit ends with its number, which is therefore in the last bytes of its record.
fn commit_number(tail: &[u8]) -> Option<u64> {
    let (rest, number) = tail.split_last_chunk::<8>()?;
    let key = rest.strip_suffix(&[8])?;
    let is_it = key.strip_suffix(COMMIT_KEY)?.last() == Some(&6);
    is_it.then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_commit_is_at_the_end_of_its_record() {
        assert_eq!(commit_number(b"\x06commit\x08\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(commit_number(b"\x06commix\x08\0\0\0\0\0\0\x01\x02"), None);
        assert_eq!(commit_number(b"commit\x08\0\0\0\0\0\0\x01\x02"), None);
        assert_eq!(commit_number(b""), None);
    }

    #[test]
    fn an_invalid_fragment_is_never_a_record_and_never_leaves_its_block() {
        for at in [0, HEADER, 100, BLOCK - HEADER, BLOCK - HEADER + 1, BLOCK - 1, BLOCK] {
            let invalid_fragment = invalid_fragment(at as u64);
            assert!(
                invalid_fragment.len() < 2 * HEADER && (at + invalid_fragment.len() - 1) % BLOCK >= HEADER - 1,
                "{at}"
            );
            let mut bytes = Vec::new();
            if let Some(length) = at.checked_sub(HEADER) {
                let payload = vec![0; length];
                let checksum = framing::masked(crc32c::crc32c_append(crc32c::crc32c(&[1]), &payload));
                bytes.extend_from_slice(&checksum.to_le_bytes());
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
                bytes.push(1);
                bytes.extend(payload);
            }
            let log = framing::read([bytes, invalid_fragment].concat().as_slice()).unwrap();
            assert_eq!(
                (log.whole, log.end, log.unreadable),
                (at as u64, End::Torn, true),
                "{at}"
            );
        }
    }
}
