//! Many open documents with a real history: memory per document, and the cost of opening one more. Must not assert a
//! duration.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::{
    edit::as_f64,
    history,
    local::Local,
    progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint, Receiver, Sender},
    target::Target,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of open documents.
    #[arg(long, default_value_t = 1_000)]
    pub documents: usize,
    /// Changes in the history of each: 70,000 of the paper's changes make 105 KB in Yjs' encoding.
    #[arg(long, default_value_t = 70_000)]
    pub history: usize,
    /// Number of late joiners, each of which opens one of the documents.
    #[arg(long, default_value_t = 200)]
    pub joiners: usize,
    /// Seconds until memory is measured: pending edits are sealed by then.
    #[arg(long, default_value_t = 8)]
    pub settle: u64,
    /// Seconds without an edit until memory is measured again: the text of an idle document has left memory by then.
    #[arg(long, default_value_t = 75)]
    pub idle: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            documents: 5,
            history: 2_000,
            joiners: 5,
            settle: 0,
            idle: 0,
        }
    }
}

/// Number of documents that are uploaded concurrently.
const AT_ONCE: usize = 8;

/// An open document.
type Opened = (Sender, Receiver);

/// Measures one server.
///
/// # Errors
/// When the server returns an error.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let (endpoints, open) = fill(target, options, &mut figures).await?;
    figures.extend(join_late(target, &endpoints, options.joiners, "").await?);
    drop(open);
    Ok(figures)
}

/// Measures a Weft server, and once more after a restart, when no document is in memory.
///
/// # Errors
/// When the server returns an error.
pub async fn with_restart(options: &Options) -> Result<Vec<Figure>> {
    let mut local = Local::start(1).await?;
    let mut target = local.target(0, "alice", false).await?;
    let mut figures = Vec::new();
    let began = target.memory()?;
    let (endpoints, open) = fill(&target, options, &mut figures).await?;
    figures.extend(join_late(&target, &endpoints, options.joiners, "").await?);
    progress(&format!("{}: {} s without an edit", target.name, options.idle));
    tokio::time::sleep(Duration::from_secs(options.idle)).await;
    let idle = target.memory()?.saturating_sub(began);
    figures.push(memory(&target, idle, endpoints.len(), ", idle"));
    drop(open);
    let server = local.servers.first_mut().context("no server")?;
    server.terminate().await?;
    server.boot().await?;
    target.pid = server.pid();
    let before = target.memory()?;
    let cold = endpoints
        .get(..options.joiners.min(endpoints.len()))
        .unwrap_or_default();
    figures.extend(join_late(&target, cold, options.joiners, " after a restart").await?);
    let mut open = Vec::new();
    for endpoint in &endpoints {
        let (sender, receiver, _) = socket::open(endpoint).await?;
        open.push((sender, receiver));
    }
    let grown = target.memory()?.saturating_sub(before);
    figures.push(memory(&target, grown, endpoints.len(), " after a restart"));
    Ok(figures)
}

fn memory(target: &Target, bytes: u64, documents: usize, when: &str) -> Figure {
    let bytes = bytes / u64::try_from(documents.max(1)).unwrap_or(1);
    let kilobytes = as_f64(usize::try_from(bytes).unwrap_or(0)) / 1e3;
    Figure::new(&target.name, format!("memory an open document{when}"), kilobytes, "KB")
}

/// Creates the documents and keeps them open.
async fn fill(target: &Target, options: &Options, figures: &mut Vec<Figure>) -> Result<(Vec<Endpoint>, Vec<Opened>)> {
    let update = Arc::new(history::document(options.history)?);
    // The fixed cost of the first document is not counted: code, pools, caches.
    upload(target.document().await?, Arc::clone(&update)).await?;
    let (before, cpu) = (target.memory()?, target.cpu()?);
    let (mut endpoints, mut open) = (Vec::new(), Vec::new());
    let mut tasks = JoinSet::new();
    for number in 0..options.documents {
        if tasks.len() >= AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            let (endpoint, opened) = done??;
            endpoints.push(endpoint);
            open.push(opened);
        }
        if number % 250 == 0 {
            progress(&format!("{}: {number} of {} documents", target.name, options.documents));
        }
        let (target, update) = (target.clone(), Arc::clone(&update));
        tasks.spawn(async move { upload(target.document().await?, update).await });
    }
    while let Some(done) = tasks.join_next().await {
        let (endpoint, opened) = done??;
        endpoints.push(endpoint);
        open.push(opened);
    }
    tokio::time::sleep(Duration::from_secs(options.settle)).await;
    let used = (target.cpu()? - cpu).as_secs_f64() * 1e3 / as_f64(options.documents);
    let size = as_f64(update.len()) / 1e3;
    figures.push(Figure::new(&target.name, "the document as Yjs encodes it", size, "KB"));
    figures.push(Figure::new(
        &target.name,
        "server CPU to take a document in",
        used,
        "ms",
    ));
    figures.push(memory(
        target,
        target.memory()?.saturating_sub(before),
        options.documents,
        "",
    ));
    Ok((endpoints, open))
}

async fn upload(endpoint: Endpoint, update: Arc<Vec<u8>>) -> Result<(Endpoint, Opened)> {
    let (mut sender, mut receiver, _) = socket::open(&endpoint).await?;
    sender.upload(&mut receiver, &update).await?;
    Ok((endpoint, (sender, receiver)))
}

/// Opens documents one after another; measures the server's processor time and the latency of each.
async fn join_late(target: &Target, endpoints: &[Endpoint], joiners: usize, when: &str) -> Result<Vec<Figure>> {
    progress(&format!("{}: {joiners} late joiners{when}", target.name));
    let cpu = target.cpu()?;
    let mut times = Vec::new();
    let mut bytes = 0;
    for endpoint in endpoints.iter().cycle().take(joiners) {
        let began = Instant::now();
        let (sender, receiver, brought) = socket::open(endpoint).await?;
        times.push(began.elapsed());
        bytes = brought;
        drop((sender, receiver));
    }
    let used = (target.cpu()? - cpu).as_secs_f64() * 1e3 / as_f64(times.len());
    let name = format!("late joiner{when}");
    let mut figures = vec![
        Figure::new(&target.name, format!("{name}, server CPU"), used, "ms"),
        Figure::new(&target.name, format!("{name}, bytes"), as_f64(bytes) / 1e3, "KB"),
    ];
    figures.extend(percentiles(&target.name, &name, times));
    Ok(figures)
}
