//! The logs that are about to be recovered, judged before RocksDB opens them: whether everything that was acknowledged
//! can be in them, and where a write that was cut off begins. What a crash leaves is cut off, all else is told.
//!
//! Must be called with the store's lock held. It never touches a table; a log it changes only in [`Logs::cut`] and
//! [`Logs::give_up`], and keeps what the latter takes away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::framing::{self, BLOCK, End, HEADER, Log};
use crate::open::COMMIT_KEY;

/// The folder, beside the database, for copies of logs that were given up.
const GIVEN_UP: &str = "given-up";

/// A log that doesn't end as it should.
#[derive(Debug)]
struct Wrong {
    path: PathBuf,
    whole: u64,
}

/// What the logs of a database hold.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    /// The last commit that is whole, and before anything that isn't; None where there is none in the logs.
    pub(crate) last_commit: Option<u64>,
    /// The first log that doesn't end with a whole record.
    wrong: Option<Wrong>,
    /// Whether records follow it.
    damaged: bool,
}

impl Logs {
    /// Reads all logs of a database; none where there is no database.
    pub(crate) fn read(database: &Path) -> io::Result<Self> {
        let mut logs = Self::default();
        for path in paths(database)? {
            let log = framing::read(BufReader::with_capacity(BLOCK, File::open(&path)?))?;
            logs.take_in(path, &log);
        }
        Ok(logs)
    }

    fn take_in(&mut self, path: PathBuf, log: &Log) {
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

    /// What makes it impossible that nothing acknowledged is lost, in words.
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

    /// Cuts off what a crash left of an unfinished record: RocksDB would drop it, or never come to an end with it.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let Some(wrong) = &self.wrong else { return Ok(()) };
        let log = OpenOptions::new().write(true).open(&wrong.path)?;
        log.set_len(wrong.whole)?;
        log.sync_all()
    }

    /// Gives up what begins with the first record that can't be read; a copy of its log is kept beside the database.
    ///
    /// The log then ends with a record that RocksDB is sure to see as wrong, so that it does not go on with later
    /// logs as if nothing was missing.
    pub(crate) fn give_up(&self, directory: &Path) -> io::Result<()> {
        let Some(wrong) = &self.wrong else { return Ok(()) };
        let copies = directory.join(GIVEN_UP);
        fs::create_dir_all(&copies)?;
        if let Some(name) = wrong.path.file_name() {
            fs::copy(&wrong.path, copies.join(name))?;
        }
        let mut log = OpenOptions::new().append(true).open(&wrong.path)?;
        log.set_len(wrong.whole)?;
        log.write_all(&scar(wrong.whole))?;
        log.sync_all()
    }
}

/// A fragment whose checksum is wrong, with the filler before it where the block has no room for it.
fn scar(at: u64) -> Vec<u8> {
    let in_block = usize::try_from(at % BLOCK as u64).unwrap_or(0);
    let filler = (BLOCK - in_block) % BLOCK;
    let mut bytes = vec![0; if filler < HEADER { filler } else { 0 }];
    let wrong = !framing::masked(crc32c::crc32c(&[1]));
    bytes.extend_from_slice(&wrong.to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 1]);
    bytes
}

/// Whether RocksDB's list of its files can be read; where it can't, in words. It is read by the same reader as the logs.
pub(crate) fn damaged_manifest(database: &Path) -> io::Result<Option<String>> {
    let current = match fs::read_to_string(database.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // RocksDB says what is wrong with it.
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

/// The logs in the order in which they were written. They are numbered.
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

/// Each commit ends with its number, so this is how the last bytes of its record look.
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
    fn a_scar_is_never_a_record_and_never_out_of_its_block() {
        for at in [0, HEADER, 100, BLOCK - HEADER, BLOCK - HEADER + 1, BLOCK - 1, BLOCK] {
            let scar = scar(at as u64);
            assert!(
                scar.len() < 2 * HEADER && (at + scar.len() - 1) % BLOCK >= HEADER - 1,
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
            let log = framing::read([bytes, scar].concat().as_slice()).unwrap();
            assert_eq!(
                (log.whole, log.end, log.unreadable),
                (at as u64, End::Torn, true),
                "{at}"
            );
        }
    }
}
