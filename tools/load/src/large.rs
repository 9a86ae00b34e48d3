//! A document with a text of 100 MB and one with a million edits: written, opened, edited, closed, and opened after a
//! restart; the server's memory at the highest point of each, and the time. Must not assert a duration.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use weft_conformance_tests::client::Client;
use weft_crdt::lib0::Writer;

use crate::{
    edit::as_f64,
    growth::{Typing, at_rest, on_disk},
    local::Local,
    progress,
    report::{Figure, percentiles},
    socket,
    target::Target,
    typing::Typist,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Bytes of the large text.
    #[arg(long, default_value_t = 100_000_000)]
    pub bytes: usize,
    /// Edits of the other document: letters, and deletions of four in ten.
    #[arg(long, default_value_t = 1_000_000)]
    pub edits: usize,
    /// Single edits of each while it is open.
    #[arg(long, default_value_t = 100)]
    pub single: usize,
    /// Seconds without an edit until memory is measured: the text of a closed document has left memory by then.
    #[arg(long, default_value_t = 75)]
    pub idle: u64,
    /// Seconds until everything is sealed.
    #[arg(long, default_value_t = 8)]
    pub settle: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            bytes: 300_000,
            edits: 1_000,
            single: 3,
            idle: 0,
            settle: 3,
        }
    }
}

/// Bytes of the text in one update: more than an event holds, and less than a request may have.
const PIECE_BYTES: usize = 4_000_000;
/// Unacknowledged edits at a time.
const WINDOW: usize = 500;

/// A document of the run.
struct Document {
    name: &'static str,
    room: String,
    /// Bytes that are expected at least in the answer to a client that has nothing.
    bytes: usize,
}

/// Measures a Weft server of its own.
///
/// # Errors
/// When the server returns an error, or a part of a text is missing.
pub(crate) async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut local = Local::start(1).await?;
    let alice = local.user(0, "alice").await?;
    let mut figures = Vec::new();
    let empty = on_disk(&local.data(0))?;
    let large = Document {
        name: "large text",
        room: alice.create_document("A large text").await?,
        bytes: options.bytes,
    };
    let many = Document {
        name: "many edits",
        room: alice.create_document("Many edits").await?,
        bytes: options.edits / 5,
    };
    let peak = Peak::begin(&local)?;
    let began = Instant::now();
    write_text(&alice, &large.room, options.bytes).await?;
    figures.push(seconds(large.name, "written", began));
    figures.push(peak.figure(large.name, "while it is written")?);
    let peak = Peak::begin(&local)?;
    let began = Instant::now();
    type_letters(&local, &alice, &many.room, options).await?;
    figures.push(seconds(many.name, "typed", began));
    figures.push(peak.figure(many.name, "while they are typed")?);
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    for document in [&large, &many] {
        figures.extend(open(&local, &alice, document, "", options).await?);
    }
    progress(&format!("closed for {} s", options.idle));
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let closed = Peak::begin(&local)?.before;
    figures.push(Figure::new(
        "Weft",
        "memory after both are closed",
        as_f64(closed) / 1e6,
        "MB",
    ));
    let disk = at_rest(&mut local, options.settle).await?.saturating_sub(empty);
    figures.push(Figure::new("Weft", "both on disk", as_f64(disk) / 1e6, "MB"));
    local.servers.first_mut().context("no server")?.boot().await?;
    for document in [&large, &many] {
        figures.extend(open(&local, &alice, document, " after a restart", options).await?);
    }
    Ok(figures)
}

fn seconds(name: &str, what: &str, began: Instant) -> Figure {
    let took = began.elapsed().as_secs_f64();
    Figure::new("Weft", format!("{name}: {what}"), took, "s")
}

/// The text as updates of one client id, each of which continues the one before.
async fn write_text(client: &Client, room: &str, bytes: usize) -> Result<()> {
    progress(&format!("writing {bytes} bytes"));
    let mut clock = 0;
    while clock < bytes {
        let piece = PIECE_BYTES.min(bytes - clock);
        let mut update = Writer::with_capacity(piece + 32);
        update.var_uint(1);
        update.var_uint(1);
        update.var_uint(1);
        update.var_uint(u64::try_from(clock)?);
        if let Some(before) = clock.checked_sub(1) {
            update.u8(0x84);
            update.var_uint(1);
            update.var_uint(u64::try_from(before)?);
        } else {
            update.u8(4);
            update.var_uint(1);
            update.var_str("body");
        }
        update.var_str(&random_letters(piece));
        update.var_uint(0);
        let answer = client
            .of_document(Method::POST, room, "/updates", &[], update.into_vec())
            .await?;
        ensure!(
            answer.status().is_success(),
            "{}: {}",
            answer.status(),
            answer.text().await?
        );
        clock += piece;
    }
    Ok(())
}

/// Letters that a store can hardly compress.
fn random_letters(count: usize) -> String {
    let mut random = StdRng::seed_from_u64(100);
    (0..count)
        .map(|_| char::from(random.random_range(b' '..=b'~')))
        .collect()
}

/// Letters of one client id in runs of ten, at places of the text that earlier runs made; of each run the last four are
/// deleted again, one by one. Encoded without a CRDT, which would take longer than the server.
async fn type_letters(local: &Local, client: &Client, room: &str, options: &Options) -> Result<()> {
    progress(&format!("typing {} edits", options.edits));
    let target = Target::weft(client.clone(), None, local.server(0)?.pid(), true);
    let mut typing = Typing::open(&target.endpoint(room)?).await?;
    let author = u64::from(rand::random::<u32>().max(1));
    let (mut clock, mut made) = (0_u32, 0);
    while made < options.edits {
        let start = clock;
        for _ in 0..10 {
            let before = if clock > start || clock == 0 {
                clock.checked_sub(1)
            } else {
                // A letter that stays, somewhere in the text.
                Some(rand::random::<u32>() % (clock / 10) * 10)
            };
            typing.send_update(&letter(author, clock, before)).await?;
            clock += 1;
        }
        for back in 1..=4 {
            typing.send_update(&deletion(author, clock - back)).await?;
        }
        made += 14;
        typing.taken(WINDOW).await?;
    }
    typing.taken(0).await
}

fn letter(author: u64, clock: u32, before: Option<u32>) -> Vec<u8> {
    let mut update = Writer::with_capacity(32);
    update.var_uint(1);
    update.var_uint(1);
    update.var_uint(author);
    update.var_uint(u64::from(clock));
    if let Some(before) = before {
        update.u8(0x84);
        update.var_uint(author);
        update.var_uint(u64::from(before));
    } else {
        update.u8(4);
        update.var_uint(1);
        update.var_str("body");
    }
    update.var_str("x");
    update.var_uint(0);
    update.into_vec()
}

fn deletion(author: u64, clock: u32) -> Vec<u8> {
    let mut update = Writer::with_capacity(16);
    update.var_uint(0);
    update.var_uint(1);
    update.var_uint(author);
    update.var_uint(1);
    update.var_uint(u64::from(clock));
    update.var_uint(1);
    update.into_vec()
}

/// Opens a document, edits it, and closes it.
async fn open(
    local: &Local,
    client: &Client,
    document: &Document,
    when: &str,
    options: &Options,
) -> Result<Vec<Figure>> {
    let Document { name, room, bytes } = document;
    progress(&format!("opening the {name}{when}"));
    let target = Target::weft(client.clone(), None, local.server(0)?.pid(), true);
    let endpoint = target.endpoint(room)?;
    let peak = Peak::begin(local)?;
    let began = Instant::now();
    let (sender, receiver, brought) = socket::open(&endpoint).await?;
    let mut figures = vec![seconds(name, &format!("opened{when}"), began)];
    drop((sender, receiver));
    ensure!(brought >= *bytes, "{name}: {brought} bytes came out");
    figures.push(Figure::new(
        "Weft",
        format!("{name}: bytes{when}"),
        as_f64(brought) / 1e6,
        "MB",
    ));
    figures.push(peak.figure(name, &format!("while it is opened{when}"))?);
    let mut typing = Typing::open(&endpoint).await?;
    let peak = Peak::begin(local)?;
    let (mut typist, mut times) = (Typist::new(), Vec::new());
    for _ in 0..options.single {
        let letter = typist.letter();
        let began = Instant::now();
        typing.send_update(&letter).await?;
        typing.taken(0).await?;
        times.push(began.elapsed());
    }
    // They are sealed, and the text is compacted if it has to be.
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    figures.extend(percentiles("Weft", &format!("{name}: edit{when}"), times));
    figures.push(peak.figure(name, &format!("while it is edited{when}"))?);
    Ok(figures)
}

/// The highest memory of the server's process from a moment on.
struct Peak {
    pid: u32,
    /// Bytes at the beginning.
    before: usize,
}

impl Peak {
    fn begin(local: &Local) -> Result<Self> {
        let pid = local.server(0)?.pid().context("no process")?;
        // Resets the high-water mark (proc(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        let before = status(pid, "VmRSS:")?;
        Ok(Self { pid, before })
    }

    fn figure(&self, name: &str, what: &str) -> Result<Figure> {
        let highest = as_f64(status(self.pid, "VmHWM:")?) / 1e6;
        Ok(Figure::new("Weft", format!("{name}: memory {what}"), highest, "MB"))
    }
}

/// Bytes of a line of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Result<usize> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .context("no such line")?;
    let kilobytes: usize = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}
