//! Editors type at a human rate: latency until others receive each letter, on one server and across two. Must not
//! assert a duration.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    local::Local,
    progress,
    report::{Figure, percentiles},
    socket::{self, Endpoint, Received, Receiver, Sender},
    target::Target,
    typing::Typist,
};

/// Size of the run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Number of editors with the document open; each value is a separate run.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100])]
    pub editors: Vec<usize>,
    /// Number of letters; each is typed by another editor.
    #[arg(long, default_value_t = 300)]
    pub letters: usize,
    /// Milliseconds between two letters.
    #[arg(long, default_value_t = 20)]
    pub every: u64,
}

impl Options {
    /// The size of a test.
    #[must_use]
    pub fn small() -> Self {
        Self {
            editors: vec![3, 6],
            letters: 20,
            every: 10,
        }
    }
}

/// The time at which each letter was typed.
type Typed = Arc<Mutex<HashMap<(u64, u32), Instant>>>;

/// Measures one server.
///
/// # Errors
/// When the server returns an error or a letter isn't received.
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

/// Measures two Weft servers with half of the editors on each: the writers on one, the readers on the other.
///
/// # Errors
/// When a server returns an error or a letter isn't received.
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
    // People type at most ten letters per second; the writers here are no exception.
    let options = Options {
        letters: options.letters.min(150),
        every: options.every.max(60),
        ..options.clone()
    };
    let times = watch(&vec![here; count], &vec![there; count], &options).await?;
    Ok(percentiles("Weft", "edit to seen on the other server", times))
}

/// The editors of `typing` type in turn. Returns the latency of each letter at each editor of `reading`, or at all
/// others if `reading` is empty.
async fn watch(typing: &[Endpoint], reading: &[Endpoint], options: &Options) -> Result<Vec<Duration>> {
    let typed: Typed = Arc::default();
    let mut listening = JoinSet::new();
    let mut writers = Vec::new();
    let warm = typing.len();
    let all = options.letters + warm;
    for (number, endpoint) in typing.iter().enumerate() {
        let (sender, receiver, _) = socket::open(endpoint).await?;
        let typist = Typist::new();
        let own = (0..all).filter(|letter| letter % typing.len() == number).count();
        listening.spawn(listen(receiver, typist.client, all - own, Arc::clone(&typed)));
        writers.push((typist, sender));
    }
    for endpoint in reading {
        let (mut sender, receiver, _) = socket::open(endpoint).await?;
        sender.show(Typist::new().client).await?;
        let typed = Arc::clone(&typed);
        listening.spawn(async move {
            let times = listen(receiver, 0, all, typed).await;
            drop(sender);
            times
        });
    }
    if !reading.is_empty() {
        // Gives the readers' awareness time to reach the writers' server.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    type_in_turn(&mut writers, &typed, all, Duration::from_millis(options.every)).await?;
    let mut times = Vec::new();
    let mut number = 0;
    while let Some(received) = listening.join_next().await {
        let received = received??;
        number += 1;
        // If the readers are on another server, editors on the writers' server are not measured.
        if reading.is_empty() || !received.0 {
            times.extend(received.1.into_iter().skip(warm));
        }
    }
    anyhow::ensure!(number == typing.len() + reading.len(), "an editor received nothing");
    Ok(times)
}

async fn type_in_turn(writers: &mut [(Typist, Sender)], typed: &Typed, letters: usize, every: Duration) -> Result<()> {
    let mut ticks = tokio::time::interval(every);
    let count = writers.len();
    for letter in 0..letters {
        ticks.tick().await;
        let (typist, sender) = writers.get_mut(letter % count).context("nobody types")?;
        let clock = typist.typed;
        let update = typist.letter();
        let now = Instant::now();
        typed.lock().insert((typist.client, clock), now);
        sender.send_update(&update).await?;
    }
    Ok(())
}

/// Whether this editor also types, and the latency of each received letter, in order of arrival.
async fn listen(mut receiver: Receiver, me: u64, mut missing: usize, typed: Typed) -> Result<(bool, Vec<Duration>)> {
    let mut times = Vec::with_capacity(missing);
    let mut known: HashMap<u64, u32> = HashMap::new();
    while missing > 0 {
        let Received::Change(ranges) = receiver.next_message().await? else {
            continue;
        };
        let now = Instant::now();
        for (client, (from, end)) in ranges {
            let client = client.get();
            let known = known.entry(client).or_default();
            if client == me || end <= *known {
                continue;
            }
            let typed = typed.lock();
            let clocks = from.max(*known)..end;
            missing = missing.saturating_sub(clocks.len());
            times.extend(clocks.filter_map(|clock| Some(now - *typed.get(&(client, clock))?)));
            *known = end;
        }
    }
    Ok((me != 0, times))
}
