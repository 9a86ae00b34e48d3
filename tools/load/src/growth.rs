//! One document with a very long history: the cost of an edit and of opening the document after a thousand and after a
//! quarter of a million edits, and the final size on disk. Must not assert a duration.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    edit::as_f64,
    history::{self, Author, Patch},
    local::Local,
    progress,
    report::Figure,
    socket::{self, Endpoint, Received, Receiver, Sender},
    target::Target,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of edits at which to measure.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 259_778])]
    pub marks: Vec<usize>,
    /// Edits before each mark that are typed one by one, each after the one before is durable; their cost is measured.
    #[arg(long, default_value_t = 1_000)]
    pub measured: usize,
    /// Number of times the document is opened at each mark.
    #[arg(long, default_value_t = 300)]
    pub openings: usize,
    /// Seconds until the size on disk is measured: everything is sealed by then.
    #[arg(long, default_value_t = 8)]
    pub settle: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            marks: vec![100, 400],
            measured: 20,
            openings: 3,
            settle: 3,
        }
    }
}

/// Unacknowledged edits at a time, between the marks.
const WINDOW: usize = 500;

/// Measures a Weft server.
///
/// # Errors
/// When the server returns an error.
pub async fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut local = Local::start(1).await?;
    let target = local.target(0, "alice", true).await?;
    let empty = on_disk(&local.data(0))?;
    let last = options.marks.iter().max().copied().unwrap_or(0);
    let (patches, real) = history::patches(last)?;
    if !real {
        progress("the paper's history is not available: a synthetic one of the same shape is typed");
    }
    let author = Author::new();
    let endpoint = target.document().await?;
    let mut typing = Typing::open(&endpoint).await?;
    let mut figures = Vec::new();
    let mut done = 0;
    for mark in &options.marks {
        progress(&format!("typing up to {mark} edits"));
        let quick = mark.saturating_sub(options.measured).max(done);
        typing.type_all(&author, slice(&patches, done, quick), WINDOW).await?;
        let cpu = target.cpu()?;
        let single = slice(&patches, quick, *mark);
        let updates: Vec<Vec<u8>> = single.iter().map(|patch| author.make(patch)).collect();
        for update in &updates {
            typing.send_update(update).await?;
            typing.taken(0).await?;
        }
        let used = (target.cpu()? - cpu).as_secs_f64() * 1e6 / as_f64(single.len());
        figures.push(Figure::new(
            "Weft",
            format!("server CPU an edit after {mark}"),
            used,
            "µs",
        ));
        done = *mark;
        figures.extend(opening(&target, &endpoint, options.openings, *mark).await?);
    }
    drop(typing);
    let long = at_rest(&mut local, options.settle).await?.saturating_sub(empty);
    let short = fresh(&author.text(), options).await?;
    figures.push(Figure::new("Weft", "on disk after all edits", as_f64(long) / 1e3, "KB"));
    figures.push(Figure::new(
        "Weft",
        "on disk, a fresh document of the same text",
        as_f64(short) / 1e3,
        "KB",
    ));
    figures.push(Figure::new(
        "Weft",
        "on disk, times a fresh one",
        as_f64(long) / as_f64(short.max(1)),
        "×",
    ));
    Ok(figures)
}

fn slice(patches: &[Patch], from: usize, to: usize) -> &[Patch] {
    let to = to.min(patches.len());
    patches.get(from.min(to)..to).unwrap_or_default()
}

/// Bytes on disk of a new server that has only this text.
async fn fresh(text: &str, options: &Options) -> Result<usize> {
    let mut local = Local::start(1).await?;
    let target = local.target(0, "alice", true).await?;
    let empty = on_disk(&local.data(0))?;
    let author = Author::new();
    let update = author.make(&Patch(0, 0, text.to_owned()));
    let mut typing = Typing::open(&target.document().await?).await?;
    typing.send_update(&update).await?;
    typing.taken(0).await?;
    drop(typing);
    Ok(at_rest(&mut local, options.settle).await?.saturating_sub(empty))
}

/// Bytes on disk after everything is sealed and the store was reopened, which turns its log into tables.
pub(crate) async fn at_rest(local: &mut Local, settle: u64) -> Result<usize> {
    tokio::time::sleep(Duration::from_secs(settle)).await;
    let server = local.servers.first_mut().context("no server")?;
    server.terminate().await?;
    server.boot().await?;
    server.terminate().await?;
    on_disk(&local.data(0))
}

/// Bytes of all files in a folder, recursively.
pub(crate) fn on_disk(folder: &Path) -> Result<usize> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // A file may be deleted meanwhile.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += usize::try_from(about.len())?;
            }
        }
    }
    Ok(bytes)
}

async fn opening(target: &Target, endpoint: &Endpoint, openings: usize, mark: usize) -> Result<Vec<Figure>> {
    let cpu = target.cpu()?;
    let began = Instant::now();
    let mut bytes = 0;
    for _ in 0..openings {
        let (sender, receiver, brought) = socket::open(endpoint).await?;
        bytes = brought;
        drop((sender, receiver));
    }
    let count = as_f64(openings);
    let wall = began.elapsed().as_secs_f64() * 1e3 / count;
    let used = (target.cpu()? - cpu).as_secs_f64() * 1e3 / count;
    Ok(vec![
        Figure::new("Weft", format!("opening after {mark}, server CPU"), used, "ms"),
        Figure::new("Weft", format!("opening after {mark}"), wall, "ms"),
        Figure::new(
            "Weft",
            format!("opening after {mark}, bytes"),
            as_f64(bytes) / 1e3,
            "KB",
        ),
    ])
}

/// An editor that counts its unacknowledged edits.
pub(crate) struct Typing {
    sender: Sender,
    receiver: Receiver,
    waiting: usize,
}

impl Typing {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self> {
        let (sender, receiver, _) = socket::open(endpoint).await?;
        Ok(Self {
            sender,
            receiver,
            waiting: 0,
        })
    }

    pub(crate) async fn send_update(&mut self, update: &[u8]) -> Result<()> {
        self.sender.send_update(update).await?;
        self.waiting += 1;
        Ok(())
    }

    /// Waits until at most `left` edits are unacknowledged.
    pub(crate) async fn taken(&mut self, left: usize) -> Result<()> {
        while self.waiting > left {
            if let Received::Status(taken) = self.receiver.next_message().await? {
                ensure!(taken, "an edit was rejected");
                self.waiting = self.waiting.checked_sub(1).context("an unexpected sync status")?;
            }
        }
        Ok(())
    }

    async fn type_all(&mut self, author: &Author, patches: &[Patch], window: usize) -> Result<()> {
        for patch in patches {
            let update = author.make(patch);
            self.send_update(&update).await?;
            self.taken(window).await?;
        }
        self.taken(0).await
    }
}
