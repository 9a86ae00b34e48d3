//! Thousands of connected editors on hundreds of documents, a few of which type at any time. Must not assert a
//! duration.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    edit::as_f64,
    process, progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint, Received, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of documents.
    #[arg(long, default_value_t = 500)]
    pub documents: usize,
    /// Editors per document.
    #[arg(long, default_value_t = 10)]
    pub editors: usize,
    /// Edits per second in all documents together.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Duration, seconds.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            documents: 5,
            editors: 4,
            rate: 50,
            seconds: 1,
        }
    }
}

/// Interval of keep-alives: servers disconnect a silent client after a minute; stock clients send something every 15 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Number of documents that are opened concurrently.
const AT_ONCE: usize = 16;

type Typed = Arc<Mutex<HashMap<(u64, u32), Instant>>>;
type Times = mpsc::UnboundedSender<Duration>;

/// Signals an editor to type a letter.
type TypeSignal = mpsc::UnboundedSender<()>;

/// Measures one server.
///
/// # Errors
/// When the limit of open files is too low, the server returns an error, or an edit isn't received.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let all = options.documents * options.editors;
    ensure!(
        process::open_files_allowed() > all + 100,
        "{all} sockets need as many open files, here and in the server: run `ulimit -n {}` first",
        all + 2_000
    );
    let before = target.memory()?;
    let cpu = target.cpu()?;
    let typed: Typed = Arc::default();
    let (times, mut arrived) = mpsc::unbounded_channel();
    let (signals, mut editors) = connect(target, options, &typed, &times).await?;
    drop(times);
    let name = &target.name;
    let joined = (target.cpu()? - cpu).as_secs_f64() * 1e3 / as_f64(all);
    let grown = target.memory()?.saturating_sub(before);
    let mut figures = vec![
        Figure::new(name, "server CPU to connect an editor", joined, "ms"),
        Figure::new(name, "memory a connected editor", kilobytes(grown) / as_f64(all), "KB"),
    ];
    progress(&format!(
        "{name}: {all} editors, {} edits a second for {} s",
        options.rate, options.seconds
    ));
    let (began, cpu) = (Instant::now(), target.cpu()?);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let edits = usize::try_from(options.rate * options.seconds)?;
    for edit in 0..edits {
        ticks.tick().await;
        // Each edit goes to another document; each round selects another editor of it.
        let (document, editor) = (edit % options.documents, edit / options.documents % options.editors);
        let signal = signals
            .get(document * options.editors + editor)
            .context("no such editor")?;
        signal.send(())?;
    }
    let expected = edits * (options.editors - 1);
    let mut seen = Vec::with_capacity(expected);
    while seen.len() < expected {
        tokio::select! {
            time = arrived.recv() => seen.push(time.context("all editors have ended")?),
            Some(ended) = editors.join_next() => ended??,
            () = tokio::time::sleep(Duration::from_secs(60)) => anyhow::bail!("{} of {expected} were seen", seen.len()),
        }
    }
    let took = began.elapsed().as_secs_f64();
    let used = (target.cpu()? - cpu).as_secs_f64();
    figures.push(Figure::new(name, "server CPU of one core", used * 100.0 / took, "%"));
    figures.push(Figure::new(
        name,
        "memory of the server",
        kilobytes(target.memory()?) / 1e3,
        "MB",
    ));
    figures.extend(percentiles(name, "edit to seen", seen));
    editors.abort_all();
    Ok(figures)
}

fn kilobytes(bytes: u64) -> f64 {
    as_f64(usize::try_from(bytes).unwrap_or(usize::MAX)) / 1e3
}

async fn connect(
    target: &Target,
    options: &Options,
    typed: &Typed,
    times: &Times,
) -> Result<(Vec<TypeSignal>, JoinSet<Result<()>>)> {
    let mut opening = JoinSet::new();
    let mut documents = Vec::new();
    for number in 0..options.documents {
        if number % 100 == 0 {
            progress(&format!(
                "{}: {} editors connected",
                target.name,
                number * options.editors
            ));
        }
        if opening.len() >= AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            documents.push(opened??);
        }
        let (target, count) = (target.clone(), options.editors);
        opening.spawn(async move { open_all(target.document().await?, count).await });
    }
    while let Some(opened) = opening.join_next().await {
        documents.push(opened??);
    }
    let mut editors = JoinSet::new();
    let mut signals = Vec::new();
    for (sender, receiver) in documents.into_iter().flatten() {
        let typist = Typist::new();
        editors.spawn(listen(receiver, typist.client, Arc::clone(typed), times.clone()));
        let (signal, commands) = mpsc::unbounded_channel();
        editors.spawn(speak(sender, typist, Arc::clone(typed), commands));
        signals.push(signal);
    }
    Ok((signals, editors))
}

async fn open_all(endpoint: Endpoint, count: usize) -> Result<Vec<(Sender, Receiver)>> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let (sender, receiver, _) = socket::open(&endpoint).await?;
        open.push((sender, receiver));
    }
    Ok(open)
}

async fn speak(
    mut sender: Sender,
    mut typist: Typist,
    typed: Typed,
    mut signal: mpsc::UnboundedReceiver<()>,
) -> Result<()> {
    let first = tokio::time::Instant::now() + KEEP_ALIVE.mul_f64(rand::random::<f64>());
    let mut life = tokio::time::interval_at(first, KEEP_ALIVE);
    loop {
        tokio::select! {
            command = signal.recv() => {
                if command.is_none() {
                    return Ok(());
                }
                let key = (typist.client, typist.typed);
                let update = typist.letter();
                typed.lock().insert(key, Instant::now());
                sender.send_update(&update).await?;
            }
            _ = life.tick() => sender.ping().await?,
        }
    }
}

async fn listen(mut receiver: Receiver, me: u64, typed: Typed, times: Times) -> Result<()> {
    loop {
        let Received::Change(ranges) = receiver.next_message().await? else {
            continue;
        };
        let now = Instant::now();
        for (client, (from, end)) in ranges {
            let client = client.get();
            if client == me {
                continue;
            }
            let typed = typed.lock();
            for time in (from..end).filter_map(|clock| typed.get(&(client, clock))) {
                // The receiver is dropped once all edits have arrived.
                let _ = times.send(now - *time);
            }
        }
    }
}
