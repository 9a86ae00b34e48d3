//! Thousands of connected editors on hundreds of documents, of whom a few type at any time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    edit::as_f64,
    process, progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint, Heard, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// How much is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Documents.
    #[arg(long, default_value_t = 500)]
    pub documents: usize,
    /// Editors of each.
    #[arg(long, default_value_t = 10)]
    pub editors: usize,
    /// Edits a second in all documents together.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// For so many seconds.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
}

impl Options {
    /// As a test runs it.
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

/// A silent client is given up after a minute; stock ones say something every 15 s.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Documents that are opened at once.
const AT_ONCE: usize = 16;

type Typed = Arc<Mutex<HashMap<(u64, u32), Instant>>>;
type Times = mpsc::UnboundedSender<Duration>;

/// Tells an editor to type a letter.
type Hand = mpsc::UnboundedSender<()>;

/// Measures one server.
///
/// # Errors
/// When too few files may be open, the server refuses something, or an edit isn't seen.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let all = options.documents * options.editors;
    ensure!(
        process::open_files_allowed() > all + 100,
        "{all} sockets need as many open files, here and in the server: say `ulimit -n {}` first",
        all + 2_000
    );
    let before = target.memory()?;
    let cpu = target.cpu()?;
    let typed: Typed = Arc::default();
    let (times, mut arrived) = mpsc::unbounded_channel();
    let (hands, mut editors) = connect(target, options, &typed, &times).await?;
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
        // Another document each time, and each time round another of its editors.
        let (document, editor) = (edit % options.documents, edit / options.documents % options.editors);
        let hand = hands.get(document * options.editors + editor).context("nobody there")?;
        hand.send(())?;
    }
    let expected = edits * (options.editors - 1);
    let mut seen = Vec::with_capacity(expected);
    while seen.len() < expected {
        tokio::select! {
            time = arrived.recv() => seen.push(time.context("the editors are gone")?),
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
) -> Result<(Vec<Hand>, JoinSet<Result<()>>)> {
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
    let mut hands = Vec::new();
    for (mouth, ears) in documents.into_iter().flatten() {
        let typist = Typist::new();
        editors.spawn(listen(ears, typist.client, Arc::clone(typed), times.clone()));
        let (hand, commands) = mpsc::unbounded_channel();
        editors.spawn(speak(mouth, typist, Arc::clone(typed), commands));
        hands.push(hand);
    }
    Ok((hands, editors))
}

async fn open_all(endpoint: Endpoint, count: usize) -> Result<Vec<(Sender, Receiver)>> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let (mouth, ears, _) = socket::open(&endpoint).await?;
        open.push((mouth, ears));
    }
    Ok(open)
}

async fn speak(
    mut mouth: Sender,
    mut typist: Typist,
    typed: Typed,
    mut hand: mpsc::UnboundedReceiver<()>,
) -> Result<()> {
    let first = tokio::time::Instant::now() + SIGN_OF_LIFE.mul_f64(rand::random::<f64>());
    let mut life = tokio::time::interval_at(first, SIGN_OF_LIFE);
    loop {
        tokio::select! {
            command = hand.recv() => {
                if command.is_none() {
                    return Ok(());
                }
                let key = (typist.client, typist.typed);
                let update = typist.letter();
                typed.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Instant::now());
                mouth.say(&update).await?;
            }
            _ = life.tick() => mouth.ping().await?,
        }
    }
}

async fn listen(mut ears: Receiver, me: u64, typed: Typed, times: Times) -> Result<()> {
    loop {
        let Heard::Change(ranges) = ears.hear().await? else {
            continue;
        };
        let now = Instant::now();
        for (client, (from, end)) in ranges {
            let client = client.get();
            if client == me {
                continue;
            }
            let typed = typed.lock().unwrap_or_else(PoisonError::into_inner);
            for time in (from..end).filter_map(|clock| typed.get(&(client, clock))) {
                // Nobody asks any more once all have arrived.
                let _ = times.send(now - *time);
            }
        }
    }
}
