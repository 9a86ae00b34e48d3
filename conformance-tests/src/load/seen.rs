//! One types as people do, others watch: how long until they see it. On one server, and across two.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{
    local::Local,
    progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint, Heard, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// How much is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// People with the document open; each number is a run of its own.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100])]
    pub editors: Vec<usize>,
    /// Letters that are typed, each by another of them.
    #[arg(long, default_value_t = 300)]
    pub letters: usize,
    /// Milliseconds between two letters.
    #[arg(long, default_value_t = 20)]
    pub every: u64,
}

impl Options {
    /// As a test runs it.
    #[must_use]
    pub fn small() -> Self {
        Self {
            editors: vec![3, 6],
            letters: 20,
            every: 10,
        }
    }
}

/// When each letter was typed.
type Typed = Arc<Mutex<HashMap<(u64, u32), Instant>>>;

/// Measures one server.
///
/// # Errors
/// When the server refuses something or a letter isn't seen.
pub async fn measure(target: &Target, options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in &options.editors {
        progress(&format!("{}: {count} editors", target.name));
        let endpoint = target.document().await?;
        let endpoints = vec![endpoint; *count];
        let cpu = target.cpu()?;
        let times = watch(&endpoints, &[], options).await?;
        let used = (target.cpu()? - cpu).as_secs_f64();
        figures.extend(percentiles(
            &target.name,
            &format!("edit to seen, {count} editors"),
            times,
        ));
        let name = format!(
            "server CPU of {} letters and the joins, {count} editors",
            options.letters
        );
        figures.push(Figure::new(&target.name, name, used * 1e3, "ms"));
    }
    Ok(figures)
}

/// Measures two servers of ours, with half of the editors on each: the writers on one, the readers on the other.
///
/// # Errors
/// When something is refused or a letter isn't seen.
pub async fn across(options: &Options) -> Result<Vec<Figure>> {
    let local = Local::start(2).await?;
    let (alice, bob) = (local.user(0, "alice").await?, local.user(1, "bob").await?);
    let document = alice.create_document("Across").await?;
    alice.give_role(&document, &bob.user, "editor").await?;
    bob.accept_invitation(&document).await?;
    let here = Target::weft(alice, None, None, false).endpoint(&document)?;
    let there = Target::weft(bob, None, None, false).endpoint(&document)?;
    let count = options.editors.first().copied().unwrap_or(2).div_ceil(2);
    progress(&format!("two servers: {count} editors on each"));
    // People type ten letters a second at most, and those who are looked at from elsewhere are no exception.
    let options = Options {
        letters: options.letters.min(150),
        every: options.every.max(60),
        ..options.clone()
    };
    let times = watch(&vec![here; count], &vec![there; count], &options).await?;
    Ok(percentiles("Weft", "edit to seen on the other server", times))
}

/// Types through `typing` in turn; gives how long each letter took to each of `reading`, or to all others where there are none.
async fn watch(typing: &[Endpoint], reading: &[Endpoint], options: &Options) -> Result<Vec<Duration>> {
    let typed: Typed = Arc::default();
    let mut listening = JoinSet::new();
    let mut writers = Vec::new();
    let warm = typing.len();
    let all = options.letters + warm;
    for (number, endpoint) in typing.iter().enumerate() {
        let (mouth, ears, _) = socket::open(endpoint).await?;
        let typist = Typist::new();
        let own = (0..all).filter(|letter| letter % typing.len() == number).count();
        listening.spawn(listen(ears, typist.client, all - own, Arc::clone(&typed)));
        writers.push((typist, mouth));
    }
    for endpoint in reading {
        let (mut mouth, ears, _) = socket::open(endpoint).await?;
        mouth.show(Typist::new().client).await?;
        let typed = Arc::clone(&typed);
        listening.spawn(async move {
            let times = listen(ears, 0, all, typed).await;
            drop(mouth);
            times
        });
    }
    if !reading.is_empty() {
        // Until the other server has told that somebody looks.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    type_in_turn(&mut writers, &typed, all, Duration::from_millis(options.every)).await?;
    let mut times = Vec::new();
    let mut number = 0;
    while let Some(heard) = listening.join_next().await {
        let heard = heard??;
        number += 1;
        // Where others read on another server, those beside the writers are not what is asked for.
        if reading.is_empty() || !heard.0 {
            times.extend(heard.1.into_iter().skip(warm));
        }
    }
    anyhow::ensure!(number == typing.len() + reading.len(), "somebody heard nothing");
    Ok(times)
}

async fn type_in_turn(writers: &mut [(Typist, Sender)], typed: &Typed, letters: usize, every: Duration) -> Result<()> {
    let mut ticks = tokio::time::interval(every);
    let count = writers.len();
    for letter in 0..letters {
        ticks.tick().await;
        let (typist, mouth) = writers.get_mut(letter % count).context("nobody types")?;
        let clock = typist.typed;
        let update = typist.letter();
        let now = Instant::now();
        typed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((typist.client, clock), now);
        mouth.say(&update).await?;
    }
    Ok(())
}

/// Whether this one types too, and how long each letter of others took, in the order in which they were heard.
async fn listen(mut ears: Receiver, me: u64, mut missing: usize, typed: Typed) -> Result<(bool, Vec<Duration>)> {
    let mut times = Vec::with_capacity(missing);
    let mut known: HashMap<u64, u32> = HashMap::new();
    while missing > 0 {
        let Heard::Change(ranges) = ears.hear().await? else {
            continue;
        };
        let now = Instant::now();
        for (client, (from, end)) in ranges {
            let client = client.get();
            let known = known.entry(client).or_default();
            if client == me || end <= *known {
                continue;
            }
            let typed = typed.lock().unwrap_or_else(PoisonError::into_inner);
            let clocks = from.max(*known)..end;
            missing = missing.saturating_sub(clocks.len());
            times.extend(clocks.filter_map(|clock| Some(now - *typed.get(&(client, clock))?)));
            *known = end;
        }
    }
    Ok((me != 0, times))
}
