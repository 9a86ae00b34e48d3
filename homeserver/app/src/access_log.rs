//! The access log: who read which document through the document API, as JSON lines in one file a day.
//!
//! Files and not a table: a read must not cost a commit, and other programs can follow the files. Lines are only appended.
//! A thread of its own writes them; the last second may be lost with the power. Must not hold content, addresses or tokens.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use ruma::{RoomId, UserId};
use serde::{Deserialize, Serialize};
use weft_gateway::documents::{AccessLog, Read};
use weft_room_api::Clock;
use weft_wire::limits::{MAX_ACCESS_LOG_BYTES_PER_DAY, MAX_ACCESS_LOG_QUEUE};

/// Lines are on disk after this time.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) document: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) what: String,
    /// Reads that could not be recorded before this line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) lost: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The directory of the files.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("access-log")
}

/// The log of a running server.
pub(crate) struct FileAccessLog {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl FileAccessLog {
    /// Starts the thread that writes to this directory. `keep_days`: older files are deleted.
    ///
    /// # Errors
    /// The directory or the thread can't be made.
    pub(crate) fn start(folder: PathBuf, keep_days: u64, clock: Arc<dyn Clock>) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let (queue, entries) = sync_channel(MAX_ACCESS_LOG_QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            folder,
            keep_days,
            max_bytes: MAX_ACCESS_LOG_BYTES_PER_DAY,
            day: String::new(),
            file: None,
            bytes: 0,
            lost: Arc::clone(&lost),
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&entries))?;
        Ok(Self { queue, lost, clock })
    }
}

impl AccessLog for FileAccessLog {
    fn note(&self, user: &UserId, document: &RoomId, read: Read) {
        let entry = Entry {
            at: self.clock.now().get().into(),
            user: user.to_string(),
            document: document.to_string(),
            what: read.name().to_owned(),
            lost: 0,
        };
        if self.queue.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread's part.
struct Writer {
    folder: PathBuf,
    keep_days: u64,
    max_bytes: u64,
    /// The day of the open file.
    day: String,
    file: Option<File>,
    bytes: u64,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        let mut synced = Instant::now();
        let mut is_dirty = false;
        loop {
            match entries.recv_timeout(SYNC_EVERY) {
                Ok(entry) => {
                    is_dirty = true;
                    if let Err(error) = self.write(&entry) {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                        self.file = None;
                        tracing::error!(event = "access_log.write_failed", %error, "reads are not recorded");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if is_dirty && synced.elapsed() >= SYNC_EVERY {
                (synced, is_dirty) = (Instant::now(), false);
                // A failure shows at the next write.
                let _ = self.file.as_ref().map(File::sync_data);
            }
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let day = day(entry.at);
        if self.file.is_none() || self.day != day {
            self.open(day, entry.at)?;
        }
        let lost = self.lost.load(Ordering::Relaxed);
        let mut lines = Vec::new();
        if lost > 0 {
            let line = Entry {
                at: entry.at,
                user: String::new(),
                document: String::new(),
                what: String::new(),
                lost,
            };
            add_line(&mut lines, &line)?;
        }
        add_line(&mut lines, entry)?;
        if self.bytes + lines.len() as u64 > self.max_bytes {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no file"))?;
        // One write, so that a line is never mixed with another one.
        file.write_all(&lines)?;
        self.bytes += lines.len() as u64;
        self.lost.fetch_sub(lost, Ordering::Relaxed);
        Ok(())
    }

    fn open(&mut self, day: String, at: u64) -> io::Result<()> {
        let path = self.folder.join(format!("{day}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        self.bytes = file.metadata()?.len();
        (self.day, self.file) = (day, Some(file));
        self.delete_older(at)
    }

    fn delete_older(&self, at: u64) -> io::Result<()> {
        let kept = u64::try_from(DAY.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(self.keep_days);
        let first = self::day(at.saturating_sub(kept));
        for name in days(&self.folder)? {
            if name < first {
                fs::remove_file(self.folder.join(format!("{name}.jsonl")))?;
            }
        }
        Ok(())
    }
}

fn add_line(lines: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, entry)?;
    lines.push(b'\n');
    Ok(())
}

/// A day in UTC, as in the names of the files.
fn day(milliseconds: u64) -> String {
    /// The first millisecond of the year 10000, which has no form in RFC 3339.
    const YEAR_10000: u64 = 253_402_300_800_000;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.min(YEAR_10000 - 1));
    humantime::format_rfc3339_seconds(time)
        .to_string()
        .chars()
        .take(10)
        .collect()
}

/// The days of which there are files, oldest first.
fn days(folder: &Path) -> io::Result<Vec<String>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(day) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) else {
            continue;
        };
        if day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            days.push(day.to_owned());
        }
    }
    days.sort_unstable();
    Ok(days)
}

/// Passes the lines to `show`, oldest first, without holding more than one.
///
/// # Errors
/// A file can't be read, or `show` fails.
pub(crate) fn read(folder: &Path, mut show: impl FnMut(&Entry) -> io::Result<()>) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for day in days(folder)? {
        for line in BufReader::new(File::open(folder.join(format!("{day}.jsonl")))?).lines() {
            // A line that was cut off by a crash is left out.
            if let Ok(entry) = serde_json::from_str(&line?) {
                show(&entry)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;

    fn writer(folder: &Path, max_bytes: u64) -> Writer {
        Writer {
            folder: folder.to_owned(),
            keep_days: 2,
            max_bytes,
            day: String::new(),
            file: None,
            bytes: 0,
            lost: Arc::default(),
        }
    }

    fn entry(at: u64) -> Entry {
        Entry {
            at,
            user: "@alice:alpha.example".to_owned(),
            document: "!room".to_owned(),
            what: "content".to_owned(),
            lost: 0,
        }
    }

    fn all(folder: &Path) -> Vec<Entry> {
        let mut found = Vec::new();
        let note = |entry: &Entry| {
            found.push(entry.clone());
            Ok(())
        };
        read(folder, note).unwrap();
        found
    }

    #[test]
    fn lines_are_appended_and_old_files_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(all(&folder.path().join("absent")), []);
        let day = u64::try_from(DAY.as_millis()).unwrap();
        let written: Vec<Entry> = (0..5).map(|n| entry(START + n * day)).collect();
        for entry in &written {
            // A new writer each time, as after a restart.
            writer(folder.path(), u64::MAX).write(entry).unwrap();
            writer(folder.path(), u64::MAX).write(entry).unwrap();
        }
        let kept: Vec<Entry> = written
            .iter()
            .skip(2)
            .flat_map(|entry| [entry.clone(), entry.clone()])
            .collect();
        assert_eq!(all(folder.path()), kept);
        // A file of somebody else stays.
        fs::write(folder.path().join("notes.jsonl"), "x").unwrap();
        writer(folder.path(), u64::MAX).write(&entry(START + 9 * day)).unwrap();
        assert_eq!(all(folder.path()), [entry(START + 9 * day)]);
        assert!(folder.path().join("notes.jsonl").exists());
    }

    #[test]
    fn a_day_has_a_limit_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path(), 250);
        for _ in 0..10 {
            writer.write(&entry(START)).unwrap();
        }
        let within = all(folder.path()).len() as u64;
        assert!((2..5).contains(&within));
        let next = START + u64::try_from(DAY.as_millis()).unwrap();
        writer.write(&entry(next)).unwrap();
        let lines = all(folder.path());
        let lost: u64 = lines.iter().map(|entry| entry.lost).sum();
        assert_eq!((lost, lines.last()), (10 - within, Some(&entry(next))));
    }

    #[test]
    fn a_line_that_was_cut_off_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        writer(folder.path(), u64::MAX).write(&entry(START)).unwrap();
        let path = folder.path().join(format!("{}.jsonl", day(START)));
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"at\":\n{whole}")).unwrap();
        assert_eq!(all(folder.path()), [entry(START), entry(START)]);
    }
}
