//! A full disk, a disk whose fsync fails, and a disk with a changed bit, all real: the client gets a clear error, no
//! acknowledged data is lost, nothing more is accepted until a restart, and with a working disk everything works again.
//!
//! The first two need a file system of their own, so they need root; without it they print that they are skipped. Must
//! not mount outside of a temporary folder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say when they can't run"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use weft_conformance_tests::{
    authority::Authority,
    client::{Answer, Client, segment},
    external::needs_own_servers,
    live::{LiveEditor, trust},
    server::Server,
};

/// Nothing is sealed while the disk fails: pending edits must survive as well.
const SLOW_TO_SEAL: &str = "[documents]\nseal_idle = \"50s\"\nseal_max = \"60s\"\n";

/// A mounted file system; dropping it unmounts.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        run(Command::new("mount").args(arguments).arg(at))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazy unmount: the server's process may still be exiting.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A disk that can be filled; fields are dropped in order.
struct Disk {
    _mounts: Vec<Mount>,
    /// Folder of the file that uses the space.
    filler: PathBuf,
}

impl Disk {
    /// A full disk: `write` fails.
    fn full(data: &Path) -> Result<Self> {
        let mount = Mount::new(&["-t", "tmpfs", "-o", "size=48m", "tmpfs"], data)?;
        Ok(Self {
            _mounts: vec![mount],
            filler: data.join("filler"),
        })
    }

    /// A file system on a device without space for what the file system has accepted: `write` succeeds, `fsync` fails.
    fn failing_fsync(below: &Path, data: &Path) -> Result<Self> {
        let lower = Mount::new(&["-t", "tmpfs", "-o", "size=48m", "tmpfs"], below)?;
        let device = below.join("device");
        File::create(&device)?.set_len(96 << 20)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", "^has_journal"])
            .arg(&device))?;
        let device = device.to_str().context("no UTF-8")?;
        let upper = Mount::new(&["-o", "loop", device], data)?;
        Ok(Self {
            _mounts: vec![upper, lower],
            filler: below.join("filler"),
        })
    }

    /// Leaves this many bytes free.
    fn fill(&self, left: u64) -> Result<()> {
        let mut file = File::create(&self.filler)?;
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let length = file.metadata()?.len();
        Ok(file.set_len(length.saturating_sub(left))?)
    }

    fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(&self.filler)?)
    }
}

async fn send(alice: &Client, room: &str, text: &str) -> Result<Answer> {
    let content = json!({"msgtype": "m.text", "body": text});
    alice.try_send(room, "m.room.message", content).await
}

fn is_refused(answer: &Answer) -> bool {
    let words = answer.body["error"].as_str().unwrap_or_default();
    answer.status == 503 && answer.errcode() == "M_UNKNOWN" && words.contains("cannot write to its disk")
}

/// Acknowledged messages and words.
struct Acknowledged {
    messages: Vec<String>,
    words: Vec<String>,
}

/// A server on the disk, and alice, who writes to a document on it.
struct Setup {
    server: Server,
    alice: Client,
    room: String,
    trust: Arc<rustls::ClientConfig>,
}

impl Setup {
    async fn new(folder: &Path) -> Result<Self> {
        let authority = Authority::new(folder)?;
        let trust = trust(&authority)?;
        let server = Server::start(&authority, folder, "server", SLOW_TO_SEAL).await?;
        let alice = Client::register(&authority.http()?, &server.url, "alice").await?;
        let room = alice.create_document("On a bad disk").await?;
        Ok(Self {
            server,
            alice,
            room,
            trust,
        })
    }

    async fn editor(&self, number: u64) -> Result<LiveEditor> {
        let editor = LiveEditor::open(&self.trust, &self.alice, &self.room, number)?;
        editor.synced().await?;
        Ok(editor)
    }

    async fn refused(&self, text: &str) -> Result<()> {
        let answer = send(&self.alice, &self.room, text).await?;
        ensure!(is_refused(&answer), "{} {}", answer.status, answer.body);
        Ok(())
    }

    /// Writes until the disk fails; checks that existing data can still be read.
    async fn write_until_it_breaks(&self, disk: &Disk) -> Result<Acknowledged> {
        let editor = self.editor(1).await?;
        for number in 0..20 {
            editor.type_word(1_000, &format!("<{number}>"));
        }
        editor.saved().await?;
        // Some messages still fit.
        disk.fill(256 * 1024)?;
        let mut messages = Vec::new();
        loop {
            let text = format!("{} {}", messages.len(), "x".repeat(8_000));
            let answer = send(&self.alice, &self.room, &text).await?;
            if answer.status != 200 {
                ensure!(is_refused(&answer), "{} {}", answer.status, answer.body);
                break;
            }
            messages.push(text);
            ensure!(messages.len() < 10_000, "the disk is not full");
            editor.type_word(1_000, &format!("<{}>", 20 + messages.len()));
        }
        let words = editor.acknowledged();
        ensure!(words.len() >= 20);
        let state = format!("/_matrix/client/v3/rooms/{}/state", self.room);
        self.alice.get(&state).await.context("existing state can be read")?;
        let text = self.editor(9).await.context("documents can be opened")?.text();
        for word in &words {
            ensure!(text.contains(word), "{word} is not shown");
        }
        Ok(Acknowledged { messages, words })
    }

    async fn has(&self, acknowledged: &Acknowledged) -> Result<()> {
        let there = self.alice.messages(&self.room).await?;
        // The first page.
        for text in acknowledged.messages.iter().rev().take(80) {
            ensure!(there.contains(text), "an acknowledged message is lost");
        }
        let text = self.editor(2).await?.text();
        for word in &acknowledged.words {
            let count = text.matches(word.as_str()).count();
            ensure!(count == 1, "{word} is there {count} times");
        }
        Ok(())
    }
}

async fn breaks_and_recovers(folder: &Path, disk: &Disk) -> Result<()> {
    let mut setup = Setup::new(folder).await?;
    let acknowledged = setup.write_until_it_breaks(disk).await?;
    setup.refused("again").await?;
    // With space again, writes are still rejected: only reopening the store shows what is on disk.
    disk.empty()?;
    setup.refused("and again").await?;
    let log = setup.server.log();
    let failure = log.lines().find(|line| line.contains("a write to the store failed"));
    eprintln!(
        "{} messages and {} words were acknowledged before the disk broke: {}",
        acknowledged.messages.len(),
        acknowledged.words.len(),
        failure.context("the failure is not in the log")?
    );
    setup.server.terminate().await?;
    disk.fill(0)?;
    let started = setup.server.boot().await;
    let words = started.err().context("it started on a full disk")?.to_string();
    ensure!(words.contains("is full"), "{words}");
    disk.empty()?;
    setup.server.boot().await?;
    setup.has(&acknowledged).await?;
    let editor = setup.editor(3).await?;
    editor.type_word(1_000, "<on>");
    editor.saved().await?;
    ensure!(send(&setup.alice, &setup.room, "on").await?.status == 200);
    Ok(())
}

/// Prints why a disk could not be created.
fn made(disk: Result<Disk>) -> Option<Disk> {
    disk.inspect_err(|error| eprintln!("SKIPPED: no file system of its own: {error:#}"))
        .ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_reported_and_writes_work_again_when_there_is_space() -> Result<()> {
    if needs_own_servers("a_full_disk") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let Some(disk) = made(Disk::full(&folder.path().join("server/data"))) else {
        return Ok(());
    };
    breaks_and_recovers(folder.path(), &disk).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_is_reported_and_writes_are_rejected_until_a_restart() -> Result<()> {
    if needs_own_servers("a_failed_fsync") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let Some(disk) = made(Disk::failing_fsync(
        &folder.path().join("below"),
        &folder.path().join("server/data"),
    )) else {
        return Ok(());
    };
    breaks_and_recovers(folder.path(), &disk).await
}

/// The largest table file of a stopped server.
fn largest_table(folder: &Path) -> Result<PathBuf> {
    let tables = fs::read_dir(folder.join("server/data/store/rocksdb"))?;
    let tables = tables.filter_map(|entry| Some(entry.ok()?.path()));
    tables
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .context("no table")
}

/// Copies a folder recursively.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else if path.is_file() {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Requests each event; returns how many could not be read. No event may be wrong.
async fn unreadable(alice: &Client, room: &str, events: &[(String, String)]) -> Result<usize> {
    let mut unreadable = 0;
    for (id, text) in events {
        let path = format!("/_matrix/client/v3/rooms/{}/event/{}", segment(room), segment(id));
        let answer = alice.request(Method::GET, &path, None).await?;
        match answer.status.as_u16() {
            200 => ensure!(answer.body["content"]["body"] == text.as_str(), "{id} is another event"),
            503 => {
                ensure!(answer.errcode() == "M_UNKNOWN", "{}", answer.body);
                unreadable += 1;
            }
            other => bail!("{other} {}", answer.body),
        }
    }
    Ok(unreadable)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_bit_on_disk_makes_only_its_block_unreadable_with_503() -> Result<()> {
    if needs_own_servers("a_bit_that_the_disk_has_changed") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let mut setup = Setup::new(folder.path()).await?;
    let mut events = Vec::new();
    for number in 0..120 {
        let text = format!("{number} {:x}", rand::random::<u128>()).repeat(40);
        events.push((setup.alice.say(&setup.room, &text).await?, text));
    }
    // At startup the log is written to a table.
    for _ in 0..2 {
        setup.server.terminate().await?;
        setup.server.boot().await?;
    }
    setup.server.terminate().await?;
    let (data, saved) = (folder.path().join("server/data"), folder.path().join("saved"));
    copy_folder(&data, &saved)?;
    let table = largest_table(folder.path())?;
    let whole = fs::read(&table)?;
    let mut noticed = 0;
    for tenth in 1..9 {
        // The same files each time: a start writes tables, and merging them reads the changed bit too.
        fs::remove_dir_all(&data)?;
        copy_folder(&saved, &data)?;
        let mut flipped = whole.clone();
        flipped[whole.len() * tenth / 10] ^= 1;
        fs::write(&table, flipped)?;
        // The block may be needed at startup: then the server doesn't start.
        match setup.server.boot().await {
            Ok(()) => noticed += unreadable(&setup.alice, &setup.room, &events).await?,
            Err(error) => {
                let expected = ["the store", "the storage engine could not read"];
                ensure!(
                    expected.iter().any(|words| error.to_string().contains(words)),
                    "{error}"
                );
            }
        }
        setup.server.kill();
    }
    fs::remove_dir_all(&data)?;
    copy_folder(&saved, &data)?;
    ensure!(noticed > 0, "no changed bit affected an event");
    setup.server.boot().await?;
    ensure!(unreadable(&setup.alice, &setup.room, &events).await? == 0);
    Ok(())
}
