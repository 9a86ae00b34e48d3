//! A disk without room, a disk whose fsync fails, and one that has changed a bit, all real: the client is told with a clear
//! error, nothing that was acknowledged is lost, nothing more is taken until a restart, and with a whole disk all goes on.
//!
//! The first two need a file system of their own, so they need root; without it they say so and test nothing.
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
    given::cannot_be_put_to_given_servers,
    live::{LiveEditor, trust},
    server::Server,
};

/// Nothing is sealed while the disk breaks: what is pending must outlive it as well.
const SLOW_TO_SEAL: &str = "[documents]\nseal_idle = \"50s\"\nseal_max = \"60s\"\n";

/// A mounted file system, until dropped.
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
        // Lazily: the server's process may be ending still.
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

/// A disk that can run full; fields are dropped in order.
struct Disk {
    _mounts: Vec<Mount>,
    /// Where room is taken away.
    filler: PathBuf,
}

impl Disk {
    /// What is written finds no room: `write` fails.
    fn full(data: &Path) -> Result<Self> {
        let mount = Mount::new(&["-t", "tmpfs", "-o", "size=48m", "tmpfs"], data)?;
        Ok(Self {
            _mounts: vec![mount],
            filler: data.join("filler"),
        })
    }

    /// A file system on a device that finds no room for what the file system has taken: `write` succeeds, `fsync` fails.
    fn lying(below: &Path, data: &Path) -> Result<Self> {
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

    /// Leaves so many bytes.
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
    answer.status == 503 && answer.errcode() == "M_UNKNOWN" && words.contains("can't write to its disk")
}

/// What was acknowledged.
struct Acknowledged {
    messages: Vec<String>,
    words: Vec<String>,
}

/// A server on the disk, and alice, who writes into a document on it.
struct Desk {
    server: Server,
    alice: Client,
    room: String,
    trust: Arc<rustls::ClientConfig>,
}

impl Desk {
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

    /// Writes until the disk fails; what is there can be read then.
    async fn write_until_it_breaks(&self, disk: &Disk) -> Result<Acknowledged> {
        let editor = self.editor(1).await?;
        for number in 0..20 {
            editor.type_word(1_000, &format!("<{number}>"));
        }
        editor.saved().await?;
        // Some messages find their place.
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
        self.alice.get(&state).await.context("what is there can be read")?;
        let text = self.editor(9).await.context("and documents be opened")?.text();
        for word in &words {
            ensure!(text.contains(word), "{word} is not shown");
        }
        Ok(Acknowledged { messages, words })
    }

    async fn has(&self, acknowledged: &Acknowledged) -> Result<()> {
        let there = self.alice.messages(&self.room).await?;
        // One page of them.
        for text in acknowledged.messages.iter().rev().take(80) {
            ensure!(there.contains(text), "a message that was acknowledged is lost");
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
    let mut desk = Desk::new(folder).await?;
    let acknowledged = desk.write_until_it_breaks(disk).await?;
    desk.refused("again").await?;
    // With room again, nothing is taken either: what is on disk is known only to who opens the store anew.
    disk.empty()?;
    desk.refused("and again").await?;
    let log = desk.server.log();
    let failure = log.lines().find(|line| line.contains("a write to the store failed"));
    eprintln!(
        "{} messages and {} words were acknowledged before the disk broke: {}",
        acknowledged.messages.len(),
        acknowledged.words.len(),
        failure.context("the log says it")?
    );
    desk.server.terminate().await?;
    disk.fill(0)?;
    let started = desk.server.boot().await;
    let words = started.err().context("it has started on a full disk")?.to_string();
    ensure!(words.contains("is full"), "{words}");
    disk.empty()?;
    desk.server.boot().await?;
    desk.has(&acknowledged).await?;
    let editor = desk.editor(3).await?;
    editor.type_word(1_000, "<on>");
    editor.saved().await?;
    ensure!(send(&desk.alice, &desk.room, "on").await?.status == 200);
    Ok(())
}

/// Whether a disk could be made; says why not.
fn made(disk: Result<Disk>) -> Option<Disk> {
    disk.inspect_err(|error| eprintln!("SKIPPED: no file system of its own: {error:#}"))
        .ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_all_goes_on_when_there_is_room_again() -> Result<()> {
    if cannot_be_put_to_given_servers("a_full_disk") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let Some(disk) = made(Disk::full(&folder.path().join("server/data"))) else {
        return Ok(());
    };
    breaks_and_recovers(folder.path(), &disk).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fsync_is_told_and_nothing_is_taken_until_a_restart() -> Result<()> {
    if cannot_be_put_to_given_servers("a_failed_fsync") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let Some(disk) = made(Disk::lying(
        &folder.path().join("below"),
        &folder.path().join("server/data"),
    )) else {
        return Ok(());
    };
    breaks_and_recovers(folder.path(), &disk).await
}

/// The largest table of a server that has stopped.
fn largest_table(folder: &Path) -> Result<PathBuf> {
    let tables = fs::read_dir(folder.join("server/data/store/rocksdb"))?;
    let tables = tables.filter_map(|entry| Some(entry.ok()?.path()));
    tables
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .context("no table")
}

/// Copies a folder of folders and files.
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

/// Asks for each event; gives how many could not be read. None may be answered wrongly.
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
async fn a_bit_that_the_disk_has_changed_is_503_for_what_is_in_its_block_and_nothing_else_is_touched() -> Result<()> {
    if cannot_be_put_to_given_servers("a_bit_that_the_disk_has_changed") {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let mut desk = Desk::new(folder.path()).await?;
    let mut events = Vec::new();
    for number in 0..120 {
        let text = format!("{number} {:x}", rand::random::<u128>()).repeat(40);
        events.push((desk.alice.say(&desk.room, &text).await?, text));
    }
    // What a start finds in the log it writes into a table.
    for _ in 0..2 {
        desk.server.terminate().await?;
        desk.server.boot().await?;
    }
    desk.server.terminate().await?;
    let (data, saved) = (folder.path().join("server/data"), folder.path().join("saved"));
    copy_folder(&data, &saved)?;
    let table = largest_table(folder.path())?;
    let whole = fs::read(&table)?;
    let mut noticed = 0;
    for tenth in 1..9 {
        // From the same files each time: a start writes tables, and merging them reads the changed bit too.
        fs::remove_dir_all(&data)?;
        copy_folder(&saved, &data)?;
        let mut flipped = whole.clone();
        flipped[whole.len() * tenth / 10] ^= 1;
        fs::write(&table, flipped)?;
        // What is needed for a start may be in that block: then there is none.
        match desk.server.boot().await {
            Ok(()) => noticed += unreadable(&desk.alice, &desk.room, &events).await?,
            Err(error) => {
                let told = ["the store", "the storage engine could not read"];
                ensure!(told.iter().any(|words| error.to_string().contains(words)), "{error}");
            }
        }
        desk.server.kill();
    }
    fs::remove_dir_all(&data)?;
    copy_folder(&saved, &data)?;
    ensure!(noticed > 0, "no changed bit was in the block of an event");
    desk.server.boot().await?;
    ensure!(unreadable(&desk.alice, &desk.room, &events).await? == 0);
    Ok(())
}
